//! Running the pool in every interleaving of two or three threads.
//!
//! `tests/loom` runs the scenarios. The pool under test is the real one with three differences: its table of
//! records and the time buckets of its indexes, which are the work of libraries, are maps behind locks; each
//! index has a single stripe; and a draw takes a single sample. loom treats `SeqCst` accesses as `AcqRel`, so
//! what it shows holds under weaker guarantees than the hardware gives.

use ::loom::model::Builder;
use ::loom::sync::Arc;
use ::loom::thread;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::super::create::{Creation, NewKey};
use super::super::lease::Terms;
use super::super::pool::Pool;
use crate::error::Error;
use crate::key::{Holder, KeyId, Label, Lease, Quota, Ttl, Value};
use crate::time::Timestamp;

pub(super) const TTL: Ttl = Ttl { key_ttl_ms: 100, lease_ttl_ms: 10 };
pub(super) const LEASE_MS: u32 = 10;
/// The number of an id in another shard than the id of number 0.
pub(super) const OTHER: u8 = 0x3f;

pub(super) fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(ms)
}

pub(super) fn id(n: u8) -> KeyId {
    KeyId::from_random_bytes([n; 16])
}

pub(super) fn lease(pool: &Pool, ms: u64) -> Result<Lease, Error> {
    pool.lease(at(ms), LEASE_MS, &mut SmallRng::seed_from_u64(7)).map(|leased| leased.lease)
}

/// A pool with so many keys, created at 0.
pub(super) fn pool_of(keys: u8) -> Pool {
    let pool = Pool::new(TTL, 4, 2);
    let mut room = pool.reserve(usize::from(keys), at(0)).unwrap();
    assert!((0..keys).all(|n| room.create(id(n * OTHER), at(0))));
    drop(room);
    pool
}

/// A pool with one key, leased until 10.
pub(super) fn leased() -> Pool {
    let pool = pool_of(1);
    lease(&pool, 0).unwrap();
    pool
}

/// Looks at every interleaving with at most four preemptions.
pub(super) fn checker() -> Builder {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(4);
    builder.max_branches = 10_000;
    builder
}

/// Runs `threads` on a pool that `make` makes, in every interleaving that can make a difference and has at
/// most four preemptions. Then it checks the pool's invariants, and calls `check` with what the threads
/// returned.
pub(super) fn exhaust<T: Send + 'static>(
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
    assert!(runs > 1, "the threads never interleave");
}

/// Asserts that exactly `keys` keys can be leased, each of them once.
pub(super) fn drains(pool: &Pool, ms: u64, keys: usize) {
    let mut leased: Vec<_> =
        (0..keys).map(|_| lease(pool, ms).expect("a key was lost").id).collect();
    leased.sort();
    leased.dedup();
    assert_eq!(leased.len(), keys, "a key was served twice");
    assert_eq!(lease(pool, ms), Err(Error::EXHAUSTED));
}

/// How many entries are left in the indexes of lives and of blocks.
pub(super) fn entries(pool: &Pool) -> (u64, u64) {
    let sizes = pool.index_sizes();
    (sizes.life_entries, sizes.block_entries)
}

/// Creates the key number `n` with the value `a`.
pub(super) fn import(pool: &Pool, n: u8, ms: u64) -> Creation {
    let own = NewKey { value: Some(&Value::new("a").unwrap()), ..NewKey::default() };
    let mut room = pool.reserve(1, at(ms)).unwrap();
    room.create_with(id(n), at(ms), own).unwrap()
}

fn label() -> Label {
    Label::new("a", "1").unwrap()
}

/// Creates the key number `n` with the label `a:1`.
pub(super) fn label_key(pool: &Pool, n: u8, ms: u64) -> Creation {
    let own = NewKey { labels: &[label()], ..NewKey::default() };
    pool.reserve(1, at(ms)).unwrap().create_with(id(n), at(ms), own).unwrap()
}

/// Leases a key with the label `a:1`.
pub(super) fn lease_by_label(pool: &Pool, ms: u64) -> Result<Lease, Error> {
    let terms = Terms { label: Some(&label()), ..Terms::from(LEASE_MS) };
    pool.lease(at(ms), terms, &mut SmallRng::seed_from_u64(7)).map(|leased| leased.lease)
}

thread_local! {
    /// A quota of one lease. loom runs its threads on one of the system's.
    static QUOTA: std::sync::Arc<Quota> = std::sync::Arc::new(Quota::new(1));
}

/// Leases a key for the holder `a`, who may have one at a time.
pub(super) fn lease_for_holder(pool: &Pool, ms: u64) -> Result<Lease, Error> {
    lease_of_holder(pool, ms, None)
}

/// Leases a key with the label `a:1` for the holder `a`.
pub(super) fn lease_by_label_for_holder(pool: &Pool, ms: u64) -> Result<Lease, Error> {
    lease_of_holder(pool, ms, Some(&label()))
}

fn lease_of_holder(pool: &Pool, ms: u64, label: Option<&Label>) -> Result<Lease, Error> {
    let holder = Holder::new("a", Some(QUOTA.with(std::sync::Arc::clone))).unwrap();
    let terms = Terms { holder: Some(&holder), label, ..Terms::from(LEASE_MS) };
    pool.lease(at(ms), terms, &mut SmallRng::seed_from_u64(7)).map(|leased| leased.lease)
}

/// How many leases the holder `a` has, by its quota.
pub(super) fn held(_: &Pool) -> usize {
    QUOTA.with(|quota| quota.held())
}
