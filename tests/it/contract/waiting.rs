//! The part of the contract that tells of those who wait for a key.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, Lease};
use token_orchestrator::store::{Leasing, Options, Release, Store};
use token_orchestrator::time::Clock;
use tokio::task::{JoinHandle, yield_now};

use super::{Fixture, LEASE_MS, LIFE_MS};

const WAIT: Leasing = Leasing { lease_ms: None, wait_ms: 10_000 };

/// Starts to wait, and is in the queue when this returns.
async fn wait<S: Store>(f: &Arc<Fixture<S>>, leasing: Leasing) -> JoinHandle<Result<Lease, Error>> {
    let before = f.store.vitals().await.waiting;
    let waiter = tokio::spawn({
        let f = Arc::clone(f);
        async move { f.store.lease(leasing).await }
    });
    for _ in 0..1000 {
        yield_now().await;
        if waiter.is_finished() || f.store.vitals().await.waiting > before {
            return waiter;
        }
    }
    panic!("it neither waits nor has a key");
}

async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

/// A store with its sweep at work.
fn run<S: Store>(make: &impl Fn(Options) -> Fixture<S>, options: Options) -> Arc<Fixture<S>> {
    let f = make(options);
    tokio::spawn(f.sweep.lock().unwrap().take().expect("a sweep"));
    Arc::new(f)
}

/// What a task that must end now ends with.
async fn soon<T>(task: JoinHandle<T>) -> T {
    for _ in 0..1000 {
        if task.is_finished() {
            return task.await.expect("no panic");
        }
        yield_now().await;
    }
    panic!("it still waits");
}

pub(super) async fn who_waits_gets_the_key_that_is_released<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = run(make, Options::default());
    let id = f.store.create(1).await.unwrap().ids[0];
    let first = f.store.lease(WAIT).await.unwrap();
    let waiter = wait(&f, WAIT).await;
    assert_eq!(f.store.vitals().await.waiting, 1);
    f.clock.advance_ms(5);
    f.store.release(&id, Release::default()).await.unwrap();
    let second = soon(waiter).await.unwrap();
    assert_eq!((second.id, second.since), (id, f.clock.now()));
    assert!(second.generation > first.generation);
    assert_eq!(f.store.vitals().await.waiting, 0);
}

pub(super) async fn who_waits_is_woken_by_all_that_frees_a_key<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = run(make, Options::default());
    let clock = &f.clock;
    // By a creation.
    let waiter = wait(&f, WAIT).await;
    let id = f.store.create(1).await.unwrap().ids[0];
    assert_eq!(soon(waiter).await.unwrap().id, id);
    // By the end of a lease.
    clock.advance_ms(LEASE_MS - 1);
    let waiter = wait(&f, WAIT).await;
    settle().await;
    assert!(!waiter.is_finished());
    clock.advance_ms(1);
    assert_eq!(soon(waiter).await.unwrap().since, clock.now());
    // By the end of a cool-down.
    f.store.release(&id, Release { cooldown_ms: 500, ..Release::default() }).await.unwrap();
    let waiter = wait(&f, WAIT).await;
    clock.advance_ms(499);
    settle().await;
    assert!(!waiter.is_finished());
    clock.advance_ms(1);
    assert_eq!(soon(waiter).await.unwrap().since, clock.now());
    // By one who gives up what came too late for it.
    let (first, second) = (wait(&f, WAIT).await, wait(&f, WAIT).await);
    f.store.release(&id, Release::default()).await.unwrap();
    first.abort();
    assert_eq!(soon(second).await.unwrap().id, id);
}

pub(super) async fn first_come_first_served<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = run(make, Options::default());
    let mut waiters = Vec::new();
    for _ in 0..20 {
        waiters.push(wait(&f, WAIT).await);
    }
    for served in 0..20 {
        assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted), "overtaken");
        f.store.create(1).await.unwrap();
        assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted), "overtaken");
        settle().await;
        let finished: Vec<_> = waiters.iter().map(JoinHandle::is_finished).collect();
        assert_eq!(finished.iter().filter(|is| **is).count(), served + 1);
        assert!(finished[..=served].iter().all(|is| *is), "{finished:?}");
    }
}

pub(super) async fn who_waits_in_vain_is_told_so_in_time<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = run(make, Options::default());
    let waiter = wait(&f, WAIT).await;
    f.clock.advance_ms(9_999);
    settle().await;
    assert!(!waiter.is_finished());
    f.clock.advance_ms(1);
    assert_eq!(soon(waiter).await, Err(Error::Exhausted));
    assert_eq!(f.store.vitals().await.waiting, 0);
    // A lease that ends at the same moment is in time.
    f.store.create(1).await.unwrap();
    f.store.lease(Leasing { lease_ms: Some(10_000), wait_ms: 0 }).await.unwrap();
    let waiter = wait(&f, WAIT).await;
    f.clock.advance_ms(10_000);
    soon(waiter).await.unwrap();
}

pub(super) async fn who_goes_away_takes_no_key_along<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = run(make, Options::default());
    let id = f.store.create(1).await.unwrap().ids[0];
    f.store.lease(WAIT).await.unwrap();
    {
        // Granted, but dropped before it was polled again.
        let mut waiter = pin!(f.store.lease(WAIT));
        let poll = std::future::poll_fn(|cx| Poll::Ready(waiter.as_mut().poll(cx).is_ready()));
        assert!(!poll.await);
        assert_eq!(f.store.vitals().await.waiting, 1);
        f.store.release(&id, Release::default()).await.unwrap();
        assert_eq!(f.store.vitals().await.waiting, 0);
        assert!(f.is_blocked(&id).await);
    }
    assert!(!f.is_blocked(&id).await);
    assert_eq!(f.store.lease(Leasing::default()).await.unwrap().id, id);
    let waiter = wait(&f, WAIT).await;
    waiter.abort();
    assert!(waiter.await.unwrap_err().is_cancelled());
    assert_eq!(f.store.vitals().await.waiting, 0);
    f.store.release(&id, Release::default()).await.unwrap();
    assert!(!f.is_blocked(&id).await);
}

pub(super) async fn no_more_wait_than_may<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = run(make, Options { waiters_max: 2, ..Options::default() });
    let waiters = [wait(&f, WAIT).await, wait(&f, WAIT).await];
    assert_eq!(f.store.lease(WAIT).await, Err(Error::TooManyWaiters));
    assert_eq!(f.store.lease_many(WAIT, 2).await, Err(Error::TooManyWaiters));
    assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
    f.store.create(3).await.unwrap();
    for waiter in waiters {
        soon(waiter).await.unwrap();
    }
    f.store.lease(WAIT).await.unwrap();
}

pub(super) async fn many_are_waited_for_like_one<S: Store>(make: &impl Fn(Options) -> Fixture<S>) {
    let f = run(make, Options::default());
    let waiter = tokio::spawn({
        let f = Arc::clone(&f);
        async move { f.store.lease_many(WAIT, 5).await }
    });
    settle().await;
    assert_eq!(f.store.vitals().await.waiting, 1);
    f.store.create(3).await.unwrap();
    assert_eq!(soon(waiter).await.unwrap().len(), 3);
    assert_eq!(f.store.vitals().await.waiting, 0);
}

pub(super) async fn a_batch_that_is_given_up_takes_no_key_along<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = run(make, Options::default());
    let ids = f.store.create(1000).await.unwrap().ids;
    for polls in 1..15 {
        let mut batch = Box::pin(f.store.lease_many(Leasing::default(), 1000));
        for _ in 0..polls {
            let polled = poll_fn(|cx| Poll::Ready(batch.as_mut().poll(cx))).await;
            assert!(polled.is_pending(), "it never gives way");
        }
        drop(batch);
        for _ in 0..10 {
            settle().await;
        }
        assert_eq!(f.free_ids(&ids).await.len(), 1000, "after {polls} polls");
    }
}

/// Thousands come, run out of time and go away at random, while keys are released, die, rest, are
/// deleted and created.
pub(super) async fn nobody_waits_who_could_be_served_and_no_key_is_lost<S: Store>(
    make: &impl Fn(Options) -> Fixture<S>,
) {
    let f = run(make, Options::default());
    let mut rng = StdRng::seed_from_u64(1);
    let served = Arc::new(AtomicUsize::new(0));
    let mut ids = f.store.create(50).await.unwrap().ids;
    let mut waiters = Vec::new();
    for _ in 0..20_000 {
        match rng.random_range(0..12) {
            0..5 => {
                let (f, served) = (Arc::clone(&f), Arc::clone(&served));
                let leasing = Leasing {
                    lease_ms: Some(rng.random_range(1..2000)),
                    wait_ms: rng.random_range(0..2000),
                };
                let holds = rng.random_range(0..30);
                waiters.push(tokio::spawn(async move {
                    let Ok(lease) = f.store.lease(leasing).await else { return };
                    served.fetch_add(1, SeqCst);
                    for _ in 0..holds {
                        yield_now().await;
                    }
                    if holds % 3 > 0 {
                        let generations = [lease.generation];
                        let fence = Fence::OneOf(&generations);
                        let cooldown_ms = holds % 2 * 300;
                        let _ = f.store.release(&lease.id, Release { fence, cooldown_ms }).await;
                    }
                }));
            }
            5 if !waiters.is_empty() => {
                waiters.swap_remove(rng.random_range(0..waiters.len())).abort();
            }
            6 => f.clock.advance_ms(rng.random_range(0..50)),
            7 => drop(f.store.delete(&ids[rng.random_range(0..ids.len())], Fence::Open).await),
            8 => ids.extend(f.store.create(1).await.unwrap().ids),
            9 => drop(f.store.keep_alive(&ids[rng.random_range(0..ids.len())]).await),
            10 => drop(f.store.lease(Leasing::default()).await),
            _ => yield_now().await,
        }
        if rng.random_ratio(1, 50) {
            settle().await;
            let free = f.free_ids(&ids).await;
            assert!(free.is_empty() || f.store.vitals().await.waiting == 0, "{free:?} are free");
        }
    }
    assert!(served.load(SeqCst) > 2000, "{served:?}");
    // All waits and all leases end.
    f.clock.advance_ms(LEASE_MS);
    for _ in 0..1000 {
        settle().await;
    }
    assert_eq!(f.store.vitals().await.waiting, 0);
    assert!(waiters.iter().all(JoinHandle::is_finished));
    f.clock.advance_ms(LEASE_MS);
    let free = f.free_ids(&ids).await.len();
    let leases =
        f.store.lease_many(Leasing::default(), usize::MAX).await.map_or(0, |all| all.len());
    assert_eq!(leases, free, "a key that lives is not to be had");
    f.clock.advance_ms(LIFE_MS);
    assert_eq!(f.store.lease(Leasing::default()).await, Err(Error::Exhausted));
}
