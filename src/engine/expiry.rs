//! The expiry index: "look at this key at that time", ordered by `(deadline, key)`.

use crossbeam_skiplist::SkipMap;

use super::handle::Handle;
use crate::time::Timestamp;

/// A lock-free ordered index of deadlines. Whoever finds an entry asks the record what is due.
pub(super) struct ExpiryIndex {
    entries: SkipMap<(Timestamp, Handle), ()>,
}

impl ExpiryIndex {
    pub(super) fn new() -> Self {
        Self { entries: SkipMap::new() }
    }

    /// Adds an entry, in place of one that is already there. O(log n).
    pub(super) fn arm(&self, at: Timestamp, key: Handle) {
        self.entries.insert((at, key), ());
    }

    /// Removes an entry, if it is there. O(log n).
    pub(super) fn disarm(&self, at: Timestamp, key: Handle) {
        self.entries.remove(&(at, key));
    }

    /// The first entry, if its time has come; it stays until it is disarmed. O(1) amortised.
    pub(super) fn due(&self, now: Timestamp) -> Option<(Timestamp, Handle)> {
        self.first().filter(|(at, _)| *at <= now)
    }

    /// The first entry. O(1) amortised.
    pub(super) fn first(&self) -> Option<(Timestamp, Handle)> {
        self.entries.front().map(|entry| *entry.key())
    }

    /// The time of the first entry. O(1) amortised.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.first().map(|(at, _)| at)
    }

    /// Number of entries. O(1).
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is such an entry. O(log n).
    pub(super) fn contains(&self, at: Timestamp, key: Handle) -> bool {
        self.entries.contains_key(&(at, key))
    }
}
