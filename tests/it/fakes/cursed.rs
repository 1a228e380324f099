//! A store with a bug.

use std::task::Waker;

use token_orchestrator::error::Error;
use token_orchestrator::key::Lease;
use token_orchestrator::pool::PoolId;
use token_orchestrator::store::{Answer, CommitPoint, Later, Operation, Stats, Store, Ticket};
use token_orchestrator::time::Timestamp;

/// The id of a key that must not be named.
pub(crate) const CURSED: &str = "936da01f-9abd-4d9d-80c7-02af85c822a8";

/// A store that panics when an operation names [`CURSED`].
#[derive(Clone)]
pub(crate) struct Cursed<S>(pub(crate) S);

impl<S: Store> Store for Cursed<S> {
    fn execute(
        &self,
        operations: &[(PoolId, Operation<'_>)],
        answers: &mut Vec<Answer>,
        later: &Later,
    ) {
        for id in operations.iter().filter_map(|(_, operation)| operation.id()) {
            assert_ne!(id.to_string(), CURSED, "this is to be seen");
        }
        self.0.execute(operations, answers, later);
    }

    fn cancel(&self, ticket: Ticket) {
        self.0.cancel(ticket);
    }

    fn give_back(&self, leases: Vec<Lease>) {
        self.0.give_back(leases);
    }

    fn uncommitted(&self) -> Option<CommitPoint> {
        self.0.uncommitted()
    }

    fn is_committed(&self, point: CommitPoint) -> bool {
        self.0.is_committed(point)
    }

    fn wake_when_committed(&self, point: CommitPoint, waker: &Waker) {
        self.0.wake_when_committed(point, waker);
    }

    async fn stats_of(&self, pool: PoolId) -> Result<Stats, Error> {
        self.0.stats_of(pool).await
    }

    fn unix_ms(&self, at: Timestamp) -> u64 {
        self.0.unix_ms(at)
    }
}
