//! Answers that must wait for an earlier one, which the store completes later.

use std::time::Instant;

use crate::http::api::Turn;
use crate::http::audit::Entry;
use crate::http::route::Route;
use crate::key::{KeyId, Lease};
use crate::store::{Outcome, Ticket, lease_of};

/// The answers to pipelined requests of one connection, in their order, from the first one that is not there
/// yet.
#[derive(Default)]
pub(super) struct Pending {
    slots: Vec<Slot>,
}

/// An answer that is ready to be sent when its turn comes.
pub(super) struct PendingAnswer {
    bytes: Vec<u8>,
    /// The lease in it, which goes back to the store if it cannot be sent.
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
    /// The key that the request names.
    pub(super) id: Option<KeyId>,
    pub(super) began: Instant,
}

enum Slot {
    Answer(PendingAnswer),
    /// Keeps the turn, if it waits for a key, and the entry in the audit log, if it has one.
    Waiting(
        Waiting,
        #[expect(dead_code, reason = "it is given back when it is dropped")] Option<Turn>,
        Option<Box<Entry>>,
    ),
}

/// A client that waits costs this, and there may be very many.
const _: () = assert!(size_of::<Slot>() <= 96);

impl Pending {
    pub(super) fn push_answer(&mut self, answer: PendingAnswer) {
        self.slots.push(Slot::Answer(answer));
    }

    pub(super) fn push_waiting(
        &mut self,
        waiting: Waiting,
        turn: Option<Turn>,
        entry: Option<Box<Entry>>,
    ) {
        if self.slots.is_empty() {
            // Nearly always there is only this one.
            self.slots.reserve_exact(1);
        }
        self.slots.push(Slot::Waiting(waiting, turn, entry));
    }

    fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Waiting(waiting, ..) => Some(waiting),
            Slot::Answer(_) => None,
        })
    }

    /// The request that waits for an operation. O(p) for p pipelined requests.
    pub(super) fn request(&self, token: u64) -> Option<Waiting> {
        self.waiting().find(|waiting| waiting.token == token).copied()
    }

    /// The tickets of leases that wait for a key. O(p) for p pipelined requests.
    pub(super) fn waiting_leases(&self) -> impl Iterator<Item = Ticket> {
        self.waiting().filter(|waiting| waiting.route.may_wait()).map(|waiting| waiting.ticket)
    }

    /// Takes the entry of the request that waits for an operation. O(p) for p pipelined requests.
    pub(super) fn take_entry(&mut self, token: u64) -> Option<Box<Entry>> {
        self.slots.iter_mut().find_map(|slot| match slot {
            Slot::Waiting(waiting, _, entry) if waiting.token == token => entry.take(),
            _ => None,
        })
    }

    /// Puts an answer into the place that waits for it. O(p) for p pipelined requests.
    pub(super) fn put(&mut self, wanted: u64, answer: PendingAnswer) {
        let is_it = |slot: &&mut Slot| matches!(slot, Slot::Waiting(waiting, ..) if waiting.token == wanted);
        if let Some(slot) = self.slots.iter_mut().find(is_it) {
            *slot = Slot::Answer(answer);
        }
    }

    /// Moves the answers that can be sent now to `output`, and returns the leases in them.
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

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many bytes the answers have. O(p) for p pipelined requests.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |slot: &Slot| match slot {
            Slot::Answer(answer) => answer.bytes.len(),
            Slot::Waiting(..) => 0,
        };
        self.slots.iter().map(bytes).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The leases in the answers.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let lease = |slot: &Slot| match slot {
            Slot::Answer(answer) => answer.lease,
            Slot::Waiting(..) => None,
        };
        self.slots.iter().filter_map(lease).collect()
    }
}
