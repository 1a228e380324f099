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
