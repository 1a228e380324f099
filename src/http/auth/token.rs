//! A token, and its line in a file.

use std::str::FromStr;
use std::sync::Arc;

use super::hash::{PREFIX, TokenHash};
use super::pools::{Pools, shown};
use super::quota::parse_max_held;
use super::roles::Role;
use crate::http::route::Need;
use crate::http::wire::Problem;
use crate::key::{Holder, Quota};

/// The word of a line that begins the quota.
const MAX_HELD: &str = "max-held";
/// How a line ends that says all that it can.
const END_FORM: &str = "openai,anthropic-* max-held=10";

/// What a file says of a token.
pub(in crate::http) struct Token {
    pub(in crate::http) name: Arc<str>,
    /// How many keys its clients may have leased at once. Each reload of the file has the same one for a name.
    pub(super) quota: Option<Arc<Quota>>,
    /// Who holds leases of clients that do not say another name.
    pub(in crate::http) holder: Holder,
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

/// Checks that tokens of this role may have a quota. O(1).
///
/// # Errors
///
/// A message that says for which role a quota is.
pub fn check_quota(role: Role) -> Result<(), String> {
    if role == Role::Client {
        return Ok(());
    }
    Err(format!(
        "{MAX_HELD} is for the role client only; leave it out for the role {}",
        role.name()
    ))
}

impl FromStr for Token {
    type Err = String;

    /// Reads a line: the name, the role and the SHA-256 of a token, and perhaps its pools and its quota.
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
        let (mut pools, mut quota) = (None, None);
        for word in more {
            match word.split_once('=') {
                None if pools.is_none() && quota.is_none() => pools = Some(word.parse()?),
                None => {
                    return Err(format!(
                        "{} is not expected: write all pools in one word without spaces, and {MAX_HELD} \
                         behind it, as in {END_FORM}",
                        shown(word)
                    ));
                }
                Some((MAX_HELD, max)) if quota.is_none() => {
                    check_quota(role)?;
                    let max = parse_max_held(max)
                        .map_err(|what| format!("{}: {MAX_HELD} {what}", shown(word)))?;
                    quota = Some(Arc::new(Quota::new(max).named(name)));
                }
                Some((MAX_HELD, _)) => return Err(format!("{MAX_HELD} may occur only once")),
                Some(_) => {
                    return Err(format!(
                        "{} is unknown; what may follow is as in {END_FORM}",
                        shown(word)
                    ));
                }
            }
        }
        let pools = pools.unwrap_or_default();
        let holder = Holder::new(name, quota.clone()).expect("the name of a token can be one");
        Ok(Self { name: (*name).into(), quota, holder, role, pools, hash })
    }
}

impl Token {
    /// Lets its leases count against this quota.
    pub(super) fn set_quota(&mut self, quota: Arc<Quota>) {
        let holder = Holder::new(&self.name, Some(Arc::clone(&quota)));
        self.holder = holder.expect("the name of a token can be one");
        self.quota = Some(quota);
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
    fn a_line_may_end_with_pools_and_a_quota() {
        for (end, max, is_for_openai, is_for_all) in [
            ("", None, true, true),
            ("*", None, true, true),
            ("openai", None, true, false),
            ("a,openai*", None, true, false),
            ("a", None, false, false),
            ("max-held=1", Some(1), true, true),
            ("a  max-held=1000000", Some(1_000_000), false, false),
        ] {
            let token: Token = format!("worker-7 client {HASH} {end}").parse().unwrap();
            assert_eq!((&*token.name, token.role), ("worker-7", Role::Client), "{end}");
            assert_eq!(token.quota.map(|quota| quota.max()), max, "{end}");
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
            ("client", "max-held=10 openai", "\"openai\" is not expected"),
            ("client", "max-held=10 max-held=10", "max-held may occur only once"),
            ("client", "max-held=0", "\"max-held=0\": max-held must be a number of keys from 1 to"),
            ("client", "max-held=", "\"max-held=\": max-held must be"),
            ("client", "max-held = 10", "\"=\" is unknown"),
            ("client", "Max-Held=10", "\"Max-Held=10\" is unknown"),
            ("client", "a max=10", "\"max=10\" is unknown"),
            ("client", "a,b=c", "\"a,b=c\" is unknown"),
            ("admin", "a max-held=10", "max-held is for the role client only; leave it out"),
            ("metrics", "max-held=10", "max-held is for the role client only"),
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
