//! Histories across restarts: the server is killed again and again while clients race, and begins once more with the same
//! data directory. What the clients have seen of all its lives is one history, which the checker judges as any other:
//! a restart is no excuse. Time goes on while the server is down.
//!
//! `RESTARTS=1000 cargo test --test attack restarts -- --nocapture` for a night. `HISTORY_SEED` decides what clients want and
//! when the server is killed, but not what it is doing then.

mod corrupt;
mod filler;
mod floors;
mod lives;

use std::time::Instant;

use self::lives::{Course, Recorded, record};
use crate::checker::check;
use crate::checker::record::{History, Operation, What};
use crate::folder::Folder;
use crate::history::clients::Scenario;
use crate::history::corrupt::{Outage, corrupt_all};
use crate::history::seed;

/// How often servers are ended, in all tests together.
fn restarts() -> usize {
    std::env::var("RESTARTS").map_or(50, |text| text.parse().expect("a number"))
}

/// Leases last as long as some restarts take, so that some end before, some meanwhile and some after.
const SCENARIO: Scenario = Scenario {
    keys: 300,
    clients: 4,
    operations: u64::MAX,
    burst_max: 8,
    deletes_one_in: 500,
    hangs_up: true,
    is_own: false,
    key_ttl_ms: 2500,
    lease_ttl_ms: 500,
};

const COURSE: Course<'_> = Course {
    scenario: SCENARIO,
    durability: "commit",
    is_sealed: false,
    is_filled: false,
    ends: 0,
    while_down: &|_, _| (),
};

/// Leases that were answered before the server was down, and went on after that.
fn leases_across(history: &History, outages: &[Outage]) -> usize {
    let goes_across = |lease: &Operation, outage: &Outage| {
        let until_ns = lease.invoked_ns + lease.length_ns();
        lease.ended_ns < outage.from_ns && until_ns > outage.until_ns
    };
    let leases = history.operations.iter().filter(|o| o.what == What::Lease && o.is_done());
    leases.filter(|lease| outages.iter().any(|outage| goes_across(lease, outage))).count()
}

/// Records and checks a history.
fn try_out(course: Course<'_>) {
    let (seed, started) = (seed(), Instant::now());
    println!("HISTORY_SEED={seed} {} {:?}", course.durability, course.scenario);
    let Recorded { history, outages, floors, met } = record(&course, seed);
    let (recorded, checking) = (started.elapsed(), Instant::now());
    let found = check(&history)
        .unwrap_or_else(|violation| panic!("HISTORY_SEED={seed}: {violation}, {floors:?}"));
    let across = leases_across(&history, &outages);
    let down_ns: u64 = outages.iter().map(|outage| outage.until_ns - outage.from_ns).sum();
    println!(
        "recorded in {recorded:?}, down for {} ms, checked in {:?}: {met:#?}, {across} leases across, {found:#?}",
        down_ns / 1_000_000,
        checking.elapsed()
    );
    assert_eq!(outages.len(), course.ends);
    // A tenth of what was seen, or less: it depends on the machine.
    let each = |name: &str, count: usize, of_ten_ends: usize| {
        assert!(count >= of_ten_ends * course.ends / 10, "only {count} {name}");
    };
    each("operations", found.operations, 1000);
    each("leases", found.leases, 20);
    each("leases across restarts", across, 1);
    each("leases that ran out", found.leases_timed_out, 2);
    each("lost answers", found.lost, 10);
}

#[test]
fn clients_racing_for_few_keys_notice_no_restart() {
    let scenario =
        Scenario { keys: 8, burst_max: 4, deletes_one_in: 5000, lease_ttl_ms: 300, ..SCENARIO };
    try_out(Course { scenario, ends: restarts() / 4, ..COURSE });
}

/// Segments are filled meanwhile, and snapshots have many keys.
#[test]
fn clients_racing_for_many_keys_notice_no_restart() {
    let ends = restarts() - 3 * (restarts() / 4);
    try_out(Course { is_filled: true, durability: "everysec", ends, ..COURSE });
}

/// In an encrypted directory.
#[test]
fn clients_racing_for_keys_of_their_own_notice_no_restart() {
    let scenario = Scenario { keys: 60, is_own: true, deletes_one_in: 2000, ..SCENARIO };
    try_out(Course { scenario, is_sealed: true, ends: restarts() / 4, ..COURSE });
}

#[test]
fn pipelining_clients_notice_no_restart() {
    let scenario = Scenario { keys: 100, burst_max: 64, deletes_one_in: 3000, ..SCENARIO };
    try_out(Course { scenario, is_filled: true, ends: restarts() / 4, ..COURSE });
}

/// Each kind of corruption is applied a hundred times, and each must be found.
#[test]
fn whatever_is_lost_at_a_restart_is_found() {
    let seed = seed();
    let scenario = Scenario { clients: 2, deletes_one_in: 100, ..SCENARIO };
    let record = || {
        let course = Course { scenario, ends: 4, ..COURSE };
        let Recorded { history, outages, .. } = record(&course, seed);
        check(&history).unwrap_or_else(|violation| panic!("HISTORY_SEED={seed}: {violation}"));
        (history, outages)
    };
    let missed = corrupt_all(corrupt::CORRUPTIONS, record, seed);
    assert!(missed.is_empty(), "HISTORY_SEED={seed}: {missed:#?}");
}

/// The server goes on with a copy of its directory that was made at the end before.
#[test]
fn a_directory_that_went_back_is_found() {
    let copy = Folder::new("restarts-copy");
    let go_back = |ends: usize, folder: &Folder| match ends {
        1 => copy.become_copy_of(folder),
        2 => folder.become_copy_of(&copy),
        _ => {}
    };
    let course = Course { while_down: &go_back, ends: 3, ..COURSE };
    // On a busy machine little may have been done between the two ends, so that nothing is missed.
    let seed = seed();
    let found = (0..5).find_map(|n| check(&record(&course, seed.wrapping_add(n)).history).err());
    println!("{}", found.expect("nothing was found"));
}
