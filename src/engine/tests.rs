//! Tests of the pool: the bounds of its indexes, and rare paths.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::pool::Pool;
use crate::error::Error;
use crate::key::{Fence, KeyId, Ttl};
use crate::time::Timestamp;

const LEASE_MS: u32 = 60_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(ms)
}

fn pool(shards: usize) -> Pool {
    Pool::new(Ttl::default(), 1_000_000, shards)
}

fn create(pool: &Pool, count: usize, rng: &mut StdRng) -> Vec<KeyId> {
    let mut room = pool.reserve(count, at(0)).unwrap();
    let ids: Vec<_> = (0..count).map(|_| KeyId::from_random_bytes(rng.random())).collect();
    assert!(ids.iter().all(|id| room.create(*id, at(0))));
    ids
}

#[test]
fn stale_hints_never_outgrow_the_live_ones() {
    let mut rng = StdRng::seed_from_u64(4);
    let pool = pool(2);
    let ids = create(&pool, 20_000, &mut rng);
    for (deleted, id) in ids.iter().enumerate() {
        pool.delete(id, at(0), Fence::Any).unwrap();
        if deleted % 500 == 0 {
            pool.check_invariants();
        }
    }
    pool.check_invariants();
    assert!(pool.index_sizes().stale_hints <= 128, "{:?}", pool.index_sizes());
    assert_eq!(pool.lease(at(0), LEASE_MS, &mut rng), Err(Error::EXHAUSTED));
    assert_eq!(pool.index_sizes().stale_hints, 0);
}

#[test]
fn the_indexes_follow_the_keys_and_not_the_requests() {
    let mut rng = StdRng::seed_from_u64(5);
    let pool = pool(2);
    create(&pool, 10, &mut rng);
    for ms in 0..200_000 {
        let lease = pool.lease(at(ms), LEASE_MS, &mut rng).unwrap();
        pool.keep_alive(&lease.id, at(ms)).unwrap();
        pool.release(&lease.id, at(ms), Fence::Any, 0).unwrap();
        let [id] = create(&pool, 1, &mut rng)[..] else { unreachable!() };
        pool.delete(&id, at(ms % 1000), Fence::Any).unwrap();
        pool.expire(at(ms), 16);
        let sizes = pool.index_sizes();
        assert!(sizes.life_entries == 10 && sizes.block_entries <= 10, "{sizes:?}");
        assert!(sizes.stale_hints <= 128, "{sizes:?}");
    }
    pool.check_invariants();
}

#[test]
fn a_keep_alive_that_no_sweep_follows_for_months_still_counts() {
    let pool = Pool::new(Ttl { key_ttl_ms: 40 * DAY_MS, lease_ttl_ms: 1 }, 1, 2);
    let [id] = create(&pool, 1, &mut StdRng::seed_from_u64(6))[..] else { unreachable!() };
    for days in [30, 60, 90, 120, 150] {
        pool.keep_alive(&id, at(days * DAY_MS)).unwrap();
        assert_eq!(pool.get(&id, at(days * DAY_MS)).unwrap().life_ends, at((days + 40) * DAY_MS));
        pool.check_invariants();
    }
    pool.expire(at(190 * DAY_MS - 1), 10);
    assert_eq!(pool.stats().keys, 1);
    pool.expire(at(190 * DAY_MS), 10);
    assert_eq!(pool.stats().keys, 0);
    pool.check_invariants();
}

#[test]
fn an_id_that_is_taken_is_not_created_again() {
    let pool = pool(2);
    let mut room = pool.reserve(3, at(0)).unwrap();
    let id = KeyId::from_random_bytes([1; 16]);
    assert!(room.create(id, at(0)));
    assert!(!room.create(id, at(5)));
    // Another id with the same short id, which is the second half.
    let mut twin = *id.as_bytes();
    twin[0] ^= 1;
    let twin = KeyId::from_bytes(twin);
    assert!(!room.create(twin, at(5)));
    drop(room);
    assert_eq!(pool.stats().keys, 1);
    assert_eq!(pool.get(&id, at(5)).unwrap().created_at, at(0));
    for result in [
        pool.release(&twin, at(5), Fence::Any, 0),
        pool.keep_alive(&twin, at(5)).map(drop),
        pool.delete(&twin, at(5), Fence::Any),
    ] {
        assert_eq!(result, Err(Error::NotFound));
    }
    assert_eq!(pool.get(&twin, at(5)), Err(Error::NotFound));
    pool.check_invariants();
}

#[test]
fn the_next_deadline_is_that_of_the_next_entry() {
    let mut rng = StdRng::seed_from_u64(7);
    let pool = pool(2);
    assert_eq!(pool.next_deadline(), None);
    create(&pool, 1, &mut rng);
    assert_eq!(pool.next_deadline(), Some(at(300_000)));
    pool.lease(at(5), LEASE_MS, &mut rng).unwrap();
    assert_eq!(pool.next_deadline(), Some(at(60_005)));
    assert_eq!(pool.expire(at(60_004), 5), 0);
    assert_eq!(pool.expire(at(60_005), 5), 1);
    assert_eq!(pool.next_deadline(), Some(at(300_000)));
}

#[test]
fn the_tables_of_the_dead_and_deleted_are_given_back() {
    let mut rng = StdRng::seed_from_u64(8);
    let pool = pool(4);
    for is_deleted in [false, true] {
        let ids = create(&pool, 50_000, &mut rng);
        assert!(pool.records.capacity() >= 50_000);
        if is_deleted {
            for id in &ids {
                pool.delete(id, at(0), Fence::Any).unwrap();
            }
        } else {
            while pool.expire(at(300_000), 64) == 64 {}
        }
        assert!(pool.records.capacity() < 1000, "{}", pool.records.capacity());
        pool.check_invariants();
    }
}

#[test]
fn a_lease_among_many_dead_gives_way_to_others() {
    let mut rng = StdRng::seed_from_u64(9);
    let pool = pool(4);
    create(&pool, 1000, &mut rng);
    let dead = at(300_000);
    assert_eq!(pool.lease_within(dead, LEASE_MS, &mut rng, &mut 64), None);
    assert_eq!(pool.stats().keys, 1000 - 64);
    assert_eq!(pool.lease(dead, LEASE_MS, &mut rng), Err(Error::EXHAUSTED));
    assert_eq!(pool.stats().keys, 0);
    pool.check_invariants();
}

/// A thread may be delayed between reading a clock and calling the pool.
#[test]
fn time_never_runs_backwards_for_a_key() {
    let mut rng = StdRng::seed_from_u64(10);
    let pool = pool(2);
    let [id] = create(&pool, 1, &mut rng)[..] else { unreachable!() };
    let lease = pool.lease(at(5), LEASE_MS, &mut rng).unwrap();
    let (fence, end) = (Fence::One(lease.generation), lease.until);
    // Another thread has seen the end of the lease.
    assert_eq!(pool.get(&id, end).unwrap().generation, lease.generation + 1);
    let before = Timestamp::from_ms(end.as_ms() - 1);
    assert_eq!(pool.get(&id, before).unwrap().generation, lease.generation + 1);
    assert_eq!(pool.renew(&id, before, fence, LEASE_MS), Err(Error::Stale));
    assert_eq!(pool.release(&id, before, fence, 0), Err(Error::Stale));
    assert_eq!(pool.delete(&id, before, fence), Err(Error::Stale));
    // The next lease is not dated before the end of the last one.
    pool.expire(end, 8);
    let next = pool.lease(before, LEASE_MS, &mut rng).unwrap();
    assert_eq!((next.since, next.until), (end, end.plus_ms(LEASE_MS.into())));
    // The same is true of its life.
    assert_eq!(pool.get(&id, at(300_000)), Err(Error::NotFound));
    assert_eq!(pool.keep_alive(&id, at(299_999)), Err(Error::NotFound));
    assert_eq!(pool.get(&id, at(299_999)), Err(Error::NotFound));
    assert_eq!(pool.lease(at(299_999), LEASE_MS, &mut rng), Err(Error::EXHAUSTED));
}

/// No sweep runs here: operations that add deadlines handle those that are due.
#[test]
fn what_is_due_does_not_pile_up_without_a_sweep() {
    let mut rng = StdRng::seed_from_u64(11);
    let pool = pool(4);
    for round in 0..20_u64 {
        let now = at(round * 300_000);
        for _ in 0..1000 {
            let mut room = pool.reserve(1, now).unwrap();
            assert!(room.create(KeyId::from_random_bytes(rng.random()), now));
        }
        // The keys of the round before are removed, but for the last few.
        assert!(pool.stats().keys <= 1064, "{:?}", pool.stats());
        for ms in (0..300_000).step_by(60_000) {
            let mut leases = Vec::new();
            pool.lease_group(now.plus_ms(ms), LEASE_MS, &mut rng, 1000, &mut leases);
            assert!(leases.len() >= 900, "only {} leases of round {round}", leases.len());
        }
        pool.check_invariants();
    }
}
