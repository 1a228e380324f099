//! Who waits for a key: a queue, first come, first served.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::error::Error;
use crate::key::Lease;

/// The queue, and its length to be read without its lock.
///
/// **No wake-up is lost:** who joins raises the length first and looks for a free key then; who
/// frees a key does so first and reads the length then. So at least one of them sees the other.
pub(super) struct Waiters {
    max: usize,
    len: CachePadded<AtomicUsize>,
    queue: Mutex<Queue>,
    /// Leases that were given to those who waited.
    granted: AtomicU64,
}

/// Waiters by ticket: the lowest came first.
#[derive(Default)]
pub(super) struct Queue {
    next_ticket: u64,
    waiters: BTreeMap<u64, Waiter>,
}

/// One who waits.
struct Waiter {
    lease_ms: u32,
    grant: oneshot::Sender<Lease>,
}

/// What one who waits holds on to.
pub(super) struct Ticket {
    number: u64,
    /// Holds a lease from the moment at which the ticket is no longer in the queue.
    pub(super) granted: oneshot::Receiver<Lease>,
}

impl Waiters {
    /// Room for `max` who wait.
    pub(super) fn new(max: usize) -> Self {
        let (len, queue, granted) = Default::default();
        Self { max, len, queue, granted }
    }

    /// Whether somebody waits; not exact while others come and go. O(1).
    pub(super) fn is_empty(&self) -> bool {
        self.len.load(Relaxed) == 0
    }

    /// How many wait. O(1).
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// How many leases were given to those who waited. O(1).
    pub(super) fn granted(&self) -> u64 {
        self.granted.load(Relaxed)
    }

    /// Whether somebody waits who may not have seen a key that was freed before. O(1).
    pub(super) fn is_empty_after_freeing(&self) -> bool {
        fence(SeqCst);
        self.len.load(SeqCst) == 0
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// Joins the queue. After that a free key must be looked for. O(log w) for w who wait.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyWaiters`]
    pub(super) fn join(&self, queue: &mut Queue, lease_ms: u32) -> Result<Ticket, Error> {
        if queue.waiters.len() >= self.max {
            return Err(Error::TooManyWaiters);
        }
        let number = queue.next_ticket;
        queue.next_ticket += 1;
        let (grant, granted) = oneshot::channel();
        queue.waiters.insert(number, Waiter { lease_ms, grant });
        self.len.store(queue.waiters.len(), SeqCst);
        fence(SeqCst);
        Ok(Ticket { number, granted })
    }

    /// Leaves the queue. What was granted before is answered: then it is the caller's.
    /// O(log w) for w who wait.
    pub(super) fn leave(&self, ticket: &mut Ticket) -> Option<Lease> {
        let mut queue = self.queue.lock();
        match queue.waiters.remove(&ticket.number) {
            Some(_) => {
                self.len.store(queue.waiters.len(), SeqCst);
                None
            }
            None => ticket.granted.try_recv().ok(),
        }
    }

    /// Gives a lease to whoever came first, or back if nobody waits. O(log w) for w who wait.
    pub(super) fn grant(&self, queue: &mut Queue, lease: Lease) -> Result<(), Lease> {
        let (_, waiter) = queue.waiters.pop_first().ok_or(lease)?;
        self.len.store(queue.waiters.len(), SeqCst);
        waiter.grant.send(lease)?;
        self.granted.fetch_add(1, Relaxed);
        Ok(())
    }
}

impl Queue {
    /// For how long the next one wants a key. O(log w) for w who wait.
    pub(super) fn next_lease_ms(&self) -> Option<u32> {
        self.waiters.first_key_value().map(|(_, waiter)| waiter.lease_ms)
    }
}
