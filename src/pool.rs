//! The vocabulary of pools: their names, and what their operators may set.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Names a pool in its store: as long as the pool exists, and no other one after it. [`PoolId::DEFAULT`] always exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId {
    /// Its place in a table of pools.
    pub place: u32,
    /// Tells it from other pools that have had the same place.
    pub serial: u32,
}

impl PoolId {
    /// The pool that requests without the name of one are for.
    pub const DEFAULT: Self = Self { place: 0, serial: 0 };
}

/// The name of a pool: 1 to 63 lower-case letters, digits, dots, underscores and hyphens, of which the first is a letter
/// or a digit. A clone is cheap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolName(Arc<str>);

impl PoolName {
    /// The name of the pool that always exists.
    pub const DEFAULT: &str = "default";
    /// The length of the longest name.
    pub const LEN_MAX: usize = 63;
    /// What a name must be, with an example.
    pub const FORM: &str = "1 to 63 lower-case letters, digits, dots, underscores and hyphens, beginning with a letter or a \
                            digit, such as openai-eu";

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a text is a name. O(length), and O(1) for a long one.
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        let is_first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_of_name = |byte: u8| is_first(&byte) || b"._-".contains(&byte);
        text.len() <= Self::LEN_MAX
            && text.as_bytes().first().is_some_and(is_first)
            && text.bytes().all(is_of_name)
    }
}

/// The name of the pool that always exists.
impl Default for PoolName {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl FromStr for PoolName {
    type Err = String;

    /// O(length).
    ///
    /// # Errors
    ///
    /// A message that says what a name must be.
    fn from_str(text: &str) -> Result<Self, String> {
        if Self::is_valid(text) {
            return Ok(Self(text.into()));
        }
        Err(format!("must be {}", Self::FORM))
    }
}

impl Borrow<str> for PoolName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the operator of a pool sets. All times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A key's life, from its creation or its last keep-alive; `None` if keys live until they are deleted.
    pub key_ttl_ms: Option<u64>,
    /// A lease for which the request says nothing else.
    pub lease_ttl_ms: u32,
    /// The longest lease that a request may ask for.
    pub lease_ms_max: u32,
    /// The longest cool-down that a request may ask for.
    pub cooldown_ms_max: u32,
    /// The longest time that a request may wait for a key.
    pub wait_ms_max: u32,
    /// How long a key rests after a lease that ran out; 0 for not at all.
    pub lapse_cooldown_ms: u32,
    /// The most keys there may be at once.
    pub keys_max: usize,
}

impl Default for Settings {
    /// Five minutes and one minute, as the problem statement says; cool-downs of up to an hour, one minute to wait, and
    /// 10 million keys, which take about 1.3 GB.
    fn default() -> Self {
        Self {
            key_ttl_ms: Some(5 * 60 * 1000),
            lease_ttl_ms: 60 * 1000,
            lease_ms_max: 60 * 1000,
            cooldown_ms_max: 60 * 60 * 1000,
            wait_ms_max: 60 * 1000,
            lapse_cooldown_ms: 0,
            keys_max: 10_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        let longest = "x".repeat(63);
        for name in ["a", "0", "default", "openai-eu", "a.b_c-d", "9..", &longest] {
            assert_eq!(name.parse::<PoolName>().unwrap().as_str(), name);
        }
        let too_long = "x".repeat(64);
        for text in ["", ".a", "-a", "_a", "A", "ä", "a/b", "a b", "a%20", "a:b", &too_long] {
            assert!(text.parse::<PoolName>().unwrap_err().contains("such as openai-eu"), "{text}");
        }
    }
}
