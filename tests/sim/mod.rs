//! The engine and the store against obvious models, step by step, on a manual clock.
//!
//! These are unit tests of the library (see `src/lib.rs`), as they look at what is private.
//! `SIM_SEED=7 SIM_CASES=1000 cargo test --lib sim::`. A failure names its seed and the shortest
//! list of steps that shows it.

mod copies;
mod damage;
mod disk;
mod durable;
mod fail_points;
mod golden;
mod journal;
mod model;
mod own;
mod repair;
mod snapshots;
mod steps;
mod threads;
mod uniform;
mod waiting;
mod walks;

use std::cell::Cell;
use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use self::steps::{World, worlds};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn seed() -> u64 {
    number("SIM_SEED", 1)
}

/// Some 84 steps each: four runs take more than ten million.
fn cases() -> u32 {
    u32::try_from(number("SIM_CASES", 31_000)).expect("a number of cases")
}

fn same<T: PartialEq + Debug>(real: &T, model: &T) -> Result<(), String> {
    if real == model { Ok(()) } else { Err(format!("it is {real:?}, in the model {model:?}")) }
}

/// How much is tried.
#[derive(Clone, Copy)]
struct Tries {
    seed: u64,
    cases: u32,
    /// Whether a failure is reduced to the shortest steps that show it.
    shrinks: bool,
}

impl Tries {
    fn new(seed: u64, cases: u32) -> Self {
        Self { seed, cases, shrinks: true }
    }
}

/// Runs so many cases, and returns how many steps they had in all.
///
/// # Errors
///
/// A report of the first case that failed, at its shortest.
fn try_cases<S: Strategy<Value: Debug>>(
    Tries { seed, cases, shrinks }: Tries,
    strategy: &S,
    length: impl Fn(&S::Value) -> usize,
    run: impl Fn(&S::Value) -> Result<(), String>,
) -> Result<u64, String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let max_shrink_iters = if shrinks { u32::MAX } else { 0 };
    let failure_persistence = None;
    let config = Config { cases, max_shrink_iters, failure_persistence, ..Config::default() };
    let taken = Cell::new(0);
    let outcome = TestRunner::new_with_rng(config, rng).run(strategy, |case| {
        taken.set(taken.get() + length(&case) as u64);
        run(&case).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => Ok(taken.get()),
        Err(TestError::Fail(reason, case)) => {
            Err(format!("{reason}\nwith SIM_SEED={seed}, after {case:#?}"))
        }
        Err(TestError::Abort(reason)) => Err(format!("given up: {reason}")),
    }
}

fn model_attack(tries: Tries, looks_inside: bool) -> Result<u64, String> {
    let run = |(options, steps): &(_, Vec<_>)| World::new(options, looks_inside).run(steps);
    try_cases(tries, &worlds(), |(_, steps)| steps.len(), run)
}

#[test]
fn the_pool_does_what_the_model_does() {
    let (seed, cases) = (seed(), cases());
    let taken =
        model_attack(Tries::new(seed, cases), true).unwrap_or_else(|report| panic!("{report}"));
    println!("seed {seed}: {taken} steps in {cases} cases");
    assert!(taken >= u64::from(cases) * 82, "only {taken} steps");
}
