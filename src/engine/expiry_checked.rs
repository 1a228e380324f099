//! The expiry index as the model checker sees it: a set behind a lock. That entries come and go as
//! one is taken for granted of the real one: `crossbeam-skiplist` is not under test here.

use std::collections::BTreeSet;

use super::handle::Handle;
use super::sync::Mutex;
use crate::time::Timestamp;

pub(super) struct ExpiryIndex {
    entries: Mutex<BTreeSet<(Timestamp, Handle)>>,
}

impl ExpiryIndex {
    pub(super) fn new() -> Self {
        Self { entries: Mutex::new(BTreeSet::new()) }
    }

    pub(super) fn arm(&self, at: Timestamp, key: Handle) {
        self.entries.lock().insert((at, key));
    }

    pub(super) fn disarm(&self, at: Timestamp, key: Handle) {
        self.entries.lock().remove(&(at, key));
    }

    pub(super) fn due(&self, now: Timestamp) -> Option<(Timestamp, Handle)> {
        self.first().filter(|(at, _)| *at <= now)
    }

    pub(super) fn first(&self) -> Option<(Timestamp, Handle)> {
        self.entries.lock().first().copied()
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.first().map(|(at, _)| at)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.lock().len()
    }

    pub(super) fn contains(&self, at: Timestamp, key: Handle) -> bool {
        self.entries.lock().contains(&(at, key))
    }
}
