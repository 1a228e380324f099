//! The part of the contract about clients that wait for a key.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, Lease};
use token_orchestrator::store::{Leasing, Options, Release, StoreExt};
use tokio::task::{JoinHandle, yield_now};

use super::{Fixture, LEASE_MS, LIFE_MS, soon};

const WAIT: Leasing = Leasing::of_any(None, 10_000);

/// Starts to wait, and is in the queue when this returns.
async fn wait<F: Fixture>(f: &Arc<F>, leasing: Leasing) -> JoinHandle<Result<Lease, Error>> {
    let before = f.waiting().await;
    let waiter = tokio::spawn({
        let f = Arc::clone(f);
        async move { f.store().lease(leasing).await.map(|leased| leased.lease) }
    });
    f.settle().await;
    assert!(waiter.is_finished() || f.waiting().await > before, "it neither waits nor has a key");
    waiter
}

pub(super) async fn a_waiter_gets_the_key_that_is_released<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    let id = f.store().create(1).await.unwrap().ids[0];
    let first = f.store().lease(WAIT).await.unwrap();
    let waiter = wait(&f, WAIT).await;
    assert_eq!(f.waiting().await, 1);
    f.advance(5).await;
    f.store().release(&id, Release::default()).await.unwrap();
    let second = soon(&*f, waiter).await.unwrap();
    assert_eq!((second.id, second.since), (id, f.now()));
    assert!(second.generation > first.generation);
    assert_eq!(f.waiting().await, 0);
}

pub(super) async fn a_waiter_is_woken_by_all_that_frees_a_key<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    // By a creation.
    let waiter = wait(&f, WAIT).await;
    let id = f.store().create(1).await.unwrap().ids[0];
    assert_eq!(soon(&*f, waiter).await.unwrap().id, id);
    // By the end of a lease.
    f.advance(LEASE_MS - 1).await;
    let waiter = wait(&f, WAIT).await;
    f.settle().await;
    assert!(!waiter.is_finished());
    f.advance(1).await;
    assert_eq!(soon(&*f, waiter).await.unwrap().since, f.now());
    // By the end of a cool-down.
    f.store().release(&id, Release { cooldown_ms: 500, ..Release::default() }).await.unwrap();
    let waiter = wait(&f, WAIT).await;
    f.advance(499).await;
    f.settle().await;
    assert!(!waiter.is_finished());
    f.advance(1).await;
    assert_eq!(soon(&*f, waiter).await.unwrap().since, f.now());
    // By a waiter that gives up what came too late for it.
    let mut first = Box::pin(f.store().lease(WAIT));
    assert!(poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_pending())).await);
    let second = wait(&f, WAIT).await;
    f.store().release(&id, Release::default()).await.unwrap();
    drop(first);
    assert_eq!(soon(&*f, second).await.unwrap().id, id);
}

pub(super) async fn first_come_first_served<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    let mut waiters = Vec::new();
    for _ in 0..20 {
        waiters.push(wait(&f, WAIT).await);
    }
    for served in 0..20 {
        f.assert_exhausted().await;
        f.store().create(1).await.unwrap();
        f.assert_exhausted().await;
        f.settle().await;
        let finished: Vec<_> = waiters.iter().map(JoinHandle::is_finished).collect();
        assert_eq!(finished.iter().filter(|is| **is).count(), served + 1);
        assert!(finished[..=served].iter().all(|is| *is), "{finished:?}");
    }
}

pub(super) async fn a_waiter_is_refused_when_its_time_is_up<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    let waiter = wait(&f, WAIT).await;
    f.advance(9_999).await;
    f.settle().await;
    assert!(!waiter.is_finished());
    f.advance(1).await;
    assert_eq!(soon(&*f, waiter).await, Err(Error::EXHAUSTED));
    assert_eq!(f.waiting().await, 0);
    // A lease that ends at the same moment is in time.
    f.store().create(1).await.unwrap();
    f.store().lease(Leasing::of_any(Some(10_000), 0)).await.unwrap();
    let waiter = wait(&f, WAIT).await;
    f.advance(10_000).await;
    soon(&*f, waiter).await.unwrap();
}

pub(super) async fn a_waiter_that_goes_away_takes_no_key_along<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    let id = f.store().create(1).await.unwrap().ids[0];
    f.store().lease(WAIT).await.unwrap();
    {
        // Granted, but dropped before it was polled again.
        let mut waiter = pin!(f.store().lease(WAIT));
        let poll = poll_fn(|cx| Poll::Ready(waiter.as_mut().poll(cx).is_ready()));
        assert!(!poll.await);
        assert_eq!(f.waiting().await, 1);
        f.store().release(&id, Release::default()).await.unwrap();
        assert_eq!(f.waiting().await, 0);
        assert!(f.is_blocked(&id).await);
    }
    assert!(!f.is_blocked(&id).await);
    assert_eq!(f.store().lease(Leasing::default()).await.unwrap().id, id);
    let waiter = wait(&f, WAIT).await;
    waiter.abort();
    assert!(waiter.await.unwrap_err().is_cancelled());
    assert_eq!(f.waiting().await, 0);
    f.store().release(&id, Release::default()).await.unwrap();
    assert!(!f.is_blocked(&id).await);
}

pub(super) async fn waiters_have_a_limit<F: Fixture>() {
    let f = Arc::new(F::make(Options { waiters_max: 2, ..Options::default() }).await);
    let waiters = [wait(&f, WAIT).await, wait(&f, WAIT).await];
    assert_eq!(f.store().lease(WAIT).await, Err(Error::TooManyWaiters));
    assert_eq!(f.store().lease_many(WAIT, 2).await, Err(Error::TooManyWaiters));
    f.assert_exhausted().await;
    f.store().create(3).await.unwrap();
    for waiter in waiters {
        soon(&*f, waiter).await.unwrap();
    }
    f.store().lease(WAIT).await.unwrap();
}

pub(super) async fn many_keys_are_waited_for_like_one<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    let waiter = tokio::spawn({
        let f = Arc::clone(&f);
        async move { f.store().lease_many(WAIT, 5).await }
    });
    f.settle().await;
    assert_eq!(f.waiting().await, 1);
    f.store().create(3).await.unwrap();
    assert_eq!(soon(&*f, waiter).await.unwrap().len(), 3);
    assert_eq!(f.waiting().await, 0);
}

pub(super) async fn leases_that_are_given_up_are_taken_back<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    let ids = f.store().create(1000).await.unwrap().ids;
    for polls in 1..15 {
        let mut batch = Box::pin(f.store().lease_many(Leasing::default(), 1000));
        for _ in 0..polls {
            let polled = poll_fn(|cx| Poll::Ready(batch.as_mut().poll(cx))).await;
            assert!(polled.is_pending(), "it never gives way");
            f.settle().await;
        }
        drop(batch);
        f.settle().await;
        assert_eq!(f.free_ids(&ids).await.len(), 1000, "after {polls} polls");
    }
}

/// Thousands come, run out of time and go away at random, while keys are released, die, cool down, are
/// deleted and created.
pub(super) async fn no_client_waits_while_a_key_is_free<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    let mut rng = StdRng::seed_from_u64(1);
    let served = Arc::new(AtomicUsize::new(0));
    let mut ids = f.store().create(50).await.unwrap().ids;
    let mut waiters = Vec::new();
    for _ in 0..20_000 {
        match rng.random_range(0..12) {
            0..5 => {
                let (f, served) = (Arc::clone(&f), Arc::clone(&served));
                let leasing =
                    Leasing::of_any(Some(rng.random_range(1..2000)), rng.random_range(0..2000));
                let turns = rng.random_range(0..30);
                waiters.push(tokio::spawn(async move {
                    let Ok(lease) = f.store().lease(leasing).await else { return };
                    served.fetch_add(1, SeqCst);
                    for _ in 0..turns {
                        yield_now().await;
                    }
                    if turns % 3 > 0 {
                        let generations = [lease.generation];
                        let fence = Fence::OneOf(&generations);
                        let cooldown_ms = turns % 2 * 300;
                        let _ = f.store().release(&lease.id, Release { fence, cooldown_ms }).await;
                    }
                }));
            }
            5 if !waiters.is_empty() => {
                waiters.swap_remove(rng.random_range(0..waiters.len())).abort();
            }
            6 => f.advance(rng.random_range(0..50)).await,
            7 => drop(f.store().delete(&ids[rng.random_range(0..ids.len())], Fence::Any).await),
            8 => ids.extend(f.store().create(1).await.unwrap().ids),
            9 => drop(f.store().keep_alive(&ids[rng.random_range(0..ids.len())]).await),
            10 => drop(f.store().lease(Leasing::default()).await),
            _ => yield_now().await,
        }
        if rng.random_ratio(1, 50) {
            f.settle().await;
            let free = f.free_ids(&ids).await;
            assert!(free.is_empty() || f.waiting().await == 0, "{free:?} are free");
        }
    }
    assert!(served.load(SeqCst) > 2000, "{served:?}");
    // All waits and all leases end.
    f.advance(LEASE_MS).await;
    f.settle().await;
    assert_eq!(f.waiting().await, 0);
    assert!(waiters.iter().all(JoinHandle::is_finished));
    f.advance(LEASE_MS).await;
    let free = f.free_ids(&ids).await.len();
    let leases =
        f.store().lease_many(Leasing::default(), usize::MAX).await.map_or(0, |all| all.len());
    assert_eq!(leases, free, "a key that lives is not to be had");
    f.advance(LIFE_MS).await;
    f.assert_exhausted().await;
}
