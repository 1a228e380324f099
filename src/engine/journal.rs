//! Where changes are noted, for a pool that must survive its process.

use crate::key::{KeyId, KeyInfo};

/// A key's state after a change: what a journal keeps, and [`super::Restoring`] reads.
///
/// It says what is true afterwards, not what was done. So replaying entries
/// once more ends in the same state, and needs neither a clock nor random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub id: KeyId,
    /// Its state; `None` once it was removed.
    pub after: Option<KeyInfo>,
}

/// Takes note of each change of a key.
pub trait Journal: Send + Sync + 'static {
    /// Notes the entry that `entry` makes.
    ///
    /// It is called under the guard of the key's record, so entries of one key come in the order of
    /// its changes. It must not block, nor call the pool.
    fn append(&self, entry: impl FnOnce() -> Entry);
}

/// Notes nothing and costs nothing.
impl Journal for () {
    fn append(&self, _: impl FnOnce() -> Entry) {}
}
