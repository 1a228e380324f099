//! The journal of changes, for a pool that must survive its process.

use crate::key::{KeyId, KeyInfo, Value};

/// A key's state after a change: what a journal keeps and [`super::Restoring`] reads.
///
/// It says what is true afterwards, not what was done. So to replay entries once more gives the same state,
/// and needs neither a clock nor random numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub id: KeyId,
    /// Its state, or `None` if it was removed.
    pub after: Option<KeyInfo>,
    /// Its value, if it has one.
    pub value: Option<Value>,
}

/// Records each change of a key.
pub trait Journal: Send + Sync + 'static {
    /// Records the entry that `entry` makes.
    ///
    /// It is called under the guard of the key's record, so the entries of a key come in the order of its
    /// changes. It must neither block nor call the pool.
    fn append(&self, entry: impl FnOnce() -> Entry);
}

/// Records nothing and costs nothing.
impl Journal for () {
    fn append(&self, _: impl FnOnce() -> Entry) {}
}
