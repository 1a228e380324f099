//! The engine's operations at several pool sizes, on one thread and on two.
//!
//! `cargo bench --bench pool [-- FILTER]`; `POOL_KEYS=1000` sets the sizes, separated by commas.

use std::array;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use token_orchestrator::engine::Pool;
use token_orchestrator::key::{Fence, KeyId, Ttl};
use token_orchestrator::store::Options;
use token_orchestrator::time::Timestamp;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LEASE_MS: u32 = 60_000;
/// How many requests are done together.
const GROUP: usize = 64;
/// Keys are created in the minute before and after.
const NOW: Timestamp = Timestamp::from_ms(60_000);

fn sizes() -> Vec<usize> {
    let sizes = std::env::var("POOL_KEYS").unwrap_or("1000,1000000,10000000".to_owned());
    sizes.split(',').map(|size| size.parse().expect("POOL_KEYS: numbers with commas")).collect()
}

fn pool_of(keys: usize) -> (Pool, Vec<KeyId>) {
    let pool = Pool::new(Ttl::default(), usize::MAX, Options::SHARDS);
    let ids = (0..keys).map(|_| KeyId::random(&mut rand::rng())).collect::<Vec<_>>();
    let mut room = pool.reserve(keys, NOW).expect("room");
    for (n, id) in ids.iter().enumerate() {
        assert!(room.create(*id, Timestamp::from_ms(120_000 * n as u64 / keys as u64)));
    }
    drop(room);
    (pool, ids)
}

/// Runs `operation` `rounds` times on each of `threads` threads; answers the time until the last
/// has finished.
fn on_threads(
    threads: u64,
    rounds: u64,
    operation: impl Fn(u64, &mut SmallRng) + Sync,
) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let operation = &operation;
            scope.spawn(move || {
                let mut rng = SmallRng::seed_from_u64(thread);
                (0..rounds).for_each(|round| operation(thread * rounds + round, &mut rng));
            });
        }
    });
    start.elapsed()
}

fn operations(c: &mut Criterion) {
    for keys in sizes() {
        let (pool, ids) = pool_of(keys);
        // Let every key have its entry in the index of leases, as in a pool that is in use.
        let lease = |n| {
            let at = Timestamp::from_ms(60_000 * n as u64 / keys as u64);
            pool.lease(at, LEASE_MS, &mut rand::rng()).expect("a free key")
        };
        let leases = (0..keys).map(lease);
        for lease in leases.collect::<Vec<_>>() {
            pool.release(&lease.id, NOW, Fence::Open, 0).expect("a living key");
        }
        // A walk through all keys in an order that no cache foresees.
        let id = |round: u64| &ids[usize::try_from(round).expect("small") * 7919 % keys];
        for threads in [1, 2] {
            let mut bench = |name: &str, operation: &(dyn Fn(u64, &mut SmallRng) + Sync)| {
                let mut group = c.benchmark_group(format!("{name}/{keys}"));
                group.throughput(Throughput::Elements(threads));
                group.bench_function(
                    BenchmarkId::from_parameter(format!("{threads} threads")),
                    |b| {
                        b.iter_custom(|rounds| on_threads(threads, rounds, operation));
                    },
                );
            };
            bench("lease+release", &|_, rng| {
                let lease = pool.lease(NOW, LEASE_MS, rng).expect("a free key");
                pool.release(&lease.id, NOW, Fence::Open, 0).expect("a living key");
            });
            bench("get", &|round, _| {
                black_box(pool.get(id(round), NOW)).expect("a living key");
            });
            bench("keep_alive", &|round, _| {
                black_box(pool.keep_alive(id(round), NOW)).expect("a living key");
            });
            // As the hot path does: one round in so many does it for all of them.
            let is_first = |round: u64| round.is_multiple_of(GROUP as u64);
            bench("lease+release, in groups", &|round, rng| {
                if is_first(round) {
                    let mut leases = Vec::with_capacity(GROUP);
                    pool.lease_group(NOW, LEASE_MS, rng, GROUP, &mut leases);
                    let ids: Vec<_> = leases.iter().map(|lease| lease.id).collect();
                    pool.prefetch(&ids);
                    for id in &ids {
                        pool.release(id, NOW, Fence::Open, 0).expect("a living key");
                    }
                }
            });
            bench("get, in groups", &|round, _| {
                if is_first(round) {
                    let ids: [_; GROUP] = array::from_fn(|at| *id(round + at as u64));
                    pool.prefetch(&ids);
                    for id in &ids {
                        black_box(pool.get(id, NOW)).expect("a living key");
                    }
                }
            });
            bench("create+delete", &|_, rng| {
                let id = KeyId::from_random_bytes(rand::RngExt::random(rng));
                let mut room = pool.reserve(1, NOW).expect("room");
                assert!(room.create(id, NOW));
                pool.delete(&id, NOW, Fence::Open).expect("a living key");
            });
        }
        pool.check_invariants();
    }
}

/// All keys are dead.
fn mass_expiry(c: &mut Criterion) {
    for keys in sizes().into_iter().filter(|keys| *keys <= 1_000_000) {
        let mut group = c.benchmark_group("mass expiry");
        group.throughput(Throughput::Elements(keys as u64)).sample_size(10);
        group.bench_function(BenchmarkId::from_parameter(keys), |b| {
            b.iter_custom(|rounds| {
                let one = |_| {
                    let (pool, _) = pool_of(keys);
                    let start = Instant::now();
                    while pool.expire(Timestamp::MAX, 64) == 64 {}
                    let elapsed = start.elapsed();
                    assert_eq!(pool.stats().keys, 0);
                    elapsed
                };
                (0..rounds).map(one).sum()
            });
        });
    }
}

criterion_group!(benches, operations, mass_expiry);
criterion_main!(benches);
