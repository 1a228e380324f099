//! The journal of changes, for a pool that must survive its process.

use crate::key::{Holder, KeyId, Label, Value};
use crate::time::Timestamp;

/// A key after a change: what a journal keeps and [`super::Restoring`] reads.
///
/// It says what is true afterwards, not what was done. So to replay entries once more gives the same state,
/// and needs neither a clock nor random numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub id: KeyId,
    /// What became of it.
    pub after: After,
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// The key is new, or a snapshot has come to it. What it has of its own never changes.
    Whole {
        /// When it was created.
        created_at: Timestamp,
        /// Its state.
        state: KeyState,
        /// Its value, if it has one.
        value: Option<Value>,
        /// Its labels, in the order in which they were given.
        labels: Vec<Label>,
    },
    /// A key that was there before has this state. Its value and labels are as before.
    State(KeyState),
    /// The key was removed, though its life was not over.
    Gone,
}

/// The state of a key, as its record has it: even if a deadline is over, and nobody has noticed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// When the key dies, or [`Timestamp::NEVER`].
    pub life_ends: Timestamp,
    /// Odd while the key is leased.
    pub generation: u64,
    /// Since when and until when it is leased or cools down.
    pub block: Option<(Timestamp, Timestamp)>,
    /// Who has leased it, if that was said.
    pub holder: Option<Holder>,
}

/// Records each change of a key, but for those that the deadlines before it imply: the end of a lease, a cool-down or a
/// life whose time is over.
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
