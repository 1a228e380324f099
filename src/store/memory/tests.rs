//! Tests of what the contract of stores leaves out: the sweep.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::yield_now;

use super::queue::Waiter;
use super::{Memory, OnePool, Options};
use crate::engine::Stats;
use crate::error::Error;
use crate::key::Fence;
use crate::pool::Settings;
use crate::store::{Complete, Leasing, Outcome, Release, Renewal, RequestKey, Store, StoreExt};
use crate::time::{Clock, ManualClock, Timestamp};

/// A store with a sweep, and the clock of both.
fn swept() -> (Memory<ManualClock>, ManualClock) {
    let clock = ManualClock::default();
    let store = Memory::new(Options::default(), clock.clone());
    tokio::spawn(store.clone().sweep());
    (store, clock)
}

/// Lets other tasks run until `condition` is true.
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
async fn the_sweep_frees_the_memory_of_dead_keys() {
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
    yield_now().await; // Now the sweep waits for the end of the life.
    store.lease(Leasing::default()).await.unwrap();
    yield_now().await;
    clock.advance_ms(60_000);
    until("the lease is ended", || store.pool().stats().free == 1).await;
    store.pool().check_invariants();
}

#[tokio::test]
async fn the_sweep_goes_on_after_a_leased_key_has_died() {
    let (store, clock) = swept();
    for round in 0..5 {
        store.create(1).await.unwrap();
        clock.advance_ms(299_000);
        store.lease(Leasing::default()).await.unwrap();
        clock.advance_ms(1000);
        until(&format!("key {round} dies"), || store.pool().stats().keys == 0).await;
    }
    until("no timer is left", || store.pool().index_sizes().block_entries == 0).await;
}

/// A clock that fails a few times, as if the sweep had a bug.
#[derive(Clone)]
struct FailingClock {
    clock: ManualClock,
    failures: Arc<AtomicU32>,
}

impl Clock for FailingClock {
    fn now(&self) -> Timestamp {
        let failed = self.failures.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        assert!(failed.is_err(), "planted");
        self.clock.now()
    }

    fn unix_ms(&self, at: Timestamp) -> u64 {
        self.clock.unix_ms(at)
    }

    async fn sleep_until(&self, at: Timestamp) {
        self.clock.sleep_until(at).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_sweep_survives_panics() {
    let clock = FailingClock { clock: ManualClock::default(), failures: Arc::default() };
    let store = Memory::new(Options::default(), clock.clone());
    store.create(10).await.unwrap();
    clock.failures.store(3, SeqCst);
    tokio::spawn(store.clone().sweep());
    // The runtime's time is paused, so the pauses take no real time.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(clock.failures.load(SeqCst), 0, "the sweep has met all failures");
    clock.clock.advance_ms(300_000);
    until("all keys are removed", || store.pool().stats().keys == 0).await;
}

#[tokio::test]
async fn a_creation_that_nobody_waits_for_stops() {
    let options = Options {
        settings: Settings { keys_max: 1000, ..Settings::default() },
        ..Options::default()
    };
    let store = Memory::new(options, ManualClock::default());
    let mut sweep = pin!(store.clone().sweep());
    let mut turn = async || poll_fn(|cx| Poll::Ready(sweep.as_mut().poll(cx).is_pending())).await;
    for turns in [0, 3] {
        let creation = store.create(1000 - usize::try_from(store.pool().stats().keys).unwrap());
        for _ in 0..turns {
            assert!(turn().await, "it never ends");
        }
        drop(creation);
        for _ in 0..30 {
            assert!(turn().await, "it never ends");
        }
        let keys = store.pool().stats().keys;
        assert!((turns == 0) == (keys == 0) && keys < 1000, "{keys} after {turns} turns");
        store.pool().check_invariants();
    }
}

/// However many creations there are, a waiter is answered in time: each turn takes one step of one creation.
#[tokio::test]
async fn creations_take_turns_with_waiters() {
    let clock = ManualClock::default();
    let store = Memory::new(Options::default(), clock.clone());
    let mut waiter = pin!(store.lease(Leasing::of_any(None, 50)));
    let creations: Vec<_> = (0..200).map(|_| store.create(1000)).collect();
    let mut sweep = pin!(store.clone().sweep());
    // The first step serves the waiter, and creates no more than 64 keys.
    let polled = poll_fn(|cx| Poll::Ready(sweep.as_mut().poll(cx).is_pending())).await;
    assert!(polled, "it never ends");
    assert_eq!(store.pool().stats().keys, 64);
    let polled = poll_fn(|cx| Poll::Ready(waiter.as_mut().poll(cx).is_ready())).await;
    assert!(polled, "a key is there");
    drop(creations);
}

#[tokio::test]
async fn a_creation_that_is_cut_off_leaves_no_room_taken() {
    let store = Memory::new(
        Options {
            settings: Settings { keys_max: 1000, ..Settings::default() },
            ..Options::default()
        },
        ManualClock::default(),
    );
    let creation = store.create(1000);
    {
        let mut sweep = pin!(store.clone().sweep());
        for _ in 0..3 {
            let polled = poll_fn(|cx| Poll::Ready(sweep.as_mut().poll(cx).is_pending())).await;
            assert!(polled, "it never ends");
        }
    }
    let keys = usize::try_from(store.pool().stats().keys).unwrap();
    assert!(0 < keys && keys < 1000, "{keys}");
    store.pool().check_invariants();
    // Its client gets an error that leaves open how much was done.
    assert!(matches!(creation.await, Err(Error::Unavailable { .. })));
    tokio::spawn(store.clone().sweep());
    assert!(matches!(store.create(1001 - keys).await, Err(Error::Full { .. })));
    store.create(1000 - keys).await.unwrap();
    store.pool().check_invariants();
}

/// Accepts every outcome.
struct Taker;

impl Complete for Taker {
    fn complete(&self, _: u64, _: Outcome) -> bool {
        true
    }
}

/// Lets 16 clients wait, and serves them in turns, each of which may change at most `max` keys. How many turns
/// that took.
fn serve_in_turns(store: &Memory<ManualClock>, changed: impl Fn(&Stats) -> u64, max: u64) -> usize {
    let shared = &store.shared;
    let pool = OnePool { shared, pool: shared.pools.default() };
    let waiters = &pool.pool.waiters;
    for token in 0..16 {
        let until = Timestamp::MAX;
        let (holder, request, receiver) = (None, None, Arc::new(Taker));
        let waiter = Waiter { lease_ms: 1000, holder, until, request, receiver, token };
        waiters.join(&mut waiters.lock(), waiter, None, true).unwrap();
    }
    let mut turns = 0;
    while !waiters.is_empty() {
        let before = changed(&store.pool().stats());
        pool.serve_some_waiters();
        let after = changed(&store.pool().stats());
        assert!(after - before <= max, "{before} {after}");
        turns += 1;
    }
    turns
}

#[tokio::test]
async fn waiters_are_served_in_small_steps_among_masses_of_dead_keys() {
    let clock = ManualClock::default();
    let store = Memory::new(Options::default(), clock.clone());
    for _ in 0..100 {
        store.create(40).await.unwrap();
    }
    clock.advance_ms(299_999);
    for _ in 0..8 {
        store.create(40).await.unwrap();
    }
    clock.advance_ms(1);
    let turns = serve_in_turns(&store, |stats| stats.totals.expired, 64);
    assert!(turns > 1, "one in 13 keys lives: it takes some 200 tries");
    assert_eq!(store.pool().stats().leased, 16);
}

#[tokio::test]
async fn waiters_are_served_in_small_steps_among_masses_of_lapsed_leases() {
    let clock = ManualClock::default();
    let store = Memory::new(Options::default(), clock.clone());
    for _ in 0..100 {
        store.create(40).await.unwrap();
    }
    store.lease_many(Leasing::default(), 4000).await.unwrap();
    clock.advance_ms(60_000);
    // Those that the last of 64 steps found are ended together.
    let turns = serve_in_turns(&store, |stats| stats.totals.lease_timeouts, 64 + 32);
    assert!(turns > 1, "each of the 16 leases handles 32 of those that are due");
}

/// What is known of a request takes memory as long as its lease lasts, and no longer.
#[tokio::test]
async fn requests_are_forgotten_with_their_leases() {
    let clock = ManualClock::default();
    let store = Memory::new(Options::default(), clock.clone());
    store.create(5).await.unwrap();
    let once = async |name: u8| {
        let request = RequestKey { digest: [name; 16], parameters: [0; 5] };
        store.lease_once(Leasing::default(), Some(request)).await
    };
    let known = || store.shared.requests.len();
    let sweep = || {
        assert!(pin!(store.clone().sweep()).now_or_never().is_none());
    };
    let released = once(1).await.unwrap();
    let deleted = once(2).await.unwrap();
    let given_back = once(3).await.unwrap();
    assert_eq!(known(), [3, 3]);
    store.release(&released.id, Release::default()).await.unwrap();
    store.delete(&deleted.id, Fence::Any).await.unwrap();
    store.give_back(vec![*given_back]);
    assert_eq!(known(), [0, 0]);
    // One ends, one is renewed, and one is released, leased by others and then ends.
    let (ends, renewed) = (once(4).await.unwrap(), once(5).await.unwrap());
    clock.advance_ms(30_000);
    store.renew(&renewed.id, Renewal::default()).await.unwrap();
    clock.advance_ms(30_000);
    assert_eq!(clock.now(), ends.until);
    sweep();
    assert_eq!(known(), [1, 1]);
    // The same name for another lease, while the sweep has not noticed the end of the first one.
    clock.advance_ms(30_000);
    once(5).await.unwrap();
    assert_eq!(known(), [1, 1]);
    clock.advance_ms(60_000);
    sweep();
    assert_eq!(known(), [0, 0]);
    // Nobody gets a key, and one who waited for one has gone.
    store.lease_many(Leasing::default(), 5).await.unwrap();
    assert!(once(6).await.is_err());
    let request = RequestKey { digest: [7; 16], parameters: [0; 5] };
    let waiting = Leasing::of_any(None, 1000);
    let mut waiter = Box::pin(store.lease_once(waiting, Some(request)));
    assert!(waiter.as_mut().now_or_never().is_none());
    assert_eq!(known(), [1, 0]);
    drop(waiter);
    assert_eq!(known(), [0, 0]);
}

/// A lease may be far longer than the life of its key.
#[tokio::test]
async fn requests_are_forgotten_with_dead_keys() {
    let (store, clock) = swept();
    store.create(1000).await.unwrap();
    let long = Leasing::of_any(Some(3_600_000), 0);
    let request = RequestKey { digest: [1; 16], parameters: [0; 5] };
    let leases = store.lease_many_once(long.clone(), 1000, Some(request)).await.unwrap();
    assert_eq!(store.shared.requests.len(), [1000, 1000]);
    clock.advance_ms(200_000);
    store.keep_alive(&leases[0].id).await.unwrap();
    clock.advance_ms(100_000);
    while store.stats().await.unwrap().keys > 1 || store.shared.requests.len() != [1, 1] {
        yield_now().await;
    }
    assert_eq!(store.lease_once(long, Some(request)).await, Ok(leases[0].clone()));
    assert!(store.shared.requests.capacity() < 2000, "the memory came back");
    // It is looked at again after the life that the key had when it was looked at before.
    clock.advance_ms(300_000);
    while store.shared.requests.len() != [0, 0] {
        yield_now().await;
    }
}
