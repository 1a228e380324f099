//! Tests of the holders of leases.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::holders::HolderCursor;
use super::lease::Terms;
use super::pool::Pool;
use crate::error::Error;
use crate::key::{Fence, Holder, KeyId, Label, Leased, Quota, Ttl};
use crate::time::Timestamp;

const LEASE_MS: u32 = 60_000;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(ms)
}

/// A pool with so many keys.
fn pool(keys: usize) -> Pool {
    let (pool, mut rng) = (Pool::new(Ttl::default(), 100_000, 2), StdRng::seed_from_u64(13));
    let mut room = pool.reserve(keys, at(0)).unwrap();
    assert!((0..keys).all(|_| room.create(KeyId::from_random_bytes(rng.random()), at(0))));
    drop(room);
    pool
}

fn holder(name: &str, quota: Option<&Arc<Quota>>) -> Holder {
    Holder::new(name, quota.cloned()).unwrap()
}

fn lease(pool: &Pool, holder: &Holder, ms: u64) -> Result<Leased, Error> {
    let terms = Terms { holder: Some(holder), ..Terms::from(LEASE_MS) };
    pool.lease(at(ms), terms, &mut StdRng::seed_from_u64(14))
}

#[test]
fn a_holder_is_shown_as_long_as_its_lease_lasts() {
    let (pool, holder) = (pool(1), holder("worker-7", None));
    let shown =
        |id, ms| pool.get(id, at(ms)).unwrap().holder().map(|holder| holder.name().to_owned());
    let lease_1 = lease(&pool, &holder, 0).unwrap();
    assert_eq!(shown(&lease_1.id, 0), Some("worker-7".to_owned()));
    pool.renew(&lease_1.id, at(9), Fence::Any, 100).unwrap();
    assert_eq!(shown(&lease_1.id, 108), Some("worker-7".to_owned()));
    // It is over, though nobody has noticed it.
    assert_eq!(shown(&lease_1.id, 109), None);
    pool.lease(at(109), LEASE_MS, &mut StdRng::seed_from_u64(14)).unwrap();
    assert_eq!(shown(&lease_1.id, 109), None);
    pool.release(&lease_1.id, at(109), Fence::Any, 0).unwrap();
    lease(&pool, &holder, 109).unwrap();
    pool.release(&lease_1.id, at(110), Fence::Any, 1000).unwrap();
    assert_eq!(shown(&lease_1.id, 110), None);
    pool.check_invariants();
}

#[test]
fn a_quota_counts_each_lease_until_it_ends_in_whatever_way() {
    let (pool, other_pool, quota) = (pool(9), pool(1), Arc::new(Quota::new(5)));
    let of = |name: &str| holder(name, Some(&quota));
    let leases: Vec<_> =
        ["a", "b", "a", "b"].iter().map(|name| lease(&pool, &of(name), 0).unwrap()).collect();
    let elsewhere = lease(&other_pool, &of("c"), 0).unwrap();
    assert_eq!(lease(&pool, &of("a"), 1), Err(Error::TooManyHeld));
    // Others have other quotas, or none.
    lease(&pool, &holder("a", None), 1).unwrap();
    pool.release(&leases[0].id, at(1), Fence::Any, 0).unwrap();
    pool.release(&leases[1].id, at(1), Fence::Any, 500).unwrap();
    pool.delete(&leases[2].id, at(1), Fence::Any).unwrap();
    assert_eq!(quota.held(), 2);
    drop(other_pool);
    assert_eq!((quota.held(), elsewhere.value), (1, None));
    // The last one runs out, and its key dies.
    pool.expire(at(LEASE_MS.into()), 8);
    assert_eq!(quota.held(), 0);
    lease(&pool, &of("a"), 299_999).unwrap();
    while pool.expire(at(300_000), 8) > 0 {}
    assert_eq!((quota.held(), pool.stats().keys), (0, 0));
    pool.check_invariants();
}

#[test]
fn leases_that_are_over_do_not_use_up_a_quota() {
    let (pool, quota) = (pool(100), Arc::new(Quota::new(50)));
    let holder = holder("a", Some(&quota));
    (0..50).for_each(|_| drop(lease(&pool, &holder, 0).unwrap()));
    assert_eq!(lease(&pool, &holder, u64::from(LEASE_MS) - 1), Err(Error::TooManyHeld));
    // No sweep has run.
    lease(&pool, &holder, LEASE_MS.into()).unwrap();
    let mut leases = Vec::new();
    let terms = Terms { holder: Some(&holder), ..Terms::from(LEASE_MS) };
    let mut rng = StdRng::seed_from_u64(14);
    pool.lease_group(at(LEASE_MS.into()), terms, &mut rng, 100, &mut leases);
    // The group may leave out some.
    while lease(&pool, &holder, LEASE_MS.into()).is_ok() {}
    assert_eq!((quota.held(), pool.stats().leased), (50, 50));
    // Dead keys do not count, either.
    let mut room = pool.reserve(1, at(300_000)).unwrap();
    assert!(room.create(KeyId::from_random_bytes([9; 16]), at(300_000)));
    assert!(lease(&pool, &holder, 300_000).is_ok());
    pool.check_invariants();
}

#[test]
fn what_is_refused_counts_against_no_quota() {
    let (pool, quota) = (pool(1), Arc::new(Quota::new(5)));
    let holder = holder("a", Some(&quota));
    lease(&pool, &holder, 0).unwrap();
    assert_eq!(lease(&pool, &holder, 0), Err(Error::EXHAUSTED));
    let mut leases = Vec::new();
    let terms = Terms { holder: Some(&holder), ..Terms::from(LEASE_MS) };
    pool.lease_group(at(0), terms, &mut StdRng::seed_from_u64(14), 100, &mut leases);
    assert_eq!((quota.held(), leases.len()), (1, 0));
}

#[test]
fn all_leases_of_a_holder_are_taken_back_in_steps() {
    let pool = pool(1000);
    for name in ["a", "b", "a"] {
        (0..100).for_each(|_| drop(lease(&pool, &holder(name, None), 0).unwrap()));
    }
    let (mut released, mut cursor) = (Vec::new(), HolderCursor::default());
    let looked = [(); 4].map(|()| pool.release_all_of("a", at(1), 64, &mut cursor, &mut released));
    assert_eq!((looked, released.len()), ([64, 64, 64, 8], 200));
    assert_eq!(pool.release_all_of("a", at(1), 64, &mut HolderCursor::default(), &mut released), 0);
    assert_eq!((pool.stats().leased, pool.stats().totals.releases), (100, 200));
    // What is over is ended, and not taken back.
    released.clear();
    let mut cursor = HolderCursor::default();
    let looked = pool.release_all_of("b", at(LEASE_MS.into()), 200, &mut cursor, &mut released);
    assert_eq!(looked, 100);
    assert_eq!((released.len(), pool.stats().totals.lease_timeouts), (0, 100));
    pool.check_invariants();
    pool.records.each_shard(|shard| assert!(shard.own().is_none(), "something is left"));
}

#[test]
fn dead_keys_of_a_holder_do_not_hinder_a_take_back() {
    let pool = pool(10);
    (0..10).for_each(|_| drop(lease(&pool, &holder("a", None), 299_000).unwrap()));
    let (mut released, mut cursor) = (Vec::new(), HolderCursor::default());
    let looked =
        [(); 3].map(|()| pool.release_all_of("a", at(300_000), 6, &mut cursor, &mut released));
    assert_eq!((looked, released.len(), pool.stats().keys), ([6, 4, 0], 0, 0));
}

#[test]
fn a_take_back_ends_though_its_holder_goes_on_to_lease() {
    let pool = pool(100);
    let holder = holder("a", None);
    (0..100).for_each(|_| drop(lease(&pool, &holder, 0).unwrap()));
    let mut cursor = HolderCursor::default();
    // No key is looked at twice.
    for left in [92, 84, 76, 68, 60, 52, 44, 36, 28, 20, 12, 4, 0] {
        let mut released = Vec::new();
        let looked = pool.release_all_of("a", at(1), 8, &mut cursor, &mut released);
        assert_eq!((looked, released.len()), (8.min(left + 4), 8.min(left + 4)), "{left}");
        (0..looked).for_each(|_| drop(lease(&pool, &holder, 1).unwrap()));
    }
    assert_eq!(pool.stats().leased, 100);
}

#[test]
fn a_quota_that_is_used_up_is_told_before_a_label_that_no_key_has() {
    let (pool, quota) = (pool(2), Arc::new(Quota::new(1)));
    let (holder, label) = (holder("a", Some(&quota)), Label::new("plan", "pro").unwrap());
    let terms = Terms { holder: Some(&holder), label: Some(&label), ..Terms::from(LEASE_MS) };
    let by_label = || pool.lease(at(0), terms, &mut StdRng::seed_from_u64(14));
    assert_eq!(by_label(), Err(Error::EXHAUSTED));
    lease(&pool, &holder, 0).unwrap();
    assert_eq!(by_label(), Err(Error::TooManyHeld));
}
