//! The part of the contract about requests with a key: a retry gets the same lease, as long as that lasts.

use std::sync::Arc;

use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, State};
use token_orchestrator::store::{Leasing, Options, Release, Renewal, RequestKey, Store, StoreExt};

use super::{Fixture, LEASE_MS};

const ONCE: Leasing = Leasing::of_any(None, 0);
const WAIT: Leasing = Leasing::of_any(None, 10_000);

fn request(name: u8) -> RequestKey {
    RequestKey { digest: [name; RequestKey::DIGEST_BYTES], parameters: [1, 2, 3, 4, 5] }
}

pub(super) async fn a_retry_gets_the_same_lease<F: Fixture>() {
    let f = F::make(Options::default()).await;
    f.store().create(3).await.unwrap();
    let first = f.store().lease_once(ONCE, Some(request(1))).await.unwrap();
    f.advance(10).await;
    assert_eq!(f.store().lease_once(ONCE, Some(request(1))).await, Ok(first.clone()));
    let second = f.store().lease_once(ONCE, Some(request(2))).await.unwrap();
    assert_ne!(second.id, first.id);
    // A renewal moves its end.
    f.advance(LEASE_MS - 20).await;
    let renewed = f.store().renew(&first.id, Renewal::default()).await.unwrap();
    f.advance(LEASE_MS - 1).await;
    assert_eq!(f.store().lease_once(ONCE, Some(request(1))).await, Ok(renewed.into()));
    assert_eq!(f.store().stats().await.unwrap().totals.leases, 2);
}

pub(super) async fn a_lease_that_has_ended_is_not_given_again<F: Fixture>() {
    let f = F::make(Options::default()).await;
    f.create().await;
    let mut generation = 0;
    let mut next = async || {
        let lease = f.store().lease_once(ONCE, Some(request(1))).await.unwrap();
        assert!(lease.generation > generation);
        assert_eq!(f.store().lease_once(ONCE, Some(request(1))).await, Ok(lease.clone()));
        generation = lease.generation;
        lease
    };
    let lease = next().await;
    f.store().release(&lease.id, Release::default()).await.unwrap();
    let lease = next().await;
    f.advance(LEASE_MS).await;
    assert_eq!(f.now(), lease.until);
    let lease = next().await;
    let cooling = Release { cooldown_ms: 10, ..Release::default() };
    f.store().release(&lease.id, cooling).await.unwrap();
    let refused = f.store().lease_once(ONCE, Some(request(1))).await;
    assert!(matches!(refused, Err(Error::Exhausted { .. })), "{refused:?}");
    f.advance(10).await;
    let lease = next().await;
    f.store().delete(&lease.id, Fence::Any).await.unwrap();
    f.create().await;
    let lease = f.store().lease_once(ONCE, Some(request(1))).await.unwrap();
    // The next holder has a lease of its own.
    f.store().release(&lease.id, Release::default()).await.unwrap();
    let other = f.store().lease_once(ONCE, Some(request(2))).await.unwrap();
    assert!(f.store().lease_once(ONCE, Some(request(1))).await.is_err());
    assert_eq!(f.store().lease_once(ONCE, Some(request(2))).await, Ok(other));
}

pub(super) async fn a_request_key_is_for_one_request<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    f.create().await;
    let other = RequestKey { parameters: [1, 2, 3, 4, 6], ..request(1) };
    let lease = f.store().lease_once(ONCE, Some(request(1))).await.unwrap();
    assert_eq!(f.store().lease_once(ONCE, Some(other)).await, Err(Error::RequestReused));
    f.store().release(&lease.id, Release::default()).await.unwrap();
    // With its lease the request is forgotten.
    let lease = f.store().lease_once(ONCE, Some(other)).await.unwrap();
    let waiter = tokio::spawn({
        let f = Arc::clone(&f);
        async move { f.store().lease_once(WAIT, Some(request(2))).await }
    });
    f.settle().await;
    assert_eq!(f.store().lease_once(WAIT, Some(request(2))).await, Err(Error::RequestInProgress));
    let other = RequestKey { parameters: [1, 2, 3, 4, 6], ..request(2) };
    assert_eq!(f.store().lease_once(WAIT, Some(other)).await, Err(Error::RequestReused));
    f.store().release(&lease.id, Release::default()).await.unwrap();
    f.settle().await;
    let lease = waiter.await.unwrap().unwrap();
    assert_eq!(f.store().lease_once(WAIT, Some(request(2))).await, Ok(lease));
}

pub(super) async fn a_request_that_got_nothing_may_be_repeated<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    assert!(f.store().lease_once(ONCE, Some(request(1))).await.is_err());
    let waiter = tokio::spawn({
        let f = Arc::clone(&f);
        async move { f.store().lease_once(WAIT, Some(request(1))).await }
    });
    f.settle().await;
    // Its client goes away.
    waiter.abort();
    f.settle().await;
    f.create().await;
    let lease = f.store().lease_once(ONCE, Some(request(1))).await.unwrap();
    // A lease that no client received goes back, and its request with it.
    Store::give_back(f.store(), vec![*lease]);
    f.settle().await;
    let again = f.store().lease_once(ONCE, Some(request(1))).await.unwrap();
    assert!(again.generation > lease.generation);
}

pub(super) async fn each_of_many_keys_is_leased_once<F: Fixture>() {
    let f = F::make(Options::default()).await;
    f.store().create(200).await.unwrap();
    let first = f.store().lease_many_once(ONCE, 150, Some(request(1))).await.unwrap();
    assert_eq!(f.store().lease_many_once(ONCE, 150, Some(request(1))).await.unwrap(), first);
    f.store().release(&first[7].id, Release::default()).await.unwrap();
    let second = f.store().lease_many_once(ONCE, 150, Some(request(1))).await.unwrap();
    let changed = first.iter().zip(&second).filter(|(first, second)| first != second).count();
    assert_eq!((second.len(), changed), (150, 1));
    assert_eq!(f.store().stats().await.unwrap().leased, 150);
}

/// The first answer may have arrived, so its holder keeps the lease whatever becomes of the others.
pub(super) async fn a_retry_that_goes_away_takes_nothing_away<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let id = f.create().await;
    let lease = f.store().lease_once(ONCE, Some(request(1))).await.unwrap();
    let retry = f.store().lease_once(ONCE, Some(request(1))).await.unwrap();
    Store::give_back(f.store(), vec![*retry]);
    f.settle().await;
    assert_eq!(f.store().get(&id).await.unwrap().state, State::Leased(*lease));
    assert_eq!(f.store().lease_once(ONCE, Some(request(1))).await, Ok(lease));
    f.store().release(&id, Release::default()).await.unwrap();
    assert!(!f.is_blocked(&id).await);
}
