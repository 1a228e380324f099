//! Histories: what clients that race have seen is checked against what was promised.
//!
//! `HISTORY_SEED=7 HISTORY_OPERATIONS=10000000 cargo test --test attack history -- --nocapture`. A
//! seed decides what the clients want, but not how they meet: a failure may take some tries.

mod board;
pub(crate) mod check;
pub(crate) mod clients;
mod plan;
pub(crate) mod record;
pub(crate) mod run;

use std::time::Instant;

use self::check::{Found, check};
use self::clients::Scenario;

pub(crate) fn seed() -> u64 {
    std::env::var("HISTORY_SEED")
        .map_or_else(|_| rand::random(), |text| text.parse().expect("a number"))
}

/// At how many operations all histories together aim.
fn operations() -> u64 {
    std::env::var("HISTORY_OPERATIONS").map_or(1_050_000, |text| text.parse().expect("a number"))
}

/// Records and checks a history.
fn try_out(scenario: Scenario) -> Found {
    let seed = seed();
    let started = Instant::now();
    println!("HISTORY_SEED={seed} {scenario:?}");
    let history = run::record(scenario, seed);
    let recorded = started.elapsed();
    let found = check(&history);
    let checked = started.elapsed() - recorded;
    let found = found.unwrap_or_else(|violation| panic!("HISTORY_SEED={seed}: {violation}"));
    println!("recorded in {recorded:?}, checked in {checked:?}: {found:#?}");
    assert!(found.operations as u64 >= scenario.operations);
    found
}

/// Who wants a key mostly finds none.
const FEW: Scenario = Scenario {
    name: "few keys",
    keys: 6,
    clients: 8,
    operations: 0,
    burst_max: 4,
    deletes_one_in: 3000,
    hangs_up: false,
    key_ttl_ms: 700,
    lease_ttl_ms: 20,
};

/// Many leases run out at a time, and clients hang up while keys are leased for them.
const MANY: Scenario = Scenario {
    name: "many keys",
    keys: 3000,
    clients: 8,
    operations: 0,
    burst_max: 8,
    deletes_one_in: 300,
    hangs_up: true,
    key_ttl_ms: 1500,
    lease_ttl_ms: 100,
};

/// Keys are leased in groups.
const PIPELINED: Scenario = Scenario {
    name: "pipelined",
    keys: 100,
    clients: 6,
    operations: 0,
    burst_max: 64,
    deletes_one_in: 500,
    hangs_up: false,
    key_ttl_ms: 1000,
    lease_ttl_ms: 30,
};

#[test]
fn who_races_for_few_keys_sees_what_was_promised() {
    let found = try_out(Scenario { operations: operations() / 3, ..FEW });
    assert!(found.exhausted > 0);
}

#[test]
fn who_races_for_many_keys_sees_what_was_promised() {
    let found = try_out(Scenario { operations: operations() / 3, ..MANY });
    assert!(found.exhausted > 0);
}

#[test]
fn who_sends_many_requests_at_once_sees_what_was_promised() {
    let found = try_out(Scenario { operations: operations() / 3, ..PIPELINED });
    assert!(found.exhausted > 0);
}
