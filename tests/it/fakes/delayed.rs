//! A store whose answers come late, as if it were remote.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use token_orchestrator::error::Error;
use token_orchestrator::key::Lease;
use token_orchestrator::pool::{PoolId, PoolName, Settings};
use token_orchestrator::store::{
    Answer, Complete, Imported, Inventory, Later, Listed, Operation, Outcome, OwnKey, Reply, Stats,
    Store, Ticket, Wanted,
};
use token_orchestrator::time::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// How late an answer is.
const DELAY: Duration = Duration::from_millis(1);

/// A store whose answers come a millisecond later, never at once. Operations take effect at once.
#[derive(Clone)]
pub(crate) struct Delayed<S> {
    store: S,
    is_late: fn(&Operation<'_>) -> bool,
    timer: Timer,
    is_open: Arc<watch::Sender<bool>>,
}

/// Completes operations when their time has come: a task does.
#[derive(Clone)]
struct Timer {
    due: mpsc::UnboundedSender<Due>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    begun: AtomicUsize,
    pending: AtomicUsize,
    pending_max: AtomicUsize,
}

/// An outcome that is on its way.
struct Due {
    at: Instant,
    receiver: Arc<dyn Complete>,
    token: u64,
    outcome: Outcome,
}

impl<S: Store + Clone> Delayed<S> {
    /// All answers are late.
    pub(crate) fn new(store: S) -> Self {
        Self::only(store, |_| true)
    }

    /// The answers to some operations are late, the others come at once.
    pub(crate) fn only(store: S, is_late: fn(&Operation<'_>) -> bool) -> Self {
        let (due, dues) = mpsc::unbounded_channel();
        let timer = Timer { due, counts: Arc::default() };
        let is_open = Arc::new(watch::Sender::new(true));
        tokio::spawn(run(store.clone(), dues, is_open.subscribe(), Arc::clone(&timer.counts)));
        Self { store, is_late, timer, is_open }
    }

    /// From now on nothing is completed.
    pub(crate) fn suspend(&self) {
        self.is_open.send_replace(false);
    }

    /// What was suspended is completed.
    pub(crate) fn resume(&self) {
        self.is_open.send_replace(true);
    }

    /// How many operations were begun whose answers are late.
    pub(crate) fn begun(&self) -> usize {
        self.timer.counts.begun.load(SeqCst)
    }

    /// How many of them are not completed.
    pub(crate) fn pending(&self) -> usize {
        self.timer.counts.pending.load(SeqCst)
    }

    /// How many of them were not completed at the same moment, at most.
    pub(crate) fn pending_max(&self) -> usize {
        self.timer.counts.pending_max.load(SeqCst)
    }
}

async fn run<S: Store>(
    store: S,
    mut dues: mpsc::UnboundedReceiver<Due>,
    mut is_open: watch::Receiver<bool>,
    counts: Arc<Counts>,
) {
    while let Some(Due { at, receiver, token, outcome }) = dues.recv().await {
        sleep_until(at).await;
        if is_open.wait_for(|is_open| *is_open).await.is_err() {
            return;
        }
        counts.pending.fetch_sub(1, SeqCst);
        let lease = match &outcome {
            Ok(Reply::Leased(leased) | Reply::LeasedLate(leased)) => Some(leased.lease),
            _ => None,
        };
        if !receiver.complete(token, outcome) {
            store.give_back(lease.into_iter().collect());
        }
    }
}

impl Timer {
    fn begin(&self) {
        self.counts.begun.fetch_add(1, SeqCst);
        let pending = self.counts.pending.fetch_add(1, SeqCst) + 1;
        self.counts.pending_max.fetch_max(pending, SeqCst);
    }

    /// False if nothing is completed any more.
    fn send(&self, receiver: &Arc<dyn Complete>, token: u64, outcome: Outcome) -> bool {
        let (at, receiver) = (Instant::now() + DELAY, Arc::clone(receiver));
        self.due.send(Due { at, receiver, token, outcome }).is_ok()
    }
}

/// Receives what the store itself completes later.
struct Relay {
    receiver: Arc<dyn Complete>,
    timer: Timer,
}

impl Complete for Relay {
    fn complete(&self, token: u64, outcome: Outcome) -> bool {
        self.timer.begin();
        self.timer.send(&self.receiver, token, outcome)
    }
}

impl<S: Store + Clone> Store for Delayed<S> {
    fn execute(
        &self,
        operations: &[(PoolId, Operation<'_>)],
        answers: &mut Vec<Answer>,
        later: &Later,
    ) {
        let (receiver, first_token) = (Arc::clone(&later.receiver), later.first_token);
        let relay = Arc::new(Relay { receiver, timer: self.timer.clone() });
        let first = answers.len();
        self.store.execute(operations, answers, &Later { receiver: relay, first_token });
        let mut tokens = first_token..;
        for (operation, answer) in operations.iter().zip(&mut answers[first..]) {
            let token = tokens.next().expect("tokens do not end");
            if let Answer::Now(outcome) = answer
                && (self.is_late)(&operation.1)
            {
                self.timer.begin();
                self.timer.send(&later.receiver, token, outcome.clone());
                // Nothing that could be cancelled: it has taken effect.
                *answer = Answer::Later(Ticket { pool: PoolId::DEFAULT, number: u64::MAX });
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
        sleep(DELAY).await;
        self.store.stats_of(pool).await
    }

    fn unix_ms(&self, at: Timestamp) -> u64 {
        self.store.unix_ms(at)
    }

    fn find_pool(&self, name: &str) -> Option<PoolId> {
        self.store.find_pool(name)
    }

    fn name_of(&self, pool: PoolId) -> Option<PoolName> {
        self.store.name_of(pool)
    }

    fn pools_version(&self) -> u64 {
        self.store.pools_version()
    }

    fn settings_of(&self, pool: PoolId) -> Option<Settings> {
        self.store.settings_of(pool)
    }

    async fn inventory(&self, pool: PoolId, wanted: Wanted<'_>) -> Result<Inventory, Error> {
        sleep(DELAY).await;
        self.store.inventory(pool, wanted).await
    }

    async fn import(&self, pool: PoolId, keys: &[OwnKey]) -> Result<Imported, Error> {
        sleep(DELAY).await;
        self.store.import(pool, keys).await
    }

    async fn take_back_from(&self, pool: PoolId, holder: &str) -> Result<u64, Error> {
        sleep(DELAY).await;
        self.store.take_back_from(pool, holder).await
    }

    async fn put_pool(&self, name: PoolName, settings: Settings) -> Result<bool, Error> {
        sleep(DELAY).await;
        self.store.put_pool(name, settings).await
    }

    async fn delete_pool(&self, name: &str, with_keys: bool) -> Result<(), Error> {
        sleep(DELAY).await;
        self.store.delete_pool(name, with_keys).await
    }

    async fn list_pools(&self, after: Option<&str>, limit: usize) -> Result<Vec<Listed>, Error> {
        sleep(DELAY).await;
        self.store.list_pools(after, limit).await
    }
}
