//! Creations of many keys, for the sweep to carry out.

use std::collections::HashSet;
use std::mem::take;
use std::sync::Arc;

use crate::error::Error;
use crate::pool::PoolId;
use crate::store::operation::{Outcome, Ticket};
use crate::store::port::Complete;

/// How long a client should wait before it repeats a creation that was cut off.
const RETRY_AFTER_MS: u64 = 1000;

/// A creation, and the receiver of its outcome. If it is dropped before it is complete, the outcome is
/// [`Error::Unavailable`].
pub(super) struct Creation {
    pub(super) ticket: Ticket,
    pub(super) count: usize,
    token: u64,
    receiver: Option<Arc<dyn Complete>>,
}

impl Creation {
    pub(super) fn complete(mut self, outcome: Outcome) {
        if let Some(receiver) = self.receiver.take() {
            // If nobody wants the keys, they live for their key TTL.
            receiver.complete(self.token, outcome);
        }
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            let error = Error::Unavailable { retry_after_ms: RETRY_AFTER_MS };
            receiver.complete(self.token, Err(error));
        }
    }
}

/// The creations that are not complete.
#[derive(Default)]
pub(super) struct Creations {
    next: u64,
    new: Vec<Creation>,
    /// The tickets of those that were not cancelled.
    wanted: HashSet<u64>,
}

impl Creations {
    /// Tickets of creations have this bit, those of waiters do not.
    const BIT: u64 = 1 << 63;

    /// Adds a creation. O(1).
    pub(super) fn add(
        &mut self,
        pool: PoolId,
        count: usize,
        receiver: Arc<dyn Complete>,
        token: u64,
    ) -> Ticket {
        let ticket = Ticket { pool, number: Self::BIT | self.next };
        self.next += 1;
        self.wanted.insert(ticket.number);
        self.new.push(Creation { ticket, count, token, receiver: Some(receiver) });
        ticket
    }

    /// Takes out the creations that have not begun, but for cancelled ones. O(c) for c creations.
    pub(super) fn take_new(&mut self) -> Vec<Creation> {
        let mut new = take(&mut self.new);
        new.retain(|creation| self.wanted.contains(&creation.ticket.number));
        new
    }

    /// Forgets a creation that is complete or cancelled. O(1).
    pub(super) fn forget(&mut self, ticket: Ticket) {
        self.wanted.remove(&ticket.number);
        if self.wanted.is_empty() {
            self.wanted = HashSet::new();
        }
    }

    /// Whether a creation was not cancelled. O(1).
    pub(super) fn is_wanted(&self, ticket: Ticket) -> bool {
        self.wanted.contains(&ticket.number)
    }
}
