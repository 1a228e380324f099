//! What more threads add on one pool.
//!
//! `cargo bench --bench threads [-- FILTER]`; `POOL_KEYS=1000` and `THREADS=4` set the sizes,
//! separated by commas, and how many threads there are.
//!
//! On a shared machine speed changes within a second, by more than what is measured. So an
//! operation is measured in short turns, and only the turns of a round are compared: one
//! thread on the pool, all threads on it, all threads on a pool each, and back. The last is what
//! the machine gives to threads that share nothing.

use std::env;
use std::hint::{self, black_box};
use std::ops::RangeFrom;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use self::operations::{Filled, GROUP, OPERATIONS, Operation, Worker, sizes};

mod operations;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WARM_UP: Duration = Duration::from_millis(2);
const SLICE: Duration = Duration::from_millis(4);
const ROUNDS: usize = 201;

/// A pure computation, which needs nothing but a processor for each thread.
fn compute(_: &Filled, _: &mut Worker) {
    let mut lanes = black_box([1_u64, 2, 3, 4]);
    for _ in 0..GROUP * 50 {
        lanes = lanes.map(|lane| lane.wrapping_mul(6_364_136_223_846_793_005).rotate_left(7));
    }
    black_box(lanes);
}

/// Waits until all threads have arrived. It spins, so that they go on within nanoseconds.
fn meet(here: &AtomicUsize, threads: usize) {
    here.fetch_add(1, Ordering::Relaxed);
    while here.load(Ordering::Relaxed) < threads {
        hint::spin_loop();
    }
}

/// Groups of requests a second, the sum of threads that each work on one of `pools`.
fn turn(pools: &[&Filled], operation: Operation, seeds: &mut RangeFrom<u64>) -> f64 {
    let (begun, warm) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = |pool, seed| {
        let mut worker = Worker::new(seed);
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
        meet(&begun, pools.len());
        // A processor that was idle needs some time to speed up.
        run(WARM_UP);
        meet(&warm, pools.len());
        run(SLICE)
    };
    thread::scope(|scope| {
        let start = |(pool, seed)| scope.spawn(move || work(pool, seed));
        let threads = pools.iter().copied().zip(seeds).map(start).collect::<Vec<_>>();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    })
}

/// The figures of each round.
#[derive(Default)]
struct Figures {
    /// Nanoseconds of a request on one thread.
    alone: Vec<f64>,
    /// Throughput of all threads on one pool, as a multiple of one thread's.
    together: Vec<f64>,
    /// The same with a pool for each thread.
    apart: Vec<f64>,
    /// The first divided by the second.
    of_apart: Vec<f64>,
}

fn main() {
    // `cargo test` gives no `--bench`: one round shows that the bench works.
    let (flags, filters): (Vec<_>, Vec<_>) =
        env::args().skip(1).partition(|arg| arg.starts_with('-'));
    let rounds = if flags.iter().any(|flag| flag == "--bench") { ROUNDS } else { 1 };
    let threads = env::var("THREADS").map_or(2, |threads| threads.parse().expect("THREADS"));
    let all = [("compute, without a pool", compute as Operation)].into_iter().chain(OPERATIONS);
    let wanted = |name: &str| filters.iter().all(|filter| name.contains(filter.as_str()));
    let operations: Vec<_> = all.filter(|(name, _)| wanted(name)).collect();
    for keys in sizes("1000000") {
        println!("{keys} keys, medians of {rounds} rounds; throughput of {threads} threads:");
        println!(
            "{:26} {:>9} {:>10} {:>11} {:>10}",
            "", "1: ns", "one pool", "a pool each", "1st / 2nd"
        );
        measure(keys, threads, rounds, &operations);
    }
}

fn measure(keys: usize, threads: usize, rounds: usize, operations: &[(&str, Operation)]) {
    let one = Filled::used(keys);
    let each: Vec<_> = (0..threads).map(|_| Filled::used(keys)).collect();
    let (together, apart) = (vec![&one; threads], each.iter().collect::<Vec<_>>());
    let pools = [&[&one][..], &together, &apart];
    let mut seeds = 0..;
    let mut results: Vec<_> = operations.iter().map(|_| Figures::default()).collect();
    for _ in 0..rounds {
        for ((_, operation), figures) in operations.iter().zip(&mut results) {
            let there = pools.map(|pools| turn(pools, *operation, &mut seeds));
            let [apart, together, alone] = [2, 1, 0]
                .map(|n: usize| f64::midpoint(there[n], turn(pools[n], *operation, &mut seeds)));
            figures.alone.push(1e9 / alone / f64::from(GROUP));
            figures.together.push(together / alone);
            figures.apart.push(apart / alone);
            figures.of_apart.push(together / apart);
        }
    }
    for ((name, _), Figures { alone, together, apart, of_apart }) in operations.iter().zip(results)
    {
        let [alone, together, apart, of_apart] = [alone, together, apart, of_apart].map(median);
        println!("{name:26} {alone:>9.1} {together:>10.2} {apart:>11.2} {of_apart:>10.2}");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
