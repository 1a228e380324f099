//! A store that hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::sleep;
use std::time::Duration;

use token_orchestrator::error::Error;
use token_orchestrator::key::Lease;
use token_orchestrator::pool::PoolId;
use token_orchestrator::store::{Answer, Later, Operation, Stats, Store, Ticket};
use token_orchestrator::time::Timestamp;

/// A store that hangs in every operation, and keeps its thread, for as long as it is told to.
#[derive(Clone)]
pub(crate) struct Stuck<S> {
    store: S,
    hangs: Arc<AtomicBool>,
    hanging: Arc<AtomicUsize>,
}

impl<S> Stuck<S> {
    pub(crate) fn new(store: S) -> Self {
        Self { store, hangs: Arc::default(), hanging: Arc::default() }
    }

    pub(crate) fn set_hangs(&self, hangs: bool) {
        self.hangs.store(hangs, SeqCst);
    }

    /// How many threads hang.
    pub(crate) fn hanging(&self) -> usize {
        self.hanging.load(SeqCst)
    }
}

impl<S: Store> Store for Stuck<S> {
    fn execute(
        &self,
        operations: &[(PoolId, Operation<'_>)],
        answers: &mut Vec<Answer>,
        later: &Later,
    ) {
        self.hanging.fetch_add(1, SeqCst);
        while self.hangs.load(SeqCst) {
            sleep(Duration::from_millis(1));
        }
        self.hanging.fetch_sub(1, SeqCst);
        self.store.execute(operations, answers, later);
    }

    fn cancel(&self, ticket: Ticket) {
        self.store.cancel(ticket);
    }

    fn give_back(&self, leases: Vec<Lease>) {
        self.store.give_back(leases);
    }

    async fn stats_of(&self, pool: PoolId) -> Result<Stats, Error> {
        self.store.stats_of(pool).await
    }

    fn unix_ms(&self, at: Timestamp) -> u64 {
        self.store.unix_ms(at)
    }
}
