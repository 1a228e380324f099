//! The orderings that the pool relies on, in every interleaving of two or three threads.
//!
//! `cargo test --features loom --lib exhaustive`. The pool under test is the real one, but for what
//! libraries do, its table of records and the slices of its indexes (maps behind locks), for one
//! stripe of each index and of counters instead of many, and for one dart a draw. loom treats
//! `SeqCst` accesses as `AcqRel`, so what is shown here holds under weaker promises than the hardware's.

use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::expiry::ExpiryIndex;
use super::{Handle, Pool};
use crate::error::Error;
use crate::key::{Fence, KeyId, Lease, Ttl};
use crate::time::Timestamp;

const TTL: Ttl = Ttl { key_ttl_ms: 100, lease_ttl_ms: 10 };
const LEASE_MS: u32 = 10;
/// The id of this number is kept in another shard than that of 0.
const OTHER: u8 = 0x3f;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(ms)
}

fn id(n: u8) -> KeyId {
    KeyId::from_random_bytes([n; 16])
}

fn lease(pool: &Pool, ms: u64) -> Result<Lease, Error> {
    pool.lease(at(ms), LEASE_MS, &mut SmallRng::seed_from_u64(7))
}

/// A pool with so many keys, born at 0.
fn pool_of(keys: u8) -> Pool {
    let pool = Pool::new(TTL, 4, 2);
    let mut room = pool.reserve(usize::from(keys), at(0)).unwrap();
    assert!((0..keys).all(|n| room.create(id(n * OTHER), at(0))));
    drop(room);
    pool
}

/// A pool with one key, which is leased until 10.
fn held() -> Pool {
    let pool = pool_of(1);
    lease(&pool, 0).unwrap();
    pool
}

/// Looks at every interleaving with at most four preemptions.
fn checker() -> Builder {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(4);
    builder.max_branches = 10_000;
    builder
}

/// Runs `threads` on what `make` made, in every interleaving that can make a difference and has at
/// most four preemptions; `check` sees what they answered. The pool's invariants hold in the end.
fn exhaust<T: Send + 'static>(
    make: fn() -> Pool,
    threads: &'static [fn(&Pool) -> T],
    check: fn(&Pool, &[T]),
) {
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&runs);
    checker().check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let pool = Arc::new(make());
        let (first, others) = threads.split_first().expect("a thread");
        let others: Vec<_> = others
            .iter()
            .map(|other| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || other(&pool))
            })
            .collect();
        let mut answers = vec![first(&pool)];
        answers.extend(others.into_iter().map(|other| other.join().unwrap()));
        pool.check_invariants();
        check(&pool, &answers);
    });
    let runs = runs.load(std::sync::atomic::Ordering::Relaxed);
    println!("{runs} interleavings");
    assert!(runs > 1, "they never met");
}

/// Whether all keys that live are found by those who ask for them, and none twice.
fn drains(pool: &Pool, ms: u64, keys: usize) {
    let mut leased: Vec<_> =
        (0..keys).map(|_| lease(pool, ms).expect("a key was lost").id).collect();
    leased.sort();
    leased.dedup();
    assert_eq!(leased.len(), keys, "a key was served twice");
    assert_eq!(lease(pool, ms), Err(Error::Exhausted));
}

#[test]
fn two_who_draw_share_no_key() {
    exhaust(
        || pool_of(1),
        &[|pool| lease(pool, 1), |pool| lease(pool, 1)],
        |_, answers| assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1),
    );
}

#[test]
fn two_who_draw_of_two_keys_get_one_each() {
    exhaust(
        || pool_of(2),
        &[|pool| lease(pool, 1), |pool| lease(pool, 1)],
        |_, answers| assert!(answers.iter().all(Result::is_ok), "{answers:?}"),
    );
}

#[test]
fn draw_and_delete() {
    exhaust(
        || pool_of(1),
        &[|pool| lease(pool, 1).map(drop), |pool| pool.delete(&id(0), at(1), Fence::Open)],
        |pool, answers| {
            assert_eq!(answers[1], Ok(()));
            let totals = pool.stats().totals;
            assert_eq!((totals.deleted, totals.leases), (1, u64::from(answers[0].is_ok())));
            assert_eq!(totals.leases_lost, totals.leases);
            drains(pool, 1, 0);
        },
    );
}

#[test]
fn release_and_draw() {
    exhaust(
        held,
        &[
            |pool| pool.release(&id(0), at(1), Fence::OneOf(&[1]), 0),
            |pool| lease(pool, 1).map(drop),
        ],
        |pool, answers| {
            assert_eq!(answers[0], Ok(()));
            drains(pool, 1, usize::from(answers[1].is_err()));
        },
    );
}

#[test]
fn release_and_sweep_of_a_lease_that_is_over() {
    exhaust(
        held,
        &[
            |pool| pool.release(&id(0), at(10), Fence::Open, 0),
            |pool| {
                while pool.expire(at(10), 1) > 0 {}
                Ok(())
            },
        ],
        |pool, answers| {
            assert_eq!(answers, [Ok(()), Ok(())]);
            assert_eq!(pool.stats().totals.lease_timeouts, 1);
            drains(pool, 10, 1);
        },
    );
}

/// The lease is over at the time that both know, so the key is there for whoever asks, however far
/// the sweep is.
#[test]
fn a_draw_finds_the_key_that_a_sweep_is_freeing() {
    exhaust(
        held,
        &[
            |pool| lease(pool, 10).map(drop),
            |pool| {
                pool.expire(at(10), 4);
                Ok(())
            },
        ],
        |_, answers| assert_eq!(answers[0], Ok(())),
    );
}

#[test]
fn two_draws_find_the_two_leases_that_are_over() {
    exhaust(
        || {
            let pool = pool_of(2);
            lease(&pool, 0).and(lease(&pool, 0)).unwrap();
            pool
        },
        &[|pool| lease(pool, 10), |pool| lease(pool, 10)],
        |_, answers| assert!(answers.iter().all(Result::is_ok), "{answers:?}"),
    );
}

#[test]
fn a_draw_and_the_death_of_the_key() {
    exhaust(
        || pool_of(1),
        &[
            |pool| lease(pool, 99).map(drop),
            |pool| {
                pool.expire(at(100), 4);
                Ok(())
            },
        ],
        |pool, _| {
            drains(pool, 100, 0);
            while pool.expire(at(100), 4) > 0 {}
            let stats = pool.stats();
            assert_eq!((stats.keys, stats.totals.expired), (0, 1));
            assert_eq!((stats.life_entries, stats.hold_entries), (0, 0));
        },
    );
}

#[test]
fn a_keep_alive_and_the_sweep_at_the_end_of_the_life() {
    exhaust(
        || pool_of(1),
        &[|pool| pool.keep_alive(&id(0), at(99)).is_ok(), |pool| pool.expire(at(100), 4) > 0],
        |pool, answers| {
            // Whoever was told that the key lives on, finds it.
            assert_eq!(pool.get(&id(0), at(198)).is_ok(), answers[0]);
            while pool.expire(at(199), 4) > 0 {}
            assert_eq!(pool.stats().life_entries, 0);
        },
    );
}

#[test]
fn a_renewal_and_a_draw_at_the_end_of_the_lease() {
    exhaust(
        held,
        &[|pool| pool.renew(&id(0), at(9), Fence::OneOf(&[1]), LEASE_MS), |pool| lease(pool, 10)],
        |_, answers| {
            assert_ne!(answers[0].is_ok(), answers[1].is_ok(), "two holders, or none: {answers:?}");
        },
    );
}

#[test]
fn a_creation_and_a_draw() {
    exhaust(
        || pool_of(0),
        &[
            |pool| pool.reserve(1, at(1)).unwrap().create(id(0), at(1)),
            |pool| lease(pool, 1).is_ok(),
        ],
        |pool, answers| drains(pool, 1, usize::from(!answers[1])),
    );
}

/// A dead key takes room until it is removed, by whomever.
#[test]
fn a_creation_and_the_death_of_the_key_in_its_place() {
    exhaust(
        || {
            let pool = Pool::new(TTL, 1, 2);
            assert!(pool.reserve(1, at(0)).unwrap().create(id(0), at(0)));
            pool
        },
        &[
            // As the store in memory does it.
            |pool| {
                let mut room = loop {
                    if let Ok(room) = pool.reserve(1, at(100)) {
                        break room;
                    }
                    if pool.expire(at(100), 4) == 0 {
                        break pool.reserve(1, at(100)).expect("the only key is dead");
                    }
                };
                room.create(id(OTHER), at(100))
            },
            |pool| pool.expire(at(100), 4) <= 4,
        ],
        |pool, answers| {
            assert_eq!(answers, [true, true]);
            drains(pool, 100, 1);
        },
    );
}

#[test]
fn two_sweeps_at_a_death() {
    exhaust(
        || {
            let pool = pool_of(2);
            lease(&pool, 0).unwrap();
            pool
        },
        &[|pool| pool.expire(at(100), 4), |pool| pool.expire(at(100), 4)],
        |pool, _| {
            while pool.expire(at(100), 4) > 0 {}
            let stats = pool.stats();
            assert_eq!((stats.keys, stats.totals.expired), (0, 2));
            assert_eq!((stats.life_entries, stats.hold_entries), (0, 0));
        },
    );
}

#[test]
fn a_deletion_and_the_end_of_the_lease() {
    exhaust(
        held,
        &[
            |pool| pool.delete(&id(0), at(10), Fence::Open).is_ok(),
            |pool| pool.expire(at(10), 4) <= 4,
        ],
        |pool, answers| {
            assert_eq!(answers, [true, true]);
            drains(pool, 10, 0);
        },
    );
}

/// They arm entries at different times in one index.
#[test]
fn two_creations() {
    exhaust(
        || pool_of(0),
        &[
            |pool| pool.reserve(1, at(5)).unwrap().create(id(0), at(5)),
            |pool| pool.reserve(1, at(1)).unwrap().create(id(OTHER), at(1)),
        ],
        |pool, answers| {
            assert_eq!(answers, [true, true]);
            assert_eq!(pool.next_deadline(), Some(at(101)));
            drains(pool, 5, 2);
        },
    );
}

/// One entry leaves the index while another comes.
#[test]
fn a_deletion_and_a_creation() {
    exhaust(
        || pool_of(1),
        &[
            |pool| pool.delete(&id(0), at(1), Fence::Open).is_ok(),
            |pool| pool.reserve(1, at(1)).unwrap().create(id(OTHER), at(1)),
        ],
        |pool, answers| {
            assert_eq!(answers, [true, true]);
            assert_eq!(pool.next_deadline(), Some(at(101)));
            drains(pool, 1, 1);
        },
    );
}

#[test]
fn three_at_once_on_one_key() {
    exhaust(
        held,
        &[
            |pool| pool.release(&id(0), at(10), Fence::OneOf(&[1]), 0).is_ok(),
            |pool| pool.expire(at(10), 1) > 0,
            |pool| lease(pool, 10).is_ok(),
        ],
        |pool, answers| {
            assert!(answers[2], "the key is free for whoever asks");
            drains(pool, 19, 0);
            drains(pool, 20, 1);
        },
    );
}

/// The last entry of a slice goes, and the slice with it, while another is added.
#[test]
fn an_entry_is_not_added_to_a_slice_that_goes() {
    let of = |n: u8| Handle::split(&id(n)).1;
    checker().check(move || {
        let index = Arc::new(ExpiryIndex::new(0));
        let mut near = index.near();
        near.arm(at(1), of(0));
        let other = Arc::clone(&index);
        let goes = thread::spawn(move || other.disarm(at(1), of(0)));
        // First to the slice that it knows, and then to one that it looks for.
        near.arm(at(2), of(1));
        index.arm(at(3), of(2));
        goes.join().unwrap();
        assert_eq!((index.first(), index.len()), (Some((at(2), of(1))), 2));
    });
}
