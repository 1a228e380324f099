//! Waiters that race with what frees keys.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use token_orchestrator::key::Fence;
use token_orchestrator::store::{Leasing, Memory, Options, Release, StoreExt};
use token_orchestrator::time::SystemClock;
use tokio::task::yield_now;
use tokio::time::timeout;

/// Clients on several threads wait for few keys, take them, hang up, and run out of time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn waiters_share_no_key_and_none_is_lost() {
    const KEYS: usize = 5;
    let store = Memory::new(Options::default(), SystemClock::new());
    let sweep = tokio::spawn(store.clone().sweep());
    let ids = store.create(KEYS).await.unwrap().ids;
    let held = Arc::new(Mutex::new(HashSet::new()));
    let served = Arc::new(AtomicUsize::new(0));
    let client = |seed| {
        let (store, held, served) = (store.clone(), Arc::clone(&held), Arc::clone(&served));
        let mut rng = SmallRng::seed_from_u64(seed);
        async move {
            for _ in 0..200 {
                let wait_ms = rng.random_range(0..20);
                let waiting = store.lease(Leasing::of_any(None, wait_ms));
                let patience = Duration::from_micros(rng.random_range(0..20_000));
                // A client that gives up must not take a key with it.
                let Ok(Ok(lease)) = timeout(patience, waiting).await else { continue };
                assert!(held.lock().unwrap().insert(lease.id), "two holders");
                yield_now().await;
                served.fetch_add(1, Relaxed);
                assert!(held.lock().unwrap().remove(&lease.id));
                let fence = Fence::One(lease.generation);
                store.release(&lease.id, Release { fence, cooldown_ms: 0 }).await.unwrap();
            }
        }
    };
    let clients: Vec<_> = (0..50).map(|seed| tokio::spawn(client(seed))).collect();
    for client in clients {
        client.await.unwrap();
    }
    sweep.abort();
    assert!(served.load(Relaxed) > 2000, "{served:?}");
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.free, stats.leased, stats.waiting), (KEYS as u64, 0, 0));
    assert_eq!(store.lease_many(Leasing::default(), ids.len()).await.unwrap().len(), KEYS);
}

/// A client begins to wait while a second thread frees the only key: one of the two must notice.
/// If the wake-up were lost, the client would wait for a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost() {
    let store = Memory::new(Options::default(), SystemClock::new());
    store.create(1).await.unwrap();
    let mut lease = store.lease(Leasing::default()).await.unwrap();
    for round in 0..20_000 {
        let start = Arc::new(Barrier::new(2));
        let waiter = tokio::spawn({
            let (store, start) = (store.clone(), Arc::clone(&start));
            async move {
                start.wait();
                store.lease(Leasing::of_any(None, 60_000)).await
            }
        });
        start.wait();
        // They meet at another point each time.
        for _ in 0..round % 256 {
            std::hint::spin_loop();
        }
        store.release(&lease.id, Release::default()).await.unwrap();
        let result = timeout(Duration::from_secs(20), waiter).await;
        lease = result.unwrap_or_else(|_| panic!("lost in round {round}")).unwrap().unwrap();
    }
}
