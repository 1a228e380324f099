//! What [`Memory`] does beside the contract: the sweep.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use token_orchestrator::store::{Leasing, Memory, Options, Store};
use token_orchestrator::time::{Clock, ManualClock, Timestamp};
use tokio::task::yield_now;

/// A store with a sweep, and the clock of both.
fn swept() -> (Memory<ManualClock>, ManualClock) {
    let clock = ManualClock::default();
    let store = Memory::new(Options::default(), clock.clone());
    tokio::spawn(store.clone().sweep());
    (store, clock)
}

/// Lets other tasks run until `condition` holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1_000_000 {
        if condition() {
            return;
        }
        yield_now().await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn the_sweep_frees_the_memory_of_the_dead() {
    let (store, clock) = swept();
    yield_now().await;
    store.create(1000).await.unwrap();
    yield_now().await;
    clock.advance_ms(299_999);
    yield_now().await;
    assert_eq!(store.pool().stats().keys, 1000);
    clock.advance_ms(1);
    until("all keys are removed", || store.pool().stats().keys == 0).await;
    store.pool().check_invariants();
}

#[tokio::test]
async fn the_sweep_wakes_for_a_deadline_earlier_than_the_one_it_waits_for() {
    let (store, clock) = swept();
    store.create(1).await.unwrap();
    yield_now().await; // Now it waits for the end of the life.
    store.lease(Leasing::default()).await.unwrap();
    yield_now().await;
    clock.advance_ms(60_000);
    until("the lease is ended", || store.pool().stats().free == 1).await;
    store.pool().check_invariants();
}

#[tokio::test]
async fn the_sweep_goes_on_after_a_blocked_key_has_died() {
    let (store, clock) = swept();
    for round in 0..5 {
        store.create(1).await.unwrap();
        clock.advance_ms(299_000);
        store.lease(Leasing::default()).await.unwrap();
        clock.advance_ms(1000);
        until(&format!("key {round} dies"), || store.pool().stats().keys == 0).await;
    }
    until("no timer is left", || store.pool().stats().hold_entries == 0).await;
}

/// A clock that fails a few times, as if the sweep had a bug.
#[derive(Clone)]
struct Failing {
    clock: ManualClock,
    failures: Arc<AtomicU32>,
}

impl Clock for Failing {
    fn now(&self) -> Timestamp {
        let failed = self.failures.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        assert!(failed.is_err(), "planted");
        self.clock.now()
    }

    fn wall(&self, at: Timestamp) -> SystemTime {
        self.clock.wall(at)
    }

    async fn sleep_until(&self, at: Timestamp) {
        self.clock.sleep_until(at).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_sweep_survives_panics() {
    let clock = Failing { clock: ManualClock::default(), failures: Arc::default() };
    let store = Memory::new(Options::default(), clock.clone());
    store.create(10).await.unwrap();
    clock.failures.store(3, SeqCst);
    tokio::spawn(store.clone().sweep());
    // The pauses between are over at once where time is paused.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(clock.failures.load(SeqCst), 0, "the sweep has met all failures");
    clock.clock.advance_ms(300_000);
    until("all keys are removed", || store.pool().stats().keys == 0).await;
}

#[tokio::test]
async fn a_creation_that_is_given_up_leaves_no_room_taken() {
    let store = Memory::new(Options::default(), ManualClock::default());
    {
        let mut create = std::pin::pin!(store.create(1000));
        tokio::select! {
            biased;
            _ = &mut create => panic!("it gives way in between"),
            () = async {} => {}
        }
    }
    let keys = store.pool().stats().keys;
    assert!(0 < keys && keys < 1000, "{keys}");
    store.pool().check_invariants();
}
