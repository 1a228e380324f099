//! Labels of keys, by which a lease can choose among them.

use std::fmt;
use std::sync::Arc;

/// A label of a key: a name and a value, as `plan:pro`. It is no secret. Clones share their memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Arc<str>);

impl Label {
    /// The most characters of the name, and of the value.
    pub const CHARS_MAX: usize = 63;
    /// The most labels of a key.
    pub const COUNT_MAX: usize = 8;
    /// The most different labels of the keys of a pool. So many, with a few keys each, take about 2 MB.
    pub const DIFFERENT_MAX: usize = 1000;

    /// The label with this name and value. `None` unless both have 1 to [`Label::CHARS_MAX`] characters, and the
    /// name no colon. O(1).
    #[must_use]
    pub fn new(name: &str, value: &str) -> Option<Self> {
        let fits = |text: &str| (1..=Self::CHARS_MAX).contains(&text.chars().take(64).count());
        let is_label = fits(name) && fits(value) && !name.contains(':');
        is_label.then(|| Self(format!("{name}:{value}").into()))
    }

    /// Reads a label: a name, a colon, and a value. `None` as for [`Label::new`]. O(1).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, value) = text.split_once(':')?;
        Self::new(name, value)
    }

    /// The form that [`Label::parse`] reads. O(1).
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn split(&self) -> (&str, &str) {
        self.0.split_once(':').expect("a label has a colon")
    }

    /// The name. O(1).
    #[must_use]
    pub fn name(&self) -> &str {
        self.split().0
    }

    /// The value. O(1).
    #[must_use]
    pub fn value(&self) -> &str {
        self.split().1
    }
}

/// The form that [`Label::parse`] reads.
impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_a_name_and_a_value() {
        let label = Label::parse("plan:pro:2").unwrap();
        assert_eq!((label.name(), label.value()), ("plan", "pro:2"));
        assert_eq!(label.to_string(), "plan:pro:2");
        assert_eq!(Some(label), Label::new("plan", "pro:2"));
    }

    #[test]
    fn what_is_no_label_is_refused() {
        let long = "x".repeat(64);
        for (name, value) in [("", "v"), ("n", ""), ("a:b", "v"), (&long, "v"), ("n", &long)] {
            assert_eq!(Label::new(name, value), None, "{name}:{value}");
        }
        assert!(Label::new(&long[1..], &"é".repeat(63)).is_some());
        for text in ["", ":", "plan", "plan:", ":pro"] {
            assert_eq!(Label::parse(text), None, "{text}");
        }
    }
}
