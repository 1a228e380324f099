//! The journal on a disk that fails: after each crash, what is restored is what the acknowledged operations allow.
//!
//! One thread changes pools, commits, writes snapshots and crashes, in random order. What may be restored is known: the
//! state at one of the commits, not before the last one that was acknowledged.

mod pools;
mod stats;
mod steps;
mod world;

use std::cell::Cell;

pub(super) use self::pools::{Pools, compare, data_key, replay, start, start_unchecked};
pub(super) use self::steps::{Options, Step, options, settings, worlds};
pub(super) use self::world::World;
use super::{Tries, try_cases};

fn run((options, steps): &(Options, Vec<Step>), count: &Cell<usize>) -> Result<(), String> {
    let mut world = World::new(options)?;
    for (number, step) in steps.iter().enumerate() {
        world.take(step).map_err(|what| format!("step {number}, {step:?}: {what}"))?;
    }
    world.crash(true).map_err(|what| format!("at the end: {what}"))?;
    count.set(count.get() + world.snapshots.get());
    Ok(())
}

/// Returns how many snapshots were written.
pub(crate) fn attack(tries: Tries) -> Result<usize, String> {
    let count = Cell::new(0);
    try_cases(tries, &worlds(), |(_, steps)| steps.len(), |case| run(case, &count))?;
    Ok(count.get())
}

#[test]
fn what_was_acknowledged_survives_each_crash() {
    let cases = super::cases() / 10;
    let snapshots =
        attack(Tries::new(super::seed(), cases)).unwrap_or_else(|report| panic!("{report}"));
    assert!(snapshots > usize::try_from(cases).unwrap() / 10, "only {snapshots} snapshots");
}

/// Records of pools come first in a frame, and a pool remembers its last change only.
#[test]
fn a_lease_that_lapsed_before_two_changes_in_one_commit_cools_down() {
    let mut world = World::new(&options(false, false, 1)).unwrap();
    let put = |settings: usize| Step::PutPool { name: 0, settings };
    for step in [
        put(1),
        Step::Create { pool: 0, own: false },
        Step::Commit,
        Step::Lease { pool: 0, ms: 1, held: false },
        Step::Advance(10),
        put(2),
        Step::Advance(10),
        put(0),
        Step::Commit,
        Step::Kill,
    ] {
        world.take(&step).unwrap_or_else(|what| panic!("{step:?}: {what}"));
    }
}
