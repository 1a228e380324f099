//! Serving the clients that wait for a key.

use std::sync::Arc;

use super::one_pool::OnePool;
use super::queue::{Queue, Waiter};
use crate::engine::fail_point::FailPoint;
use crate::engine::{HolderCursor, Terms};
use crate::error::Error;
use crate::key::{Label, Lease};
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
            // Once it has room, the sweep looks at all pools.
            || self.shared.is_full()
            || waiters.is_quiet(self.keys().label_offers())
            || !matches!(self.serve_queue(&mut waiters.lock()), Served::Unknown)
    }

    /// Serves the waiter that came first of those for whom there is a key.
    fn serve_queue(&self, queue: &mut Queue) -> Served {
        // Before the search: what is made free meanwhile counts as news.
        let offers = self.keys().label_offers();
        let served = self.serve_lines(queue);
        if matches!(served, Served::Exhausted) {
            self.pool.waiters.note_quiet(queue, offers);
        }
        served
    }

    fn serve_lines(&self, queue: &mut Queue) -> Served {
        let (mut steps, mut from, now) = (Self::SERVED_STEPS, 0, self.now());
        if queue.has_labels() {
            // Only then a label tells that a key is free whose lease has just run out. Without that, one that takes
            // any key would overtake those that wait for the label.
            let ended = self.keys().end_blocks(now, steps);
            steps -= ended.min(steps);
            if steps == 0 {
                return Served::Unknown;
            }
        }
        for _ in 0..Self::SERVED_MAX {
            let any = queue.first_of_any().map(|(number, _)| number);
            let labeled = queue.first_of_label(from, |label| self.keys().pushes(label));
            let (number, label) = match (any, &labeled) {
                (None, None) if queue.is_empty() => return Served::All,
                (None, None) => return Served::Exhausted,
                (Some(any), Some((number, label, _))) if *number < any => (*number, Some(label)),
                (None, Some((number, label, _))) => (*number, Some(label)),
                (Some(any), _) => (any, None),
            };
            let waiter = match label {
                Some(label) => queue.of_label(label, number),
                None => queue.first_of_any().map(|(_, waiter)| waiter),
            };
            let Waiter { lease_ms, holder, .. } = waiter.expect("it is there");
            let terms = Terms { lease_ms: *lease_ms, label, holder: holder.as_ref() };
            match self.keys().lease_within(now, terms, &mut rand::rng(), &mut steps) {
                None => return Served::Unknown,
                Some(Err(Error::Exhausted { .. })) => match &labeled {
                    // Others may wait for other labels.
                    Some((head, label, pushes)) if *head == number => {
                        queue.note_search(label, *pushes);
                        from = number + 1;
                    }
                    // No key is free at all.
                    _ => return Served::Exhausted,
                },
                Some(Err(refusal)) => {
                    let waiter = self.pool.waiters.pop(queue, number).expect("it was there");
                    self.complete(&waiter, Err(refusal));
                }
                Some(Ok(leased)) => {
                    let leased = self.named_with_value(leased);
                    let lease = leased.lease;
                    self.note_deadline(lease.until);
                    let waiter = self.pool.waiters.pop(queue, number).expect("it was there");
                    if self.complete(&waiter, Ok(Reply::LeasedLate(leased))) {
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
            self.keys().give_back(lease, self.now());
        }
    }

    /// Takes back some of the leases that have a holder of this name. Returns whether none is left, and how many it has
    /// taken back.
    pub(super) fn take_back_some(&self, holder: &str, cursor: &mut HolderCursor) -> (bool, u64) {
        let (now, mut released) = (self.now(), Vec::new());
        let seen = self.keys().release_all_of(holder, now, Self::STEP, cursor, &mut released);
        for id in &released {
            self.shared.requests.ended(self.pool.id, id, |held| self.lasting(held, now));
        }
        self.serve_waiters();
        (seen < Self::STEP, released.len() as u64)
    }

    /// Leases a key once all earlier waiters are served. The lease joins the queue if it has a waiting time
    /// and no key is free, or if it takes long to tell.
    pub(super) fn lease_or_wait(
        &self,
        leasing: &Leasing,
        request: Option<RequestKey>,
        mut now: Timestamp,
        later: &Later,
        token: u64,
    ) -> Answer {
        let waiters = &self.pool.waiters;
        let (terms, label) = (self.terms(leasing), leasing.label.as_ref());
        let mut steps = Self::STEP;
        let served = loop {
            match self.serve_before(label) {
                Served::All => {}
                // It would be refused when its turn comes.
                _ if !self.may_hold(leasing, now, &mut steps) => {
                    return Answer::Now(Err(Error::TooManyHeld));
                }
                served => break served,
            }
            match self.keys().lease_within(now, terms, &mut rand::rng(), &mut steps) {
                Some(Ok(leased)) => {
                    self.note_deadline(leased.until);
                    return Answer::Now(Ok(Reply::Leased(self.named_with_value(leased))));
                }
                Some(Err(error @ Error::TooManyHeld)) => return Answer::Now(Err(error)),
                Some(Err(_)) => {
                    // Another lease may have ended since `now` was read for the whole group. Then its key is for
                    // those that wait first.
                    let latest = self.now();
                    if latest == now {
                        break Served::Exhausted;
                    }
                    now = latest;
                }
                // Many keys have just died: the sweep continues the search.
                None => break Served::Unknown,
            }
        };
        if leasing.wait_ms == 0 && matches!(served, Served::Exhausted) {
            return Answer::Now(Err(self.exhausted(now)));
        }
        let until = now.plus_ms(u64::from(leasing.wait_ms));
        let (lease_ms, holder) = (terms.lease_ms, leasing.holder.clone());
        let receiver = Arc::clone(&later.receiver);
        let waiter = Waiter { lease_ms, holder, request, until, receiver, token };
        let joined = waiters.join(&mut waiters.lock(), waiter, label, leasing.wait_ms > 0);
        match joined {
            Ok(number) => {
                self.note_deadline(until);
                self.serve_waiters();
                Answer::Later(Ticket { pool: self.pool.id, number })
            }
            Err(error) => Answer::Now(Err(error)),
        }
    }

    /// Serves those that come before a lease with this label, or of any key. [`Served::All`] if none of them waits for
    /// what it could take.
    fn serve_before(&self, label: Option<&Label>) -> Served {
        let waiters = &self.pool.waiters;
        if waiters.is_empty() || label.is_none() && self.is_quiet() {
            return Served::All;
        }
        let mut queue = waiters.lock();
        match self.serve_queue(&mut queue) {
            // There may be keys that none of those who wait can take.
            Served::Exhausted if !queue.competes_with(label) => Served::All,
            served => served,
        }
    }

    /// Whether nobody waits who could have a key that is free now, or whose lease has just run out.
    pub(super) fn is_quiet(&self) -> bool {
        let keys = self.keys();
        self.pool.waiters.is_quiet(keys.label_offers()) && !keys.has_due_block(self.now())
    }

    /// Whether the quota of the holder has room for one lease more, if it has one; also if that takes too long to tell.
    fn may_hold(&self, leasing: &Leasing, now: Timestamp, steps: &mut usize) -> bool {
        let holder = leasing.holder.as_ref();
        holder.is_none_or(|holder| {
            !matches!(self.keys().room_within(holder, now, steps), Some(Err(_)))
        })
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
