//! What more threads add, of one pool.
//!
//! `cargo bench --bench threads [-- FILTER]`; `POOL_KEYS=1000` and `THREADS=4` set the size and how
//! many threads there are.
//!
//! On a shared machine speed changes within a second, by more than what is looked for. So an
//! operation is done in short slices that take turns, and only those that are neighbours are
//! compared: one thread on the pool, all threads on it, and all threads on a smaller pool each.
//! The last is what the machine has to give to threads that share nothing.

use std::env;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use self::operations::{Filled, GROUP, OPERATIONS, Operation, Worker};

mod operations;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WARM_UP: Duration = Duration::from_millis(2);
const SLICE: Duration = Duration::from_millis(4);
const ROUNDS: u64 = 201;

/// Only computes, and so needs nothing but a processor for each thread.
fn compute(_: &Filled, _: &mut Worker) {
    let mut lanes = black_box([1_u64, 2, 3, 4]);
    for _ in 0..GROUP * 50 {
        lanes = lanes.map(|lane| lane.wrapping_mul(6_364_136_223_846_793_005).rotate_left(7));
    }
    black_box(lanes);
}

/// Groups of requests a second, the sum of threads that each work on one of `pools`.
fn slice(pools: &[&Filled], operation: Operation, seed: u64) -> f64 {
    let barrier = Barrier::new(pools.len());
    let work = |pool, seed| {
        let mut worker = Worker::new(seed);
        barrier.wait();
        let mut run = |length| {
            let (start, mut groups) = (Instant::now(), 0_u32);
            loop {
                operation(pool, &mut worker);
                groups += 1;
                let elapsed = start.elapsed();
                if elapsed > length {
                    return f64::from(groups) / elapsed.as_secs_f64();
                }
            }
        };
        // A processor that was idle needs some time.
        run(WARM_UP);
        run(SLICE)
    };
    thread::scope(|scope| {
        let start = |(pool, n)| scope.spawn(move || work(pool, seed << 16 | n));
        let threads = pools.iter().copied().zip(0..).map(start).collect::<Vec<_>>();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    })
}

/// The figures of each round.
#[derive(Default)]
struct Figures {
    /// Nanoseconds of a request, one thread.
    alone: Vec<f64>,
    /// Throughput of all threads on one pool, of one thread.
    together: Vec<f64>,
    /// The same on a pool each.
    apart: Vec<f64>,
    /// The first of the second.
    of_apart: Vec<f64>,
}

fn main() {
    let number = |name, usual| {
        env::var(name).map_or(usual, |value| value.parse().expect("a number of keys or threads"))
    };
    let (keys, threads) = (number("POOL_KEYS", 1_000_000), number("THREADS", 2));
    // `cargo test` says no `--bench`, and wants to see it work.
    let (flags, filters): (Vec<_>, Vec<_>) =
        env::args().skip(1).partition(|arg| arg.starts_with('-'));
    let rounds = if flags.iter().any(|flag| flag == "--bench") { ROUNDS } else { 1 };

    let one = Filled::used(keys);
    let each: Vec<_> = (0..threads).map(|_| Filled::used(keys / threads)).collect();
    let (together, apart) = (vec![&one; threads], each.iter().collect::<Vec<_>>());
    let all = [("compute, without a pool", compute as Operation)].into_iter().chain(OPERATIONS);
    let wanted = |name: &str| filters.iter().all(|filter| name.contains(filter.as_str()));
    let mut results: Vec<_> = all
        .filter(|(name, _)| wanted(name))
        .map(|(name, operation)| (name, operation, Figures::default()))
        .collect();
    for round in 0..rounds {
        for (_, operation, figures) in &mut results {
            let before = slice(&[&one], *operation, round);
            let first = slice(&together, *operation, round);
            let apart = slice(&apart, *operation, round);
            let together = f64::midpoint(first, slice(&together, *operation, round));
            let alone = f64::midpoint(before, slice(&[&one], *operation, round));
            figures.alone.push(1e9 / alone / f64::from(GROUP));
            figures.together.push(together / alone);
            figures.apart.push(apart / alone);
            figures.of_apart.push(together / apart);
        }
    }
    one.pool.check_invariants();

    println!("{keys} keys, medians of {rounds} rounds; throughput of {threads} threads:");
    println!(
        "{:26} {:>9} {:>10} {:>10} {:>10}",
        "", "1: ns", "on a pool", "on one each", "of that"
    );
    for (name, _, figures) in results {
        let Figures { alone, together, apart, of_apart } = figures;
        let [alone, together, apart, of_apart] = [alone, together, apart, of_apart].map(median);
        println!("{name:26} {alone:>9.1} {together:>10.2} {apart:>10.2} {of_apart:>10.2}");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
