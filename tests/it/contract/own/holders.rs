//! Who holds leases: taking them back together, and quotas.

use std::sync::Arc;

use token_orchestrator::error::Error;
use token_orchestrator::key::{Fence, Leased, Quota};
use token_orchestrator::pool::PoolId;
use token_orchestrator::store::{
    InPool, Leasing, Operation, Options, Release, Reply, RequestKey, Store, StoreExt,
};

use super::super::{Fixture, LEASE_MS, LIFE_MS};
use super::{MANY, WAIT_MS, assert_exhausted, assert_wait, held_by, holder, put, soon, wait};

const WAIT: Leasing = Leasing::of_any(None, WAIT_MS);

/// Who holds a key, as a look at it shows.
async fn holder_of<S: Store>(pool: InPool<'_, S>, leased: &Leased) -> Option<String> {
    let info = pool.get(&leased.id).await.unwrap();
    info.holder().map(|holder| holder.name().to_owned())
}

pub(in super::super) async fn a_holder_is_shown_while_its_lease_lasts<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let pool = f.store().pool(PoolId::DEFAULT);
    f.create().await;
    let leased = pool.lease(held_by(&holder("a", None), 0)).await.unwrap();
    f.advance(LEASE_MS - 1).await;
    assert_eq!(holder_of(pool, &leased).await, Some("a".to_owned()));
    f.advance(1).await;
    assert_eq!(holder_of(pool, &leased).await, None);
    let leased = pool.lease(held_by(&holder("b", None), 0)).await.unwrap();
    assert_eq!(holder_of(pool, &leased).await, Some("b".to_owned()));
    pool.release(&leased.id, Release::default()).await.unwrap();
    assert_eq!(holder_of(pool, &leased).await, None);
    pool.lease(Leasing::default()).await.unwrap();
    assert_eq!(holder_of(pool, &leased).await, None);
}

pub(in super::super) async fn all_leases_of_a_holder_are_taken_back<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    let (a, b) = (holder("a", None), holder("b", None));
    let other = put(&*f, "other").await;
    let ids = f.store().create(MANY + 2).await.unwrap().ids;
    other.create(1).await.unwrap();
    let in_other = other.lease(held_by(&a, 0)).await.unwrap();
    let of_a = f.store().lease_many(held_by(&a, 0), MANY).await.unwrap();
    let of_b = f.store().lease(held_by(&b, 0)).await.unwrap();
    let of_nobody = f.store().lease(Leasing::default()).await.unwrap();
    let take = async |pool: PoolId, name: &str| f.store().take_back_from(pool, name).await;
    assert_eq!(take(PoolId::DEFAULT, "c").await, Ok(0));
    assert_eq!(take(PoolId::DEFAULT, "a").await, Ok(MANY as u64));
    assert_eq!(take(PoolId::DEFAULT, "a").await, Ok(0));
    assert_eq!(f.free_ids(&ids).await.len(), MANY);
    assert!(f.is_blocked(&of_b.id).await && f.is_blocked(&of_nobody.id).await);
    assert_eq!(holder_of(other, &in_other).await, Some("a".to_owned()));
    // What the holder may still do with them is refused.
    let fence = Fence::OneOf(&[of_a[0].generation]);
    let late = f.store().release(&of_a[0].id, Release { fence, cooldown_ms: 0 }).await;
    assert_eq!(late, Err(Error::Stale));
    // Their keys go to those that wait.
    f.store().lease_many(held_by(&a, 0), MANY).await.unwrap();
    let waiter = wait(&f, WAIT).await;
    assert_eq!(take(PoolId::DEFAULT, "a").await, Ok(MANY as u64));
    soon(&*f, waiter).await.unwrap();
    // What is over is not taken back any more.
    f.store().lease(held_by(&a, 0)).await.unwrap();
    f.advance(LEASE_MS).await;
    assert_eq!(take(PoolId::DEFAULT, "a").await, Ok(0));
    f.store().delete_pool("other", true).await.unwrap();
    assert_eq!(take(other.place().1, "a").await, Err(Error::NoSuchPool));
    assert_eq!(f.store().stats().await.unwrap().totals.releases, 2 * MANY as u64);
}

pub(in super::super) async fn a_retry_after_a_take_back_leases_anew<F: Fixture>() {
    let f = F::make(Options::default()).await;
    f.create().await;
    let request = Some(RequestKey { digest: [1; 16], parameters: [0; 5] });
    let leasing = held_by(&holder("a", None), 0);
    let first = f.store().lease_once(leasing.clone(), request).await.unwrap();
    assert_eq!(f.store().take_back_from(PoolId::DEFAULT, "a").await, Ok(1));
    let second = f.store().lease_once(leasing, request).await.unwrap();
    assert!(second.generation > first.generation);
}

pub(in super::super) async fn a_quota_is_for_all_pools<F: Fixture>() {
    let f = F::make(Options::default()).await;
    let quota = Arc::new(Quota::new(2));
    let of = |name: &str, wait_ms| held_by(&holder(name, Some(&quota)), wait_ms);
    let (default, p) = (f.store().pool(PoolId::DEFAULT), put(&f, "p").await);
    default.create(9).await.unwrap();
    p.create(9).await.unwrap();
    let first = default.lease(of("a", 0)).await.unwrap();
    p.lease(of("b", 0)).await.unwrap();
    let assert_used_up = async || {
        for pool in [default, p] {
            // It would be in vain to wait for a key.
            for wait_ms in [0, WAIT_MS] {
                assert_eq!(pool.lease(of("a", wait_ms)).await, Err(Error::TooManyHeld));
                assert_eq!(pool.lease_many(of("c", wait_ms), 3).await, Err(Error::TooManyHeld));
            }
        }
        assert_eq!(quota.held(), 2);
    };
    assert_used_up().await;
    // Others do not count, whatever they are called.
    default.lease(held_by(&holder("a", None), 0)).await.unwrap();
    default.release(&first.id, Release::default()).await.unwrap();
    let second = default.lease(of("a", 0)).await.unwrap();
    assert_used_up().await;
    default.release(&second.id, Release { cooldown_ms: 500, ..Release::default() }).await.unwrap();
    let third = default.lease(of("a", 0)).await.unwrap();
    assert_used_up().await;
    default.delete(&third.id, Fence::Any).await.unwrap();
    default.lease(of("a", 0)).await.unwrap();
    assert_used_up().await;
    assert_eq!(f.store().take_back_from(PoolId::DEFAULT, "a").await, Ok(2));
    f.store().delete_pool("p", true).await.unwrap();
    f.settle().await;
    assert_eq!(quota.held(), 0);
    // Of many keys it gets as many as it may.
    assert_eq!(default.lease_many(of("a", 0), 5).await.unwrap().len(), 2);
    // A quota that has shrunk ends no lease, and lets none begin.
    quota.set_max(1);
    assert_eq!(default.lease(of("a", 0)).await, Err(Error::TooManyHeld));
    f.advance(LEASE_MS).await;
    // Nothing has noticed that they are over.
    default.lease(of("a", 0)).await.unwrap();
    assert_eq!(default.lease(of("a", 0)).await, Err(Error::TooManyHeld));
    // The end of its life frees it, too.
    f.advance(LIFE_MS).await;
    f.settle().await;
    assert_eq!(quota.held(), 0);
}

pub(in super::super) async fn a_refusal_counts_against_no_quota<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    let quota = Arc::new(Quota::new(1));
    let of = |wait_ms| held_by(&holder("a", Some(&quota)), wait_ms);
    assert_exhausted(&f.store().lease(of(0)).await);
    assert_exhausted(&f.store().lease_many(of(0), 5).await);
    let gone = wait(&f, of(WAIT_MS)).await;
    gone.abort();
    f.settle().await;
    let late = wait(&f, of(WAIT_MS)).await;
    f.advance(u64::from(WAIT_MS)).await;
    assert_exhausted(&soon(&*f, late).await);
    assert_eq!(quota.held(), 0);
    // One that waits and gets a key counts, and one that no client has received does not.
    let waiter = wait(&f, of(WAIT_MS)).await;
    f.create().await;
    let leased = soon(&*f, waiter).await.unwrap();
    assert_eq!(quota.held(), 1);
    f.store().give_back(vec![*leased]);
    f.settle().await;
    assert_eq!(quota.held(), 0);
}

/// A client that waits is refused once its turn comes, if it has got elsewhere what it may have. The key is for the next
/// one.
pub(in super::super) async fn a_waiter_beyond_its_quota_takes_no_key<F: Fixture>() {
    let f = Arc::new(F::make(Options::default()).await);
    let quota = Arc::new(Quota::new(1));
    let of = |wait_ms| held_by(&holder("a", Some(&quota)), wait_ms);
    let p = put(&*f, "p").await;
    p.create(1).await.unwrap();
    let beyond = wait(&f, of(WAIT_MS)).await;
    let next = wait(&f, WAIT).await;
    p.lease(of(0)).await.unwrap();
    let id = f.create().await;
    assert_eq!(soon(&*f, beyond).await, Err(Error::TooManyHeld));
    assert_eq!(soon(&*f, next).await.unwrap().id, id);
    // Behind others, it is refused before it waits.
    let first = wait(&f, WAIT).await;
    assert_eq!(f.store().lease(of(0)).await, Err(Error::TooManyHeld));
    let refused = wait(&f, of(WAIT_MS)).await;
    assert_eq!(soon(&*f, refused).await, Err(Error::TooManyHeld));
    assert_wait(&*f, &[&first]).await;
}

/// Holders of the same name need not have the same quota, even if their leases are asked for together.
pub(in super::super) async fn each_lease_counts_against_its_own_quota<F: Fixture>() {
    let f = F::make(Options::default()).await;
    f.store().create(10).await.unwrap();
    let [one, two] = [1, 2].map(|max| Arc::new(Quota::new(max)));
    let lease = |quota| Operation::Lease(held_by(&holder("a", quota), 0));
    let operations =
        [lease(Some(&one)), lease(None), lease(Some(&two)), lease(Some(&two)), lease(Some(&one))];
    let outcomes = f.store().call_all(&operations).await;
    let is_leased: Vec<_> =
        outcomes.iter().map(|outcome| matches!(outcome, Ok(Reply::Leased(_)))).collect();
    assert_eq!(is_leased, [true, true, true, true, false]);
    assert_eq!(outcomes[4], Err(Error::TooManyHeld));
    assert_eq!((one.held(), two.held()), (1, 2));
}
