//! What others see of a journal: where they note changes, and how far these have come.

use std::sync::Arc;
use std::task::Waker;

use super::buffers::Buffers;
use super::progress::Progress;
use super::stats::JournalStats;
use crate::engine::{self, Entry};
use crate::pool::{PoolName, Settings};
use crate::time::Timestamp;

/// Where changes are noted, and how far they have come. Clones share it.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(super) buffers: Arc<Buffers>,
    pub(super) progress: Arc<Progress>,
}

impl Journal {
    /// A journal in which nothing was noted, and which is not written yet: see `open.rs`.
    pub(crate) fn new() -> Self {
        Self { buffers: Arc::new(Buffers::new()), progress: Arc::default() }
    }

    /// The frame that must be committed before an answer leaves that was given before this call, at `now` or earlier. `None`
    /// if it is. It asks for the commit. O(1).
    pub(crate) fn uncommitted(&self, now: Timestamp) -> Option<u64> {
        let mark = self.progress.mark();
        let last = if now >= mark { self.buffers.want_frame() } else { self.buffers.last() };
        (last > self.progress.committed()).then(|| {
            self.progress.call();
            last
        })
    }

    /// Whether a frame is committed. O(1).
    pub(crate) fn is_committed(&self, sequence: u64) -> bool {
        self.progress.committed() >= sequence
    }

    /// Wakes `waker` once a frame is committed; at once if it is. O(1).
    pub(crate) fn wake_when_committed(&self, sequence: u64, waker: &Waker) {
        self.progress.wake_when(sequence, waker);
    }

    /// The last frame that is committed, and the last one that is on disk. O(1).
    #[cfg(test)]
    pub(crate) fn committed(&self) -> u64 {
        self.progress.committed()
    }

    #[cfg(test)]
    pub(crate) fn durable(&self) -> u64 {
        self.progress.durable()
    }

    /// The next frame to be written. O(1).
    #[cfg(test)]
    pub(crate) fn filling(&self) -> u64 {
        self.buffers.filling()
    }

    /// The last frame that has something, or is about to. O(1).
    #[cfg(test)]
    pub(crate) fn last(&self) -> u64 {
        self.buffers.last()
    }

    /// Whether the disk has no room for changes. O(1).
    pub(crate) fn is_full(&self) -> bool {
        self.progress.is_full()
    }

    /// What it has done since the start. O(1).
    pub(crate) fn stats(&self) -> JournalStats {
        self.progress.counters.read(!self.is_full())
    }

    /// Asks for a commit of what nobody waits for. O(1).
    pub(crate) fn call(&self) {
        self.progress.call();
    }

    /// Notes a pool, or a change of its settings from `at` on. O(log p) for p pools.
    pub(crate) fn note_pool(&self, pool: u32, name: &PoolName, settings: Settings, at: Timestamp) {
        self.buffers.add_pool(pool, name, settings, at);
    }

    /// Notes that a pool was deleted. O(log p) for p pools.
    pub(crate) fn note_pool_gone(&self, pool: u32) {
        self.buffers.add_pool_gone(pool);
    }

    /// The journal of one pool.
    pub(crate) fn of_pool(&self, pool: u32) -> PoolJournal {
        PoolJournal(Some((Arc::clone(&self.buffers), pool)))
    }
}

/// The journal of one pool, or none.
#[derive(Clone, Default)]
pub(crate) struct PoolJournal(Option<(Arc<Buffers>, u32)>);

impl engine::Journal for PoolJournal {
    fn append(&self, entry: impl FnOnce() -> Entry) {
        if let Some((buffers, pool)) = &self.0 {
            buffers.add_key(*pool, &entry());
        }
    }
}
