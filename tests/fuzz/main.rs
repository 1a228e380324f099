//! Random input for each parser that is the project's own, against an oracle: another reading of the
//! same rules.
//!
//! Inputs are mutations of real ones: see [`mutate`]. `FUZZ_RUNS` sets how many are tried of each
//! kind (a tenth of it where a server is asked), and `FUZZ_SEED` the random numbers. A failure names
//! both, and the input.

mod bodies;
mod damage;
mod directories;
mod durations;
mod fences;
mod ids;
mod mutate;
mod requests;
mod server;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rand::SeedableRng;
use rand::rngs::SmallRng;

/// Runs one check on many inputs. A failure names the input.
fn fuzz<T: std::fmt::Debug>(
    runs: u64,
    mut make: impl FnMut(&mut SmallRng) -> T,
    mut check: impl FnMut(&T),
) {
    let number = |name, otherwise| {
        std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
    };
    let seed = number("FUZZ_SEED", 2026);
    let mut random = SmallRng::seed_from_u64(seed);
    for run in 0..number("FUZZ_RUNS", 50_000) * runs / 100 {
        let input = make(&mut random);
        if let Err(failure) = catch_unwind(AssertUnwindSafe(|| check(&input))) {
            eprintln!("FUZZ_SEED={seed}, run {run}: {input:?}");
            resume_unwind(failure);
        }
    }
}
