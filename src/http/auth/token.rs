//! A token, and its line in a file.

use std::str::FromStr;
use std::sync::Arc;

use super::hash::{PREFIX, TokenHash};
use super::pools::{Pools, shown};
use super::roles::Role;
use crate::http::route::Need;
use crate::http::wire::Problem;

/// How a line ends that says all that it can.
const END_FORM: &str = "openai,anthropic-*";

/// What a file says of a token.
pub(in crate::http) struct Token {
    pub(in crate::http) name: Arc<str>,
    role: Role,
    pools: Pools,
    pub(super) hash: TokenHash,
}

impl Token {
    /// Checks that the token allows what takes `need`, of `pool` or of no single one. O(p) for p patterns of
    /// pools.
    ///
    /// # Errors
    ///
    /// [`Problem::Forbidden`] if its role is not enough, [`Problem::ForbiddenPool`] if it is not for the pool.
    pub(super) fn check(&self, need: Need, pool: Option<&str>) -> Result<(), Problem> {
        if !self.role.allows(need) {
            return Err(Problem::Forbidden { role: Role::least_for(need).name() });
        }
        if !self.pools.include(pool) {
            return Err(Problem::ForbiddenPool { pool: pool.map(str::to_owned) });
        }
        Ok(())
    }
}

/// Checks the name of a token. O(length).
///
/// # Errors
///
/// A message that describes the right form.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_usual = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=64).contains(&name.len()) && name.chars().all(is_usual) {
        return Ok(());
    }
    Err("a name has 1 to 64 letters, digits, dots, hyphens or underscores, such as worker-1"
        .to_owned())
}

impl FromStr for Token {
    type Err = String;

    /// Reads a line: the name, the role and the SHA-256 of a token, and perhaps its pools.
    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<_> = line.split_whitespace().collect();
        let [name, role, hash, more @ ..] = &words[..] else {
            return Err("a name, a role and a SHA-256 are expected, such as the line that `token new` prints"
                .to_owned());
        };
        check_name(name)?;
        let role = role.parse().map_err(|what| format!("the role {what}"))?;
        // A message about it would have it in the log.
        if hash.starts_with(PREFIX) || more.iter().any(|word| is_secret(word)) {
            return Err("this is the token itself; use its SHA-256, which `token new` prints on its second line"
                .to_owned());
        }
        let hash = hash.parse()?;
        let mut pools = None;
        for word in more {
            if word.contains('=') {
                let word = shown(word);
                return Err(format!("{word} is unknown; what may follow is as in {END_FORM}"));
            }
            if pools.is_some() {
                return Err(format!(
                    "{} is not expected: write all pools in one word without spaces, as in {END_FORM}",
                    shown(word)
                ));
            }
            pools = Some(word.parse()?);
        }
        let pools = pools.unwrap_or_default();
        Ok(Self { name: (*name).into(), role, pools, hash })
    }
}

/// Whether a word is a token, or a part of one. The names of pools have no capital letters.
fn is_secret(word: &str) -> bool {
    word.starts_with(PREFIX) && word.contains(|c: char| c.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_line_may_end_with_pools() {
        for (end, is_for_openai, is_for_all) in [
            ("", true, true),
            ("*", true, true),
            ("openai", true, false),
            ("a,openai*", true, false),
            ("a", false, false),
        ] {
            let token: Token = format!("worker-7 client {HASH} {end}").parse().unwrap();
            assert_eq!((&*token.name, token.role), ("worker-7", Role::Client), "{end}");
            assert_eq!(token.pools.include(Some("openai")), is_for_openai, "{end}");
            assert_eq!(token.pools.include(None), is_for_all, "{end}");
        }
    }

    #[test]
    fn another_end_is_refused() {
        let secret = "tok_09HE0AMy2lQt3J3umnCBRjcjZY4d3oVaL3PWtl9NHjM";
        let long = "A".repeat(100_000);
        for (role, end, why) in [
            ("client", "OpenAI", "\"OpenAI\" cannot be the name of a pool"),
            ("client", "openai, anthropic", "a pool is missing before or after a comma"),
            ("client", "openai anthropic-*", "\"anthropic-*\" is not expected"),
            ("client", "a max=10", "\"max=10\" is unknown"),
            ("client", "a,b=c", "\"a,b=c\" is unknown"),
            ("client", secret, "this is the token itself"),
            ("client", &format!("a {secret}"), "this is the token itself"),
            ("client", &secret[..30], "this is the token itself"),
            ("client", &long, "\"AAA"),
            ("client", &format!("a {long}"), "\"AAA"),
            ("client", &format!("{long}=1"), "\"AAA"),
        ] {
            let line = format!("worker-7 {role} {HASH} {end}");
            let error = line.parse::<Token>().err().unwrap();
            assert!(error.starts_with(why), "{end}: {error}");
            assert!(error.len() < 400, "{error}");
        }
    }
}
