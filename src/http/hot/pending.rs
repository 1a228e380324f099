//! Answers of a connection that must be sent after one that is not there yet.

use std::time::Instant;

use super::parse::Hot;
use crate::key::Lease;
use crate::store::{Outcome, lease_of};

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

enum Slot {
    Answer(PendingAnswer),
    Waiting { token: u64, request: Hot, began: Instant },
}

impl Pending {
    pub(super) fn push_answer(&mut self, answer: PendingAnswer) {
        self.slots.push(Slot::Answer(answer));
    }

    pub(super) fn push_waiting(&mut self, token: u64, request: Hot) {
        self.slots.push(Slot::Waiting { token, request, began: Instant::now() });
    }

    /// The request that waits for an operation, and since when.
    pub(super) fn request(&self, wanted: u64) -> Option<(Hot, Instant)> {
        self.slots.iter().find_map(|slot| match slot {
            Slot::Waiting { token, request, began } if *token == wanted => Some((*request, *began)),
            _ => None,
        })
    }

    /// Puts an answer in the place of what waited for it.
    pub(super) fn put(&mut self, wanted: u64, answer: PendingAnswer) {
        let is_it =
            |slot: &&mut Slot| matches!(slot, Slot::Waiting { token, .. } if *token == wanted);
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
            Slot::Waiting { .. } => None,
        };
        self.slots.iter().filter_map(lease).collect()
    }
}
