//! Histories: what racing clients have seen is checked against what the server promises.
//!
//! `HISTORY_SEED=7 HISTORY_OPERATIONS=10000000 cargo test --test attack history -- --nocapture`. A
//! seed decides what the clients want, but not how they meet: a failure may take some tries.

mod checker;
pub(crate) mod clients;
pub(crate) mod corrupt;
mod ends;
mod known_keys;
mod plan;
pub(crate) mod run;
mod values;

use std::thread;
use std::time::{Duration, Instant};

use self::clients::{Scenario, World};
use crate::checker::{Found, check};
use crate::server::Server;

/// The server counts in whole milliseconds, rounded down, and one more is granted. No delay of a
/// client or of the network is part of this.
pub(crate) const SLACK_NS: u64 = 2_000_000;

pub(crate) fn seed() -> u64 {
    std::env::var("HISTORY_SEED")
        .map_or_else(|_| rand::random(), |text| text.parse().expect("a number"))
}

/// The least number of operations of all histories together.
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
    let started = Instant::now();
    let found = check(&history);
    let checked = started.elapsed();
    let found = found.unwrap_or_else(|violation| panic!("HISTORY_SEED={seed}: {violation}"));
    println!("recorded in {recorded:?}, checked in {checked:?}: {found:#?}");
    assert!(found.operations as u64 >= scenario.operations);
    found
}

/// Asserts that there was enough to check: of each so many in 100,000 operations.
/// A tenth of what was seen, as it depends on the machine.
fn assert_enough(found: &Found, least: &[(&str, usize, usize)]) {
    for (name, count, least) in least {
        let least = least * found.operations / 100_000;
        assert!(*count >= least, "only {count} of at least {least} {name}: {found:#?}");
    }
}

/// A client that wants a key mostly finds none.
pub(crate) const FEW: Scenario = Scenario {
    keys: 6,
    clients: 8,
    operations: 0,
    burst_max: 4,
    deletes_one_in: 20_000,
    hangs_up: false,
    is_own: false,
    key_ttl_ms: 300,
    lease_ttl_ms: 10,
};

/// Many leases run out at a time, and clients hang up while keys are leased for them.
pub(crate) const MANY: Scenario = Scenario {
    keys: 3000,
    clients: 8,
    operations: 0,
    burst_max: 8,
    deletes_one_in: 300,
    hangs_up: true,
    is_own: false,
    key_ttl_ms: 500,
    lease_ttl_ms: 60,
};

/// Keys are leased in groups.
pub(crate) const PIPELINED: Scenario = Scenario {
    keys: 100,
    clients: 6,
    operations: 0,
    burst_max: 64,
    deletes_one_in: 3000,
    hangs_up: false,
    is_own: false,
    key_ttl_ms: 400,
    lease_ttl_ms: 30,
};

/// Keys with values, in a pool with a name, which are leased by a label or without one.
pub(crate) const OWN: Scenario = Scenario {
    keys: 60,
    clients: 8,
    operations: 0,
    burst_max: 8,
    deletes_one_in: 2000,
    hangs_up: true,
    is_own: true,
    key_ttl_ms: 400,
    lease_ttl_ms: 20,
};

#[test]
fn clients_racing_for_few_keys_see_what_was_promised() {
    let found = try_out(Scenario { operations: operations() / 3, ..FEW }, |_, _| ());
    assert_enough(
        &found,
        &[
            ("leases", found.leases, 140),
            ("leases that ran out", found.leases_timed_out, 20),
            ("renewals", found.renewals, 15),
            ("late requests refused", found.refusals, 30),
            ("cool-downs", found.cool_downs_measured, 10),
            ("requests that found no key", found.exhausted, 3000),
            ("of these within a millisecond of a free key", found.close_to_gaps, 300),
            ("deaths", found.deaths, 1),
            ("lost answers", found.lost, 50),
        ],
    );
}

#[test]
fn clients_racing_for_many_keys_see_what_was_promised() {
    let found = try_out(Scenario { operations: operations() / 3, ..MANY }, |_, _| ());
    assert_enough(
        &found,
        &[
            ("leases", found.leases, 3500),
            ("leases that ran out", found.leases_timed_out, 1200),
            ("renewals", found.renewals, 250),
            ("late requests refused", found.refusals, 80),
            ("cool-downs", found.cool_downs_measured, 250),
            ("times when a key was free for sure", found.gaps, 3500),
            ("deaths", found.deaths, 100),
            ("deletions", found.deletions, 30),
            ("lost answers", found.lost, 50),
        ],
    );
    assert!(found.exhausted > 0, "not even when all were leased: {found:#?}");
}

#[test]
fn clients_racing_for_keys_of_their_own_see_what_was_promised() {
    // Of requests that were given up nobody knows how long they were about to lease a key, so only the others tell
    // whether a free key was served.
    let steady = Scenario { operations: operations() / 12, hangs_up: false, ..OWN };
    let found = try_out(steady, |_, _| ());
    assert_enough(
        &found,
        &[
            ("requests that found no key", found.exhausted, 1000),
            ("times when a key was free for sure", found.gaps, 8),
            (
                "requests that found no key soon before or after one was free",
                found.close_to_gaps,
                40,
            ),
        ],
    );
    let found = try_out(Scenario { operations: operations() / 12, ..OWN }, |_, _| ());
    assert_enough(
        &found,
        &[
            ("leases", found.leases, 500),
            ("leases that ran out", found.leases_timed_out, 90),
            ("renewals", found.renewals, 15),
            ("late requests refused", found.refusals, 30),
            ("cool-downs", found.cool_downs_measured, 40),
            ("requests that found no key", found.exhausted, 1000),
            ("deaths", found.deaths, 5),
            ("lost answers", found.lost, 50),
        ],
    );
}

#[test]
fn pipelining_clients_see_what_was_promised() {
    let found = try_out(Scenario { operations: operations() / 3, ..PIPELINED }, |_, _| ());
    assert_enough(
        &found,
        &[
            ("leases", found.leases, 500),
            ("leases of a group", found.leases_in_groups, 50),
            ("leases that ran out", found.leases_timed_out, 90),
            ("late requests refused", found.refusals, 150),
            ("cool-downs", found.cool_downs_measured, 40),
            ("requests that found no key", found.exhausted, 3000),
            ("deaths", found.deaths, 7),
            ("lost answers", found.lost, 50),
        ],
    );
}

/// Each kind of corruption is applied a hundred times, and each must be found.
#[test]
fn each_corruption_of_a_true_history_is_found() {
    let seed = seed();
    let plenty = Scenario { operations: 25_000, hangs_up: false, lease_ttl_ms: 30, ..MANY };
    let record = || {
        let history = run::record(plenty, seed, |_, _| ());
        check(&history).unwrap_or_else(|violation| panic!("HISTORY_SEED={seed}: {violation}"));
        (history, Vec::new())
    };
    let missed = corrupt::corrupt_all(corrupt::CORRUPTIONS, record, seed);
    assert!(missed.is_empty(), "HISTORY_SEED={seed}: {missed:#?}");
}

/// The server process is stopped again and again, also between reading its clock and acting.
#[test]
fn a_paused_server_keeps_its_promises() {
    let scenario = Scenario { operations: operations() / 10, ..FEW };
    let mut pauses = 0;
    let found = try_out(scenario, |server, world| {
        while world.is_at_work(world.scenario.operations) {
            server.signal("STOP");
            thread::sleep(Duration::from_millis(5));
            server.signal("CONT");
            thread::sleep(Duration::from_millis(5));
            pauses += 1;
        }
    });
    println!("{pauses} pauses");
    assert!(pauses > 20);
    assert_enough(&found, &[("leases that ran out", found.leases_timed_out, 20)]);
}
