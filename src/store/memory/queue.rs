//! The clients that wait for a key: a queue, first come, first served.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize, fence};

use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use crate::error::Error;
use crate::store::operation::RequestKey;
use crate::store::port::Complete;
use crate::time::Timestamp;

/// The queue, and its length, which can be read without the queue's lock.
///
/// **No wake-up is lost:** a client that joins first raises the length and then looks for a free key. An
/// operation that frees a key first does so and then reads the length. So at least one of them sees the
/// other.
pub(super) struct Waiters {
    /// The most in all pools together, and how many there are.
    max: usize,
    all: Arc<AtomicUsize>,
    len: CachePadded<AtomicUsize>,
    queue: Mutex<Queue>,
    /// Leases that were given to waiters.
    granted: AtomicU64,
}

/// Waiters by ticket: the lowest came first.
#[derive(Default)]
pub(super) struct Queue {
    next_ticket: u64,
    /// The pool was deleted.
    is_closed: bool,
    waiters: BTreeMap<u64, Waiter>,
    /// When each one gives up, and its ticket.
    ends: BTreeSet<(Timestamp, u64)>,
}

/// A lease that waits for a free key.
pub(super) struct Waiter {
    pub(super) lease_ms: u32,
    /// The key of its request, which must be settled.
    pub(super) request: Option<RequestKey>,
    /// When it gives up.
    pub(super) until: Timestamp,
    pub(super) receiver: Arc<dyn Complete>,
    pub(super) token: u64,
}

impl Waiters {
    /// How far leases without a waiting time may fill the queue beyond its limit. They join it only while it
    /// takes long to tell whether a key is free, because very many keys have just died.
    const UNANSWERED_MAX: usize = 1000;

    /// Room for `max` waiters in all pools together, which `all` counts.
    pub(super) fn new(max: usize, all: Arc<AtomicUsize>) -> Self {
        let (len, queue, granted) = Default::default();
        Self { max, all, len, queue, granted }
    }

    /// Whether no client waits; only a hint while clients come and go. O(1).
    pub(super) fn is_empty(&self) -> bool {
        self.len.load(Relaxed) == 0
    }

    /// How many clients wait. O(1).
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// How many leases were given to waiters. O(1).
    pub(super) fn granted(&self) -> u64 {
        self.granted.load(Relaxed)
    }

    /// Whether no client waits, for a thread that has just freed a key: a client that joins too late to be
    /// counted sees that key. O(1).
    pub(super) fn is_empty_after_freeing(&self) -> bool {
        fence(SeqCst);
        self.len.load(SeqCst) == 0
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// Adds a waiter to the queue; `waits` if it has a waiting time. Afterwards the caller must look for a
    /// free key. O(log w) for w waiters.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyWaiters`], [`Error::NoSuchPool`]
    pub(super) fn join(
        &self,
        queue: &mut Queue,
        waiter: Waiter,
        waits: bool,
    ) -> Result<u64, Error> {
        if queue.is_closed {
            return Err(Error::NoSuchPool);
        }
        let max = if waits { self.max } else { self.max.saturating_add(Self::UNANSWERED_MAX) };
        let take = |all| (all < max).then_some(all + 1);
        if self.all.fetch_update(SeqCst, SeqCst, take).is_err() {
            return Err(Error::TooManyWaiters);
        }
        let number = queue.next_ticket;
        queue.next_ticket += 1;
        queue.ends.insert((waiter.until, number));
        queue.waiters.insert(number, waiter);
        self.note_len(queue);
        fence(SeqCst);
        Ok(number)
    }

    /// Takes a waiter out of the queue, unless it was served. O(log w) for w waiters.
    pub(super) fn remove(&self, number: u64) -> Option<Waiter> {
        let mut queue = self.queue.lock();
        let waiter = queue.waiters.remove(&number)?;
        queue.ends.remove(&(waiter.until, number));
        self.note_gone(&queue, 1);
        Some(waiter)
    }

    /// Takes all waiters out, and lets no more join: the pool was deleted. O(w) for w waiters.
    pub(super) fn close(&self) -> Vec<Waiter> {
        let mut queue = self.queue.lock();
        queue.is_closed = true;
        queue.ends.clear();
        let waiters: Vec<_> = take(&mut queue.waiters).into_values().collect();
        self.note_gone(&queue, waiters.len());
        waiters
    }

    /// Takes the first waiter out, to be served. O(log w) for w waiters.
    pub(super) fn pop_first(&self, queue: &mut Queue) -> Option<Waiter> {
        let (number, waiter) = queue.waiters.pop_first()?;
        queue.ends.remove(&(waiter.until, number));
        self.note_gone(queue, 1);
        Some(waiter)
    }

    /// Takes out a waiter whose time is up. O(log w) for w waiters.
    pub(super) fn pop_ended(&self, queue: &mut Queue, now: Timestamp) -> Option<Waiter> {
        let (_, number) = *queue.ends.first().filter(|(until, _)| *until <= now)?;
        queue.ends.pop_first();
        let waiter = queue.waiters.remove(&number);
        self.note_gone(queue, 1);
        waiter
    }

    /// Counts a lease that was given to a waiter.
    pub(super) fn count_granted(&self) {
        self.granted.fetch_add(1, Relaxed);
    }

    fn note_gone(&self, queue: &Queue, count: usize) {
        self.note_len(queue);
        self.all.fetch_sub(count, SeqCst);
    }

    fn note_len(&self, queue: &Queue) {
        self.len.store(queue.waiters.len(), SeqCst);
    }
}

impl Queue {
    /// How long the first waiter's lease is to last. O(log w) for w waiters.
    pub(super) fn next_lease_ms(&self) -> Option<u32> {
        self.waiters.first_key_value().map(|(_, waiter)| waiter.lease_ms)
    }

    /// When the next waiter gives up. O(log w) for w waiters.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(until, _)| *until)
    }
}
