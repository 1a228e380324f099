//! A store that cannot be reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use token_orchestrator::error::Error;
use token_orchestrator::key::Lease;
use token_orchestrator::pool::{PoolId, PoolName, Settings};
use token_orchestrator::store::{
    Answer, Imported, Inventory, Later, Listed, Operation, OwnKey, Stats, Store, Ticket, Wanted,
};
use token_orchestrator::time::Timestamp;

/// After which time a store that fails may be tried again.
pub(crate) const RETRY_AFTER_MS: u64 = 2500;

/// A store that carries out some operations, and fails then: each operation, and its counts.
#[derive(Clone)]
pub(crate) struct Failing<S> {
    store: S,
    /// How many operations do not fail.
    left: Arc<AtomicUsize>,
}

impl<S: Store> Failing<S> {
    /// It fails at once.
    pub(crate) fn new(store: S) -> Self {
        Self::after(store, 0)
    }

    /// It carries out so many operations first.
    pub(crate) fn after(store: S, operations: usize) -> Self {
        Self { store, left: Arc::new(AtomicUsize::new(operations)) }
    }

    /// It can be reached again.
    pub(crate) fn recover(&self) {
        self.left.store(usize::MAX, SeqCst);
    }

    /// Whether it carries out one more operation.
    fn admit(&self) -> Result<(), Error> {
        let left = self.left.fetch_update(SeqCst, SeqCst, |left| match left {
            usize::MAX => Some(left),
            _ => left.checked_sub(1),
        });
        left.map(drop).map_err(|_| Error::Unavailable { retry_after_ms: RETRY_AFTER_MS })
    }
}

impl<S: Store> Store for Failing<S> {
    fn execute(
        &self,
        operations: &[(PoolId, Operation<'_>)],
        answers: &mut Vec<Answer>,
        later: &Later,
    ) {
        for (operation, first_token) in operations.iter().zip(later.first_token..) {
            let receiver = Arc::clone(&later.receiver);
            match self.admit() {
                Ok(()) => {
                    self.store.execute(
                        std::slice::from_ref(operation),
                        answers,
                        &Later { receiver, first_token },
                    );
                }
                Err(error) => answers.push(Answer::Now(Err(error))),
            }
        }
    }

    fn cancel(&self, ticket: Ticket) {
        self.store.cancel(ticket);
    }

    fn give_back(&self, leases: Vec<Lease>) {
        self.store.give_back(leases);
    }

    async fn stats_of(&self, pool: PoolId) -> Result<Stats, Error> {
        if self.left.load(SeqCst) == 0 {
            return Err(Error::Unavailable { retry_after_ms: RETRY_AFTER_MS });
        }
        self.store.stats_of(pool).await
    }

    fn unix_ms(&self, at: Timestamp) -> u64 {
        self.store.unix_ms(at)
    }

    async fn inventory(&self, pool: PoolId, wanted: Wanted<'_>) -> Result<Inventory, Error> {
        self.admit()?;
        self.store.inventory(pool, wanted).await
    }

    async fn import(&self, pool: PoolId, keys: &[OwnKey]) -> Result<Imported, Error> {
        self.admit()?;
        self.store.import(pool, keys).await
    }

    async fn take_back_from(&self, pool: PoolId, holder: &str) -> Result<u64, Error> {
        self.admit()?;
        self.store.take_back_from(pool, holder).await
    }

    async fn put_pool(&self, name: PoolName, settings: Settings) -> Result<bool, Error> {
        self.admit()?;
        self.store.put_pool(name, settings).await
    }

    async fn delete_pool(&self, name: &str, with_keys: bool) -> Result<(), Error> {
        self.admit()?;
        self.store.delete_pool(name, with_keys).await
    }

    async fn list_pools(&self, after: Option<&str>, limit: usize) -> Result<Vec<Listed>, Error> {
        self.admit()?;
        self.store.list_pools(after, limit).await
    }
}
