//! Answers of a connection that must be sent after one that is not there yet.

use std::time::Instant;

use crate::http::route::Route;
use crate::key::{KeyId, Lease};
use crate::store::{Outcome, Ticket, lease_of};

/// The answers to pipelined requests, in their order, from the first one that the store completes
/// later.
#[derive(Default)]
pub(super) struct Pending {
    slots: Vec<Slot>,
}

/// An answer that must not be sent yet.
pub(super) struct PendingAnswer {
    bytes: Vec<u8>,
    /// The lease that it tells of.
    lease: Option<Lease>,
}

impl PendingAnswer {
    pub(super) fn new(bytes: Vec<u8>, outcome: &Outcome) -> Self {
        Self { bytes, lease: lease_of(outcome) }
    }
}

/// A request that waits for the outcome of its operation.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) token: u64,
    pub(super) ticket: Ticket,
    pub(super) route: Route,
    /// The key that it names.
    pub(super) id: Option<KeyId>,
    pub(super) began: Instant,
}

enum Slot {
    Answer(PendingAnswer),
    Waiting(Waiting),
}

impl Pending {
    pub(super) fn push_answer(&mut self, answer: PendingAnswer) {
        self.slots.push(Slot::Answer(answer));
    }

    pub(super) fn push_waiting(&mut self, waiting: Waiting) {
        if self.slots.is_empty() {
            // Nearly always it is the only one.
            self.slots.reserve_exact(1);
        }
        self.slots.push(Slot::Waiting(waiting));
    }

    fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Waiting(waiting) => Some(waiting),
            Slot::Answer(_) => None,
        })
    }

    /// The request that waits for an operation.
    pub(super) fn request(&self, token: u64) -> Option<Waiting> {
        self.waiting().find(|waiting| waiting.token == token).copied()
    }

    /// The leases that wait for a key.
    pub(super) fn waiting_leases(&self) -> impl Iterator<Item = Ticket> {
        self.waiting().filter(|waiting| waiting.route.may_wait()).map(|waiting| waiting.ticket)
    }

    /// Puts an answer in the place of what waited for it.
    pub(super) fn put(&mut self, wanted: u64, answer: PendingAnswer) {
        let is_it =
            |slot: &&mut Slot| matches!(slot, Slot::Waiting(waiting) if waiting.token == wanted);
        if let Some(slot) = self.slots.iter_mut().find(is_it) {
            *slot = Slot::Answer(answer);
        }
    }

    /// Takes the answers out that can be sent; the leases that they tell of.
    pub(super) fn take_ready(&mut self, output: &mut Vec<u8>) -> Vec<Lease> {
        let is_ready = |slot: &Slot| matches!(slot, Slot::Answer(_));
        let ready = self.slots.iter().take_while(|slot| is_ready(slot)).count();
        let mut leases = Vec::new();
        for slot in self.slots.drain(..ready) {
            if let Slot::Answer(PendingAnswer { bytes, lease }) = slot {
                output.extend_from_slice(&bytes);
                leases.extend(lease);
            }
        }
        leases
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The leases that the answers tell of.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let lease = |slot: &Slot| match slot {
            Slot::Answer(answer) => answer.lease,
            Slot::Waiting(_) => None,
        };
        self.slots.iter().filter_map(lease).collect()
    }
}
