//! The expiry index: "look at this key at that time", ordered by `(deadline, key)`.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use crossbeam_utils::CachePadded;

use super::handle::Handle;
use super::sync::{AtomicU64, Mutex, unless_checked};
use crate::time::Timestamp;

/// An ordered index of deadlines, in stripes by key. Whoever finds an entry asks the record what is
/// due. Its locks are held for one entry at a time, and no other is taken under them.
///
/// Most entries are armed to last the same time from now, so they go to the end of their stripe,
/// which stays in the processor's cache: a B-tree finds it with a few comparisons, and keeps an
/// entry in 30 bytes.
pub(super) struct ExpiryIndex {
    stripes: Box<[CachePadded<Mutex<BTreeSet<Entry>>>]>,
    /// When the first entry of each stripe is due, to be read without its lock.
    firsts: Box<[AtomicU64]>,
}

type Entry = (Timestamp, Handle);

impl ExpiryIndex {
    const STRIPES: usize = unless_checked(64);
    /// In the place of a first entry where there is none.
    const NEVER: u64 = u64::MAX;

    pub(super) fn new() -> Self {
        Self {
            stripes: (0..Self::STRIPES).map(|_| CachePadded::default()).collect(),
            firsts: (0..Self::STRIPES).map(|_| AtomicU64::new(Self::NEVER)).collect(),
        }
    }

    /// Adds an entry, in place of one that is already there. O(log n).
    pub(super) fn arm(&self, at: Timestamp, key: Handle) {
        let stripe = key.stripe(Self::STRIPES);
        let mut entries = self.stripes[stripe].lock();
        entries.insert((at, key));
        if at.as_ms() < self.firsts[stripe].load(Relaxed) {
            self.firsts[stripe].store(at.as_ms(), SeqCst);
        }
    }

    /// Removes an entry, if it is there. O(log n).
    pub(super) fn disarm(&self, at: Timestamp, key: Handle) {
        let stripe = key.stripe(Self::STRIPES);
        let mut entries = self.stripes[stripe].lock();
        entries.remove(&(at, key));
        if at.as_ms() <= self.firsts[stripe].load(Relaxed) {
            let first = entries.first().map_or(Self::NEVER, |(at, _)| at.as_ms());
            self.firsts[stripe].store(first, SeqCst);
        }
    }

    /// The first entry, if its time has come; it stays until it is disarmed. O(1).
    pub(super) fn due(&self, now: Timestamp) -> Option<Entry> {
        while let Some((at, stripe)) = self.first_stripe().filter(|(at, _)| *at <= now.as_ms()) {
            let first = self.stripes[stripe].lock().first().copied();
            // Else another thread was faster.
            if first.is_some_and(|(first, _)| first.as_ms() == at) {
                return first;
            }
        }
        None
    }

    /// The first entry. O(1).
    pub(super) fn first(&self) -> Option<Entry> {
        self.due(Timestamp::MAX)
    }

    /// The time of the first entry. O(1).
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.first_stripe().map(|(at, _)| Timestamp::from_ms(at))
    }

    fn first_stripe(&self) -> Option<(u64, usize)> {
        let firsts = self.firsts.iter().map(|at| at.load(SeqCst)).zip(0..);
        firsts.min().filter(|(at, _)| *at != Self::NEVER)
    }

    /// Number of entries. O(1).
    pub(super) fn len(&self) -> usize {
        self.stripes.iter().map(|entries| entries.lock().len()).sum()
    }

    /// For [`super::check`]: what is noted of each stripe is true.
    pub(super) fn check(&self) {
        for (entries, first) in self.stripes.iter().zip(&self.firsts) {
            let entries = entries.lock();
            let expected = entries.first().map_or(Self::NEVER, |(at, _)| at.as_ms());
            assert_eq!(first.load(SeqCst), expected, "the first entry is noted wrongly");
        }
    }

    /// Whether there is such an entry. O(log n).
    pub(super) fn contains(&self, at: Timestamp, key: Handle) -> bool {
        self.stripes[key.stripe(Self::STRIPES)].lock().contains(&(at, key))
    }
}
