//! How those who wait get their keys.

use super::queue::{Queue, Ticket};
use super::{Memory, Shared};
use crate::error::Error;
use crate::key::{Fence, Lease};
use crate::store::give_way;
use crate::time::Clock;

impl<C: Clock> Memory<C> {
    /// After something that may have freed keys: gives them to those who wait.
    pub(super) fn serve_waiters(&self) {
        if !self.serve_all_waiters() {
            self.shared.sweep_is_wanted.notify_one();
        }
    }

    /// Gives free keys to those who wait, as far as it takes not too long: then false.
    pub(super) fn serve_all_waiters(&self) -> bool {
        let waiters = &self.shared.waiters;
        waiters.is_empty_after_freeing() || self.serve_queue(&mut waiters.lock())
    }

    fn serve_queue(&self, queue: &mut Queue) -> bool {
        let Shared { pool, clock, waiters, .. } = &*self.shared;
        for _ in 0..Self::BATCH {
            let Some(ms) = queue.next_lease_ms() else { return true };
            let now = clock.now();
            match pool.lease_within(now, ms, &mut rand::rng(), Self::BATCH) {
                None => return false,
                Some(Err(_)) => return true,
                Some(Ok(lease)) => {
                    self.note_deadline(lease.until);
                    if let Err(lease) = waiters.grant(queue, lease) {
                        // Not reached: who waits leaves the queue before it goes.
                        self.take_back(&lease);
                    }
                }
            }
        }
        false
    }

    /// Takes back some of the leases that were given up. True if there may be more.
    pub(super) fn take_back_some(&self) -> bool {
        let mut given_up = self.shared.given_up.lock();
        let rest = given_up.len().saturating_sub(Self::BATCH);
        let some = given_up.split_off(rest);
        if rest == 0 {
            *given_up = Vec::new();
        }
        drop(given_up);
        for lease in &some {
            self.take_back(lease);
        }
        rest > 0
    }

    /// Takes back a lease that nobody has heard of.
    fn take_back(&self, lease: &Lease) {
        let Shared { pool, clock, .. } = &*self.shared;
        // If it is over already, it needs not be taken back.
        let _ = pool.release(&lease.id, clock.now(), Fence::OneOf(&[lease.generation]), 0);
    }

    /// Leases as many keys as are easily found, up to `count`, unless others wait.
    pub(super) fn lease_group(&self, ms: u32, count: usize, leases: &mut Vec<Lease>) {
        let Shared { pool, clock, waiters, .. } = &*self.shared;
        if waiters.is_empty() {
            let now = clock.now();
            pool.lease_group(now, ms, &mut rand::rng(), count, leases);
            self.note_deadline(now.plus_ms(u64::from(ms)));
        }
    }

    /// A lease at once, unless others wait.
    pub(super) async fn lease_now(&self, ms: u32) -> Result<Lease, Error> {
        let Shared { pool, clock, waiters, .. } = &*self.shared;
        let lease = loop {
            let is_first = waiters.is_empty() || {
                let mut queue = waiters.lock();
                let is_served = self.serve_queue(&mut queue);
                let is_empty = queue.next_lease_ms().is_none();
                if is_served && !is_empty {
                    return Err(Error::Exhausted);
                }
                is_empty
            };
            let now = clock.now();
            if is_first
                && let Some(result) = pool.lease_within(now, ms, &mut rand::rng(), Self::BATCH)
            {
                break result?;
            }
            // Many keys have just died, or many leases ended: let others run in between.
            give_way().await;
        };
        self.note_deadline(lease.until);
        // It may have ended other leases as well.
        self.serve_waiters();
        Ok(lease)
    }

    pub(super) async fn lease_waiting(&self, ms: u32, wait_ms: u32) -> Result<Lease, Error> {
        let Shared { clock, waiters, .. } = &*self.shared;
        let until = clock.now().plus_ms(u64::from(wait_ms));
        let ticket = waiters.join(&mut waiters.lock(), ms)?;
        let mut place = Place { store: self, ticket: Some(ticket) };
        self.serve_waiters();
        place.granted(clock.sleep_until(until)).await.ok_or(Error::Exhausted)
    }
}

/// Leases for somebody who may go away before it hears of them.
pub(super) struct Given<'a, C: Clock> {
    pub(super) store: &'a Memory<C>,
    pub(super) leases: Vec<Lease>,
}

impl<C: Clock> Drop for Given<'_, C> {
    fn drop(&mut self) {
        if !self.leases.is_empty() {
            // There may be very many: the sweep takes them back step by step.
            self.store.shared.given_up.lock().append(&mut self.leases);
            self.store.shared.sweep_is_wanted.notify_one();
        }
    }
}

/// A place in the queue. Who gives it up takes no key along.
struct Place<'a, C: Clock> {
    store: &'a Memory<C>,
    ticket: Option<Ticket>,
}

impl<C: Clock> Place<'_, C> {
    /// What was granted, before `time_is_up` is ready or at that very moment.
    async fn granted(&mut self, time_is_up: impl Future<Output = ()>) -> Option<Lease> {
        let granted = &mut self.ticket.as_mut()?.granted;
        tokio::select! {
            biased;
            lease = granted => {
                self.ticket = None;
                return lease.ok();
            }
            () = time_is_up => {}
        }
        self.store.serve_waiters();
        self.leave()
    }

    fn leave(&mut self) -> Option<Lease> {
        self.store.shared.waiters.leave(&mut self.ticket.take()?)
    }
}

impl<C: Clock> Drop for Place<'_, C> {
    fn drop(&mut self) {
        if let Some(lease) = self.leave() {
            self.store.take_back(&lease);
            self.store.serve_waiters();
        }
    }
}
