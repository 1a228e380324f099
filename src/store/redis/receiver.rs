//! Receivers of outcomes.

use std::sync::Arc;

use crate::key::Lease;
use crate::store::operation::{Outcome, lease_of};
use crate::store::port::Complete;

/// What receives the outcome of an operation.
#[derive(Clone)]
pub(super) struct Receiver {
    pub(super) receiver: Arc<dyn Complete>,
    pub(super) token: u64,
}

impl Receiver {
    /// Delivers an outcome. Returns the lease in it if nobody wants it.
    #[must_use]
    pub(super) fn complete(&self, outcome: Outcome) -> Option<Lease> {
        let lease = lease_of(&outcome);
        let is_wanted = self.receiver.complete(self.token, outcome);
        lease.filter(|_| !is_wanted)
    }

    /// Delivers an outcome that has no lease.
    pub(super) fn tell(&self, outcome: Outcome) {
        let unwanted = self.complete(outcome);
        debug_assert!(unwanted.is_none(), "it has a lease");
    }
}
