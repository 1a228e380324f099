//! What is imported: keys that exist elsewhere, such as those of a provider.

use crate::key::{KeyId, Label, Value};
use crate::time::Timestamp;

/// A key to import.
#[derive(Clone, Debug)]
pub struct OwnKey {
    /// What a lease of it gives.
    pub value: Value,
    /// Its labels; at most [`Label::COUNT_MAX`].
    pub labels: Vec<Label>,
}

#[cfg(test)]
impl OwnKey {
    /// A key whose value is as long as may be; another one for each number.
    pub(crate) fn longest(number: u32) -> Self {
        let character = char::from_u32(number + 0x100).expect("a small number");
        let value = Value::new(&character.to_string().repeat(Value::CHARS_MAX)).expect("it fits");
        Self { value, labels: Vec::new() }
    }
}

/// Keys that were imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Their ids, in the order in which they were asked for. A value that the pool had before, or that comes twice,
    /// has one id.
    pub ids: Vec<KeyId>,
    /// How many of them are new.
    pub created: usize,
    /// When the first of the new ones dies, unless it is kept alive; [`Timestamp::NEVER`] if it does not.
    pub life_ends: Timestamp,
}
