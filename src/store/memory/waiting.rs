//! Serving the clients that wait for a key.

use std::sync::Arc;

use super::one_pool::OnePool;
use super::queue::{Queue, Waiter};
use crate::engine::fail_point::FailPoint;
use crate::error::Error;
use crate::key::{Fence, Lease};
use crate::store::operation::{Answer, Leasing, Outcome, Reply, RequestKey, Ticket};
use crate::store::port::Later;
use crate::time::{Clock, Timestamp};

/// How far serving the waiters has come.
enum Served {
    /// No waiter is left.
    All,
    /// Waiters are left, and no key is free.
    Exhausted,
    /// It takes more steps to tell.
    Unknown,
}

impl<C: Clock> OnePool<'_, C> {
    /// How many waiters are served before the queue's lock is released.
    const SERVED_MAX: usize = 16;
    /// How many keys may be tried in vain before that, for all these waiters together.
    const SERVED_STEPS: usize = 64;

    /// Gives free keys to waiters, after anything that may have freed some. What takes too long is left to
    /// the sweep.
    pub(super) fn serve_waiters(&self) {
        if !self.serve_some_waiters() {
            self.ring();
        }
    }

    /// Gives free keys to waiters. False if that takes too long to be done now.
    pub(super) fn serve_some_waiters(&self) -> bool {
        let waiters = &self.pool.waiters;
        waiters.is_empty_after_freeing()
            || !matches!(self.serve_queue(&mut waiters.lock()), Served::Unknown)
    }

    fn serve_queue(&self, queue: &mut Queue) -> Served {
        let mut steps = Self::SERVED_STEPS;
        for _ in 0..Self::SERVED_MAX {
            let Some(ms) = queue.next_lease_ms() else { return Served::All };
            match self.keys().lease_within(self.now(), ms, &mut rand::rng(), &mut steps) {
                None => return Served::Unknown,
                Some(Err(_)) => return Served::Exhausted,
                Some(Ok(lease)) => {
                    self.note_deadline(lease.until);
                    let lease = self.named(lease);
                    let waiter = self.pool.waiters.pop_first(queue).expect("it was there");
                    if self.complete(&waiter, Ok(Reply::Leased(lease))) {
                        self.pool.waiters.count_granted();
                    } else {
                        self.take_back(&lease);
                    }
                }
            }
        }
        Served::Unknown
    }

    /// Delivers the outcome to a waiter. False if it is not wanted any more.
    pub(super) fn complete(&self, waiter: &Waiter, outcome: Outcome) -> bool {
        if let Some(request) = &waiter.request {
            self.shared.requests.settle(request, &outcome);
        }
        waiter.receiver.complete(waiter.token, outcome)
    }

    /// Refuses some of the waiters whose time is up, now that no key is free. False if there may be more.
    pub(super) fn end_waits(&self) -> bool {
        let waiters = &self.pool.waiters;
        if waiters.is_empty() {
            return true;
        }
        let now = self.now();
        for _ in 0..Self::SERVED_MAX {
            let Some(waiter) = waiters.pop_ended(&mut waiters.lock(), now) else { return true };
            self.complete(&waiter, Err(self.exhausted(now)));
        }
        false
    }

    /// Takes back a lease that no client has received.
    pub(super) fn take_back(&self, lease: &Lease) {
        if self.shared.requests.give_up(lease) {
            // An error means that it is over already.
            let fence = Fence::One(lease.generation);
            let _ = self.keys().release(&lease.id, self.now(), fence, 0);
        }
    }

    /// Leases a key once all earlier waiters are served. The lease joins the queue if it has a waiting time
    /// and no key is free, or if it takes long to tell.
    pub(super) fn lease_or_wait(
        &self,
        leasing: Leasing,
        request: Option<RequestKey>,
        mut now: Timestamp,
        later: &Later,
        token: u64,
    ) -> Answer {
        let waiters = &self.pool.waiters;
        let lease_ms = self.lease_ms(leasing);
        let served =
            if waiters.is_empty() { Served::All } else { self.serve_queue(&mut waiters.lock()) };
        let mut steps = Self::STEP;
        let served = match served {
            Served::All => loop {
                match self.keys().lease_within(now, lease_ms, &mut rand::rng(), &mut steps) {
                    Some(Ok(lease)) => {
                        self.note_deadline(lease.until);
                        return Answer::Now(Ok(Reply::Leased(self.named(lease))));
                    }
                    Some(Err(_)) => {
                        // Another lease may have ended since `now` was read for the whole group.
                        let latest = self.now();
                        if latest == now {
                            break Served::Exhausted;
                        }
                        now = latest;
                    }
                    // Many keys have just died: the sweep continues the search.
                    None => break Served::Unknown,
                }
            },
            served => served,
        };
        if leasing.wait_ms == 0 && matches!(served, Served::Exhausted) {
            return Answer::Now(Err(self.exhausted(now)));
        }
        let until = now.plus_ms(u64::from(leasing.wait_ms));
        let waiter =
            Waiter { lease_ms, until, request, receiver: Arc::clone(&later.receiver), token };
        let joined = waiters.join(&mut waiters.lock(), waiter, leasing.wait_ms > 0);
        match joined {
            Ok(number) => {
                self.note_deadline(until);
                self.serve_waiters();
                Answer::Later(Ticket { pool: self.pool.id, number })
            }
            Err(error) => Answer::Now(Err(error)),
        }
    }

    /// The refusal when no key is free. It says when the next one may be.
    pub(super) fn exhausted(&self, now: Timestamp) -> Error {
        let next = self.keys().next_release_within(now, Self::STEP);
        // If that takes long to find out, the client may try again at once.
        let retry_after_ms = next.unwrap_or(Some(now)).map(|at| at.ms_since(now));
        Error::Exhausted { retry_after_ms }
    }

    /// Serves waiters after a release.
    pub(super) fn serve_after_release(&self) {
        if !FailPoint::ReleaseServesNobody.is_on() {
            self.serve_waiters();
        }
    }
}
