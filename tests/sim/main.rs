//! The engine and the store against obvious models, step by step, on a manual clock.
//!
//! `SIM_SEED=7 SIM_CASES=1000 cargo test --test sim`. A failure names its seed and the shortest
//! list of steps that shows it.

#[cfg(feature = "canary")]
mod canaries;
mod model;
mod steps;
mod uniform;
mod waiting;

use std::cell::Cell;
use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::steps::{World, worlds};

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

/// Runs `cases` cases; answers how many steps they had in all, or a report of the first that
/// failed, at its shortest.
fn try_cases<S: Strategy<Value: Debug>>(
    seed: u64,
    cases: u32,
    strategy: &S,
    length: impl Fn(&S::Value) -> usize,
    run: impl Fn(&S::Value) -> Result<(), String>,
) -> Result<u64, String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    // That a planted bug is caught is enough; nobody reads the steps.
    let max_shrink_iters = if cfg!(feature = "canary") { 0 } else { u32::MAX };
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

fn model_attack(seed: u64, cases: u32, looks_inside: bool) -> Result<u64, String> {
    let run = |(options, steps): &(_, Vec<_>)| World::new(options, looks_inside).run(steps);
    try_cases(seed, cases, &worlds(), |(_, steps)| steps.len(), run)
}

#[test]
fn the_pool_does_what_the_model_does() {
    let (seed, cases) = (seed(), cases());
    let taken = model_attack(seed, cases, true).unwrap_or_else(|report| panic!("{report}"));
    println!("seed {seed}: {taken} steps in {cases} cases");
    assert!(taken >= u64::from(cases) * 82, "only {taken} steps");
}
