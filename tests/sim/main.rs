//! The engine against an obvious model, step by step, on a manual clock.
//!
//! `SIM_SEED=7 SIM_CASES=1000 cargo test --test sim`. A failure names its seed and the shortest
//! list of steps that shows it.

mod model;
mod steps;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::steps::{World, worlds};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn the_pool_does_what_the_model_does() {
    let seed = number("SIM_SEED", 1);
    let cases = u32::try_from(number("SIM_CASES", 30_000)).expect("a number of cases");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let taken = std::cell::Cell::new(0_u64);
    let outcome = TestRunner::new_with_rng(config, rng).run(&worlds(), |(options, steps)| {
        taken.set(taken.get() + steps.len() as u64);
        World::new(&options).run(&steps).map_err(TestCaseError::fail)
    });
    if let Err(TestError::Fail(reason, (options, steps))) = outcome {
        panic!("SIM_SEED={seed}: {reason}\nwith {options:?}\nafter {steps:#?}");
    }
    outcome.expect("no case is given up");
    let taken = taken.get();
    println!("seed {seed}: {taken} steps in {cases} cases");
    assert!(taken >= u64::from(cases) * 50, "only {taken} steps");
}
