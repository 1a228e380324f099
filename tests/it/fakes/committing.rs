//! A store that makes nothing durable until the test says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Waker;

use parking_lot::Mutex;
use token_orchestrator::error::Error;
use token_orchestrator::key::Lease;
use token_orchestrator::pool::{PoolId, PoolName, Settings};
use token_orchestrator::store::{
    Answer, CommitPoint, Imported, Inventory, Later, Listed, Operation, OwnKey, Stats, Store,
    Ticket, Wanted,
};
use token_orchestrator::time::Timestamp;
use tokio::sync::watch;

/// Operations in a group.
pub(crate) const GROUP: usize = 32;

/// A store whose answers must not leave while it withholds commits: each time it is asked what they rest on, it names a new
/// point. Its operations take effect at once.
#[derive(Clone)]
pub(crate) struct Committing<S> {
    /// What is below, which withholds nothing.
    pub(crate) inner: S,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    points: Mutex<Points>,
    /// Whether the async methods wait.
    withholds_all: watch::Sender<bool>,
    executed: AtomicUsize,
    looks: AtomicUsize,
    awaiting: AtomicUsize,
}

#[derive(Default)]
struct Points {
    withholds: bool,
    asked: u64,
    committed: u64,
    wakers: Vec<(CommitPoint, Waker)>,
}

impl<S: Store> Committing<S> {
    /// At first it commits at once.
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, log: Arc::default() }
    }

    /// From now on what operations answer is not durable. What the async methods return is.
    pub(crate) fn withhold(&self) {
        self.log.points.lock().withholds = true;
    }

    /// From now on nothing is durable.
    pub(crate) fn withhold_all(&self) {
        self.withhold();
        self.log.withholds_all.send_replace(true);
    }

    /// Commits up to a point: as many as were asked for before it, and itself.
    pub(crate) fn commit(&self, point: u64) {
        let mut points = self.log.points.lock();
        points.committed = points.committed.max(point);
        let committed = CommitPoint(points.committed);
        let due: Vec<_> = points.wakers.extract_if(.., |(at, _)| *at <= committed).collect();
        drop(points);
        for (_, waker) in due {
            waker.wake();
        }
    }

    /// Commits all, and all that follows.
    pub(crate) fn open(&self) {
        self.log.points.lock().withholds = false;
        self.commit(self.asked());
        self.log.withholds_all.send_replace(false);
    }

    /// The last point that was named.
    pub(crate) fn asked(&self) -> u64 {
        self.log.points.lock().asked
    }

    /// How many answers, or groups of them, have begun to wait.
    pub(crate) fn waits(&self) -> usize {
        usize::try_from(self.asked()).unwrap() + self.log.awaiting.load(SeqCst)
    }

    /// How many operations were executed.
    pub(crate) fn executed(&self) -> usize {
        self.log.executed.load(SeqCst)
    }

    /// How often anybody has looked whether something is durable.
    pub(crate) fn looks(&self) -> usize {
        self.log.looks.load(SeqCst)
    }

    /// What an async method returns, once that is durable.
    async fn durable<T>(&self, returned: impl Future<Output = T>) -> T {
        let returned = returned.await;
        let mut withholds = self.log.withholds_all.subscribe();
        if *withholds.borrow() {
            self.log.awaiting.fetch_add(1, SeqCst);
        }
        withholds.wait_for(|withholds| !withholds).await.expect("the log is there");
        returned
    }
}

impl<S: Store> Store for Committing<S> {
    fn execute(
        &self,
        operations: &[(PoolId, Operation<'_>)],
        answers: &mut Vec<Answer>,
        later: &Later,
    ) {
        self.log.executed.fetch_add(operations.len(), SeqCst);
        self.inner.execute(operations, answers, later);
    }

    fn cancel(&self, ticket: Ticket) {
        self.inner.cancel(ticket);
    }

    fn give_back(&self, leases: Vec<Lease>) {
        self.inner.give_back(leases);
    }

    fn uncommitted(&self) -> Option<CommitPoint> {
        self.log.looks.fetch_add(1, SeqCst);
        let mut points = self.log.points.lock();
        points.withholds.then(|| {
            points.asked += 1;
            CommitPoint(points.asked)
        })
    }

    fn is_committed(&self, point: CommitPoint) -> bool {
        self.log.looks.fetch_add(1, SeqCst);
        point.0 <= self.log.points.lock().committed
    }

    fn wake_when_committed(&self, point: CommitPoint, waker: &Waker) {
        let mut points = self.log.points.lock();
        if point.0 <= points.committed {
            drop(points);
            return waker.wake_by_ref();
        }
        points.wakers.push((point, waker.clone()));
    }

    fn commit_group(&self) -> usize {
        GROUP
    }

    async fn stats_of(&self, pool: PoolId) -> Result<Stats, Error> {
        self.durable(self.inner.stats_of(pool)).await
    }

    fn unix_ms(&self, at: Timestamp) -> u64 {
        self.inner.unix_ms(at)
    }

    fn find_pool(&self, name: &str) -> Option<PoolId> {
        self.inner.find_pool(name)
    }

    fn name_of(&self, pool: PoolId) -> Option<PoolName> {
        self.inner.name_of(pool)
    }

    fn pools_version(&self) -> u64 {
        self.inner.pools_version()
    }

    fn settings_of(&self, pool: PoolId) -> Option<Settings> {
        self.inner.settings_of(pool)
    }

    async fn inventory(&self, pool: PoolId, wanted: Wanted<'_>) -> Result<Inventory, Error> {
        self.durable(self.inner.inventory(pool, wanted)).await
    }

    async fn import(&self, pool: PoolId, keys: &[OwnKey]) -> Result<Imported, Error> {
        self.durable(self.inner.import(pool, keys)).await
    }

    async fn take_back_from(&self, pool: PoolId, holder: &str) -> Result<u64, Error> {
        self.durable(self.inner.take_back_from(pool, holder)).await
    }

    async fn put_pool(&self, name: PoolName, settings: Settings) -> Result<bool, Error> {
        self.durable(self.inner.put_pool(name, settings)).await
    }

    async fn delete_pool(&self, name: &str, with_keys: bool) -> Result<(), Error> {
        self.durable(self.inner.delete_pool(name, with_keys)).await
    }

    async fn list_pools(&self, after: Option<&str>, limit: usize) -> Result<Vec<Listed>, Error> {
        self.durable(self.inner.list_pools(after, limit)).await
    }
}
