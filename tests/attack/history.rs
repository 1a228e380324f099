//! Histories: what clients that race have seen is checked against what was promised.
//!
//! `HISTORY_SEED=7 HISTORY_OPERATIONS=10000000 cargo test --test attack history -- --nocapture`. A
//! seed decides what the clients want, but not how they meet: a failure may take some tries.

mod board;
pub(crate) mod check;
pub(crate) mod clients;
mod corrupt;
mod plan;
pub(crate) mod record;
pub(crate) mod run;

use std::thread;
use std::time::{Duration, Instant};

use self::check::{Found, check};
use self::clients::{Scenario, World};
use crate::server::Server;

pub(crate) fn seed() -> u64 {
    std::env::var("HISTORY_SEED")
        .map_or_else(|_| rand::random(), |text| text.parse().expect("a number"))
}

/// At how many operations all histories together aim.
fn operations() -> u64 {
    std::env::var("HISTORY_OPERATIONS").map_or(1_500_000, |text| text.parse().expect("a number"))
}

/// Records and checks a history.
fn try_out(scenario: Scenario, meanwhile: impl FnOnce(&Server, &World)) -> Found {
    let seed = seed();
    let started = Instant::now();
    println!("HISTORY_SEED={seed} {scenario:?}");
    let history = run::record(scenario, seed, meanwhile);
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
    deletes_one_in: 20_000,
    hangs_up: false,
    key_ttl_ms: 300,
    lease_ttl_ms: 10,
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
    deletes_one_in: 3000,
    hangs_up: false,
    key_ttl_ms: 400,
    lease_ttl_ms: 30,
};

#[test]
fn who_races_for_few_keys_sees_what_was_promised() {
    let found = try_out(Scenario { operations: operations() / 3, ..FEW }, |_, _| ());
    assert!(found.exhausted > 0);
}

#[test]
fn who_races_for_many_keys_sees_what_was_promised() {
    let found = try_out(Scenario { operations: operations() / 3, ..MANY }, |_, _| ());
    assert!(found.exhausted > 0);
}

#[test]
fn who_sends_many_requests_at_once_sees_what_was_promised() {
    let found = try_out(Scenario { operations: operations() / 3, ..PIPELINED }, |_, _| ());
    assert!(found.exhausted > 0);
}

/// How often each kind of lie is found is printed.
#[test]
fn what_is_wrong_with_a_true_history_is_found() {
    let seed = seed();
    let history = run::record(Scenario { operations: 15_000, ..PIPELINED }, seed, |_, _| ());
    check(&history).unwrap_or_else(|violation| panic!("HISTORY_SEED={seed}: {violation}"));
    let missed = corrupt::tell_lies(&history, seed);
    assert!(missed.is_empty(), "HISTORY_SEED={seed}: {missed:#?}");
}

#[test]
fn a_server_that_is_held_up_keeps_its_promises() {
    let scenario = Scenario { operations: operations() / 6, ..FEW };
    let mut pauses = 0;
    try_out(scenario, |server, world| {
        while world.done() < world.scenario.operations {
            server.signal("STOP");
            thread::sleep(Duration::from_millis(5));
            server.signal("CONT");
            thread::sleep(Duration::from_millis(5));
            pauses += 1;
        }
    });
    println!("{pauses} pauses");
    assert!(pauses > 50);
}
