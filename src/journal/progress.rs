//! How far commits have come, and those who wait for them.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::Waker;
use std::thread::Thread;

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use super::stats::Counters;
use crate::time::Timestamp;

/// How far commits have come.
#[derive(Default)]
pub(crate) struct Progress {
    /// Answers that rest on frames up to this one may leave.
    committed: CachePadded<AtomicU64>,
    /// All frames up to this one are on disk.
    durable: AtomicU64,
    /// Until when answers may leave.
    mark_ms: AtomicU64,
    waiting: Mutex<Vec<(u64, Waker)>>,
    /// Whether the committer has been asked to look.
    is_called: AtomicBool,
    committer: OnceLock<Thread>,
    /// The disk has no room for changes.
    is_full: AtomicBool,
    /// Apart from what requests look at.
    pub(super) counters: CachePadded<Counters>,
}

impl Progress {
    /// Goes on behind the frame `last`, at `now`.
    pub(crate) fn go_on(&self, last: u64, now: Timestamp) {
        self.committed.store(last, SeqCst);
        self.durable.store(last, SeqCst);
        self.mark_ms.store(now.as_ms(), SeqCst);
    }

    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(SeqCst)
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(SeqCst)
    }

    pub(crate) fn mark(&self) -> Timestamp {
        Timestamp::from_ms(self.mark_ms.load(SeqCst))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(SeqCst)
    }

    pub(crate) fn set_full(&self, is_full: bool) -> bool {
        self.is_full.swap(is_full, SeqCst)
    }

    /// Notes that all frames up to `sequence` are on disk.
    pub(crate) fn set_durable(&self, sequence: u64) {
        self.durable.fetch_max(sequence, SeqCst);
    }

    /// Lets answers leave that rest on frames up to `sequence`, until `mark`.
    pub(crate) fn publish(&self, sequence: u64, mark: Timestamp) {
        self.mark_ms.store(mark.as_ms(), SeqCst);
        self.committed.store(sequence, SeqCst);
        let mut ready = Vec::new();
        self.waiting.lock().retain_mut(|(wanted, waker)| {
            let is_ready = *wanted <= sequence;
            if is_ready {
                ready.push(waker.clone());
            }
            !is_ready
        });
        ready.into_iter().for_each(Waker::wake);
    }

    /// Wakes `waker` once a frame is committed; at once if it is.
    pub(crate) fn wake_when(&self, sequence: u64, waker: &Waker) {
        let mut waiting = self.waiting.lock();
        if self.committed() < sequence {
            waiting.push((sequence, waker.clone()));
        } else {
            drop(waiting);
            waker.wake_by_ref();
        }
    }

    /// Tells who commits.
    pub(crate) fn set_committer(&self, thread: Thread) {
        let _ = self.committer.set(thread);
    }

    /// Asks the committer to look whether something is to be committed. O(1).
    pub(crate) fn call(&self) {
        if !self.is_called.swap(true, SeqCst)
            && let Some(committer) = self.committer.get()
        {
            committer.unpark();
        }
    }

    /// Whether the committer was asked since the last time.
    pub(crate) fn take_call(&self) -> bool {
        self.is_called.swap(false, SeqCst)
    }
}
