//! The value of a key: the secret that it stands for, as an API key of another service.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The value of a key. It is a secret: only a lease gives it, and nothing shows it. Clones share their
/// memory, which is zeroed when the last of them is dropped.
#[derive(Clone)]
pub struct Value(Arc<Zeroizing<Box<str>>>);

impl Value {
    /// The most characters of a value.
    pub const CHARS_MAX: usize = 4096;

    /// The value with this text, of which it keeps a copy. `None` if the text is empty, or longer than
    /// [`Value::CHARS_MAX`] characters. O(n) for n bytes.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        // A character has at most four bytes.
        let is_short = text.len() <= Self::CHARS_MAX
            || text.len() <= 4 * Self::CHARS_MAX && text.chars().count() <= Self::CHARS_MAX;
        (!text.is_empty() && is_short).then(|| Self(Arc::new(Zeroizing::new(text.into()))))
    }

    /// The secret text. O(1).
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// How long a comparison takes says nothing of where two values of the same length differ.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.reveal().as_bytes().ct_eq(other.reveal().as_bytes()).into()
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    /// Nothing of it: a log is no place for a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_1_to_4096_characters() {
        let of = |c: &str, count| Value::new(&c.repeat(count)).is_some();
        assert_eq!(
            (of("x", 0), of("x", 1), of("x", 4096), of("x", 4097)),
            (false, true, true, false)
        );
        assert_eq!(
            (of("é", 4096), of("é", 4097), of("🔑", 4096), of("🔑", 4097)),
            (true, false, true, false)
        );
    }

    #[test]
    fn a_value_shows_nothing_of_itself() {
        let value = Value::new("sk-secret").unwrap();
        assert_eq!(value.reveal(), "sk-secret");
        assert_eq!(format!("{value:?} {:?}", Some(&value)), "Value(…) Some(Value(…))");
        assert_eq!(
            (value == value.clone(), value == Value::new("sk-other!").unwrap()),
            (true, false)
        );
    }

    #[test]
    fn the_memory_of_a_value_is_zeroed_when_it_is_dropped() {
        fn is_zeroed<T: zeroize::ZeroizeOnDrop>(_: &T) {}
        let value = Value::new("sk-secret").unwrap();
        is_zeroed(&*value.0);
    }
}
