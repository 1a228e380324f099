//! The pools that a token is for.

use std::fmt;
use std::str::FromStr;

use crate::pool::PoolName;

/// The most patterns of a token. Each request is compared with all of them.
const PATTERNS_MAX: usize = 64;

/// The pools that a token is for: all of them, or those whose names match one of its patterns. A pattern is a
/// name, or the beginning of names and a `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pools(Option<Box<str>>);

impl Pools {
    /// Whether a request about `pool` is within these pools. One that is about no single pool takes all of them.
    /// O(p) for p patterns.
    pub(super) fn include(&self, pool: Option<&str>) -> bool {
        let Some(patterns) = &self.0 else { return true };
        pool.is_some_and(|pool| patterns.split(',').any(|pattern| matches(pattern, pool)))
    }
}

fn matches(pattern: &str, pool: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => pool.starts_with(beginning),
        None => pool == pattern,
    }
}

impl FromStr for Pools {
    type Err = String;

    /// Reads patterns with commas between them. O(length).
    fn from_str(text: &str) -> Result<Self, String> {
        let mut count = 0;
        for pattern in text.split(',') {
            check(pattern)?;
            count += 1;
        }
        if count > PATTERNS_MAX {
            return Err(format!(
                "{count} pools are too many: name at most {PATTERNS_MAX}, or the beginning of their names \
                 and a *, as in openai-*"
            ));
        }
        // One for all makes the others superfluous.
        let is_all = text.split(',').any(|pattern| pattern == "*");
        Ok(Self((!is_all).then(|| text.into())))
    }
}

/// Checks a pattern. O(length).
fn check(pattern: &str) -> Result<(), String> {
    if pattern.is_empty() {
        return Err(
            "a pool is missing before or after a comma; write pools with single commas and \
             without spaces, as in openai,anthropic-*"
                .to_owned(),
        );
    }
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    if name.is_empty() || PoolName::is_valid(name) {
        return Ok(());
    }
    Err(format!(
        "{} cannot be the name of a pool: it has 1 to {} lower-case letters, digits, dots, \
         hyphens or underscores, and begins with a letter or a digit; a * at its end stands for any rest, \
         as in openai,anthropic-*",
        shown(pattern),
        PoolName::LEN_MAX,
    ))
}

/// A word of a file as a message shows it: of a long one the beginning. O(length of what is shown).
pub(super) fn shown(word: &str) -> String {
    format!("{:?}", word.chars().take(PoolName::LEN_MAX + 1).collect::<String>())
}

impl fmt::Display for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("*"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_names_or_beginnings_of_names() {
        for (patterns, within, without) in [
            ("openai", &["openai"][..], &["openai-eu", "opena", "xopenai", ""][..]),
            ("openai*", &["openai", "openai-eu"], &["opena", "x-openai", "default"]),
            ("openai-*", &["openai-", "openai-eu"], &["openai", "openai.eu"]),
            ("a,b-*,0", &["a", "b-", "b-c", "0"], &["b", "ab", "00", "a,b-*,0", "B-c", ","]),
            ("default", &["default"], &["default2"]),
            ("*", &["default", "a"], &[]),
            ("a,*", &["default", "a"], &[]),
        ] {
            let pools: Pools = patterns.parse().unwrap();
            for pool in within {
                assert!(pools.include(Some(pool)), "{patterns} {pool}");
            }
            for pool in without {
                assert!(!pools.include(Some(pool)), "{patterns} {pool}");
            }
            assert_eq!(pools.include(None), patterns.contains('*') && without.is_empty());
            assert_eq!(pools.to_string().parse(), Ok(pools));
        }
        assert!(Pools::default().include(None) && Pools::default().include(Some("a")));
    }

    #[test]
    fn other_patterns_are_refused() {
        let longest = "a".repeat(PoolName::LEN_MAX);
        let many = vec!["a"; PATTERNS_MAX].join(",");
        for good in [&*longest, &format!("{longest}*"), &many, "a.b_c-d", "0", "a."] {
            assert!(good.parse::<Pools>().is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", "a pool is missing"),
            (",", "a pool is missing"),
            ("a,", "a pool is missing"),
            (",a", "a pool is missing"),
            ("a,,b", "a pool is missing"),
            ("OpenAI", "\"OpenAI\" cannot be the name of a pool"),
            ("a,-b", "\"-b\" cannot be"),
            (".a", "\".a\" cannot be"),
            ("_*", "\"_*\" cannot be"),
            ("**", "\"**\" cannot be"),
            ("*a", "\"*a\" cannot be"),
            ("a*b", "\"a*b\" cannot be"),
            ("a/b", "\"a/b\" cannot be"),
            ("ä", "\"ä\" cannot be"),
            ("a b", "\"a b\" cannot be"),
            ("a\u{7}", "\"a\\u{7}\" cannot be"),
            (&format!("{longest}a"), "\"aaa"),
            (&format!("{longest}a*"), "\"aaa"),
            (&format!("{many},b"), "65 pools are too many"),
        ] {
            let error = bad.parse::<Pools>().unwrap_err();
            assert!(error.starts_with(why), "{bad}: {error}");
            assert!(error.contains("openai"), "{bad}: {error}");
        }
    }
}
