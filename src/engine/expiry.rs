//! The expiry index: "look at this key at that time", ordered by `(deadline, key)`.

use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::Entry;

use super::handle::Handle;
use crate::time::Timestamp;

/// A lock-free ordered index of deadlines. Whoever pops an entry asks the record what is due.
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

    /// The first entry whose time has come; it stays until it is removed. O(1) amortised.
    pub(super) fn due(&self, now: Timestamp) -> Option<Due<'_>> {
        self.first().filter(|due| due.at() <= now)
    }

    /// The first entry. O(1) amortised.
    pub(super) fn first(&self) -> Option<Due<'_>> {
        self.entries.front().map(Due)
    }

    /// The time of the first entry. O(1) amortised.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.first().map(|due| due.at())
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

/// An entry, the first when it was looked at.
pub(super) struct Due<'a>(Entry<'a, (Timestamp, Handle), ()>);

impl Due<'_> {
    pub(super) fn at(&self) -> Timestamp {
        self.0.key().0
    }

    pub(super) fn key(&self) -> Handle {
        self.0.key().1
    }

    /// Whether somebody has removed it; there may be another for the same time and key. Nobody adds
    /// one while the guard of the key's record is held. O(1).
    pub(super) fn is_removed(&self) -> bool {
        self.0.is_removed()
    }

    /// Removes this very entry, not one that was armed for the same time since. O(log n).
    pub(super) fn remove(self) {
        self.0.remove();
    }
}
