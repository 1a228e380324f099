//! The engine's operations at several pool sizes, on one thread; what more threads add: `threads`.
//!
//! `cargo bench --bench pool [-- FILTER]`; `POOL_KEYS=1000` sets the sizes, separated by commas.
//! Times are those of 64 requests.

use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use token_orchestrator::engine::WalkCursor;
use token_orchestrator::time::Timestamp;

use self::operations::{Filled, GROUP, OPERATIONS, Worker, sizes};

mod operations;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: &str = "1000,1000000,10000000";

fn operations(c: &mut Criterion) {
    for keys in sizes(SIZES) {
        let filled = Filled::used(keys);
        for (name, operation) in OPERATIONS {
            let mut group = c.benchmark_group(name);
            group.throughput(Throughput::Elements(GROUP.into()));
            group.bench_function(BenchmarkId::from_parameter(keys), |b| {
                let mut worker = Worker::new(0);
                b.iter(|| operation(&filled, &mut worker));
            });
        }
    }
}

/// A page of a walk over all keys.
fn walk(c: &mut Criterion) {
    const KEYS: u16 = 100;
    for keys in sizes(SIZES) {
        let (pool, mut cursor) = (Filled::new(keys).pool, WalkCursor::default());
        let mut group = c.benchmark_group("walk, a page of 100");
        group.throughput(Throughput::Elements(KEYS.into()));
        group.bench_function(BenchmarkId::from_parameter(keys), |b| {
            b.iter(|| {
                let page = pool.walk(cursor, KEYS.into(), Timestamp::from_ms(60_000));
                cursor = page.next.unwrap_or_default();
                page.keys
            });
        });
    }
}

/// All keys are dead.
fn mass_expiry(c: &mut Criterion) {
    for keys in sizes(SIZES).into_iter().filter(|keys| *keys <= 1_000_000) {
        let mut group = c.benchmark_group("mass expiry");
        group.throughput(Throughput::Elements(keys as u64)).sample_size(10);
        group.bench_function(BenchmarkId::from_parameter(keys), |b| {
            b.iter_custom(|rounds| {
                let one = |_| {
                    let pool = Filled::new(keys).pool;
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

criterion_group!(benches, operations, walk, mass_expiry);
criterion_main!(benches);
