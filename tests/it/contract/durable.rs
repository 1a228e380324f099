//! The store with a data directory as a fixture. At the end of each test the directory is read back: it must have what the
//! store had.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use token_orchestrator::journal::Durability;
use token_orchestrator::key::{KeyId, KeyInfo};
use token_orchestrator::pool::Settings;
use token_orchestrator::store::{
    DataDirectory, Durable, Listed, Memory, Options, Store, Wanted, committed,
};
use token_orchestrator::time::{Clock, ManualClock, Timestamp};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::{Fixture, InMemory};

/// What is answered is on disk.
pub(super) type EachCommit = OnDisk<false>;
/// What is answered is on disk within a second.
pub(super) type EverySecond = OnDisk<true>;

/// A store on a manual clock with a directory of its own, and its sweep.
pub(super) struct OnDisk<const EVERY_SECOND: bool> {
    store: InMemory,
    clock: ManualClock,
    options: Options,
    directory: DataDirectory,
    /// Until the end of the test.
    durable: Option<Durable>,
}

/// Opens a store whose clock is this one.
fn open(options: Options, directory: &DataDirectory, clock: &ManualClock) -> (InMemory, Durable) {
    let failed = |error: &std::io::Error| {
        // The test would wait for ever for what is not committed.
        eprintln!("the disk has failed: {error}");
        std::process::abort();
    };
    let progress = Box::new(|_, _| {});
    Memory::open(options, directory, &HashMap::new(), |_| clock.clone(), progress, failed).unwrap()
}

/// Another path for each test.
fn new_path() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Relaxed);
    std::env::temp_dir().join(format!("contract-{}-{number}", std::process::id()))
}

/// What a future gives that waits for nothing but its turn.
fn finish<T>(future: impl Future<Output = T>) -> T {
    let (mut future, mut context) = (pin!(future), Context::from_waker(Waker::noop()));
    for _ in 0..1_000_000 {
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
    }
    panic!("it waits for something");
}

/// The name of a pool, its settings, and its keys.
type PoolState = (String, Option<Settings>, Vec<(KeyId, KeyInfo)>);

/// What a store has: the settings and keys of each pool, by their names.
fn all(store: &InMemory) -> Vec<PoolState> {
    let pools = finish(store.list_pools(None, usize::MAX)).unwrap();
    let keys = |pool| {
        let (mut keys, mut cursor) = (Vec::new(), None);
        loop {
            let wanted =
                Wanted { cursor: cursor.as_deref(), limit: 1000, state: None, label: None };
            let mut page = finish(store.inventory(pool, wanted)).unwrap();
            keys.append(&mut page.keys);
            cursor = page.cursor;
            if cursor.is_none() {
                keys.sort_by_key(|(id, _)| *id);
                return keys;
            }
        }
    };
    let one = |pool: Listed| (pool.name.to_string(), store.settings_of(pool.id), keys(pool.id));
    pools.into_iter().map(one).collect()
}

impl<const EVERY_SECOND: bool> Fixture for OnDisk<EVERY_SECOND> {
    type Store = InMemory;

    async fn make(options: Options) -> Self {
        let durability = if EVERY_SECOND { Durability::EverySecond } else { Durability::Commit };
        let path = new_path();
        let directory = DataDirectory { path, durability, key: None, restart_grace_ms: 0 };
        let clock = ManualClock::default();
        let (store, durable) = open(options, &directory, &clock);
        tokio::spawn(store.clone().sweep());
        Self { store, clock, options, directory, durable: Some(durable) }
    }

    fn store(&self) -> &InMemory {
        &self.store
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn advance(&self, ms: u64) {
        self.clock.advance_ms(ms);
    }

    async fn settle(&self) {
        // What waits for a commit may begin something when that has come.
        for _ in 0..2 {
            sleep(Duration::from_millis(10)).await;
            committed(&self.store).await;
            // The thread that commits wakes one after the other. Meanwhile the runtime's time stands still.
            spawn_blocking(|| thread::sleep(Duration::from_millis(1))).await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl<const EVERY_SECOND: bool> Drop for OnDisk<EVERY_SECOND> {
    fn drop(&mut self) {
        self.durable.take().expect("it is open").close();
        if !thread::panicking() {
            let before = all(&self.store);
            let (again, durable) = open(self.options, &self.directory, &self.clock);
            let after = all(&again);
            durable.close();
            assert_eq!(after, before);
        }
        fs::remove_dir_all(&self.directory.path).unwrap();
    }
}
