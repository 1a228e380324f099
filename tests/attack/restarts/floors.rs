//! Generations as they would be without floors.
//!
//! With `--durability everysec`, a server that was killed lets no key have a generation below a floor from its next change
//! on: those may have been given before. The checker knows no floors: after a lease it expects the next generation. So the
//! history says here what it would say without them, with the same order and the same leases.
//!
//! A key that was at `p` in the life with that floor goes from there to the floor, if `p` is that of a lease. Otherwise it
//! may have been leased meanwhile, unseen, so that one lease is left out.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::checker::record::Operation;

/// When a life began, and its floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Floor {
    pub(crate) from_ns: u64,
    pub(crate) generation: u64,
}

/// Takes the floors of all lives out of a history. O(o log o + k f) for o operations on k keys and f floors.
pub(super) fn take_out(operations: &mut [Operation], floors: &[Floor]) {
    let mut of_keys = BTreeMap::<Uuid, Vec<&mut Operation>>::new();
    for operation in operations {
        of_keys.entry(operation.key).or_default().push(operation);
    }
    for mut of_key in of_keys.into_values() {
        take_out_of_key(&mut of_key, floors);
    }
}

fn take_out_of_key(operations: &mut [&mut Operation], floors: &[Floor]) {
    // From the last one on, so that those below are still as they were. Lives that have one floor are as one, since nothing
    // was at it or above when the later ones began.
    let of_one = floors.chunk_by(|a, b| a.generation == b.generation).map(|lives| lives[0]);
    for floor in of_one.rev().filter(|floor| floor.generation > 0) {
        let all = operations.iter().flat_map(|o| [o.generation, o.fence]).flatten();
        let (above, below): (Vec<_>, Vec<_>) = all.partition(|at| *at >= floor.generation);
        if above.is_empty() {
            continue;
        }
        let last = below.into_iter().max().unwrap_or(0);
        let is_last = |o: &&mut Operation| o.seen() == Some(last) && o.invoked_ns >= floor.from_ns;
        let steps = match last % 2 {
            0 => 2,
            _ if operations.iter().any(is_last) => 1,
            _ => 3,
        };
        for operation in operations.iter_mut() {
            for at in [&mut operation.generation, &mut operation.fence].into_iter().flatten() {
                if *at >= floor.generation {
                    *at = *at - floor.generation + last + steps;
                }
            }
        }
    }
}

/// What is seen of a key with a floor of 1000 from the time 100 on, and what that becomes.
#[test]
fn generations_are_as_without_floors() {
    use crate::checker::record::{Turn, What};

    let seen = |what: What, at: u64, from_ns: u64| Operation {
        what,
        key: Uuid::from_u128(7),
        invoked_ns: from_ns,
        ended_ns: from_ns + 1,
        fence: (what == What::Release).then_some(at),
        ms: 0,
        status: 200,
        generation: (what != What::Release).then_some(at),
        is_blocked: false,
        turn: Turn::default(),
    };
    // Two lives have the first one.
    let floors = [(50, 0), (100, 1000), (150, 1000), (200, 2000)];
    let floors = floors.map(|(from_ns, generation)| Floor { from_ns, generation });
    for (before, after) in [
        // A lease that goes on in the new life, and ends there.
        ([(5, 90), (5, 110), (1000, 120), (1001, 130)], [5, 5, 6, 7]),
        // It may have ended before, and another one with it.
        ([(5, 80), (5, 90), (1000, 120), (1001, 130)], [5, 5, 8, 9]),
        ([(6, 90), (6, 110), (1001, 120), (1002, 130)], [6, 6, 9, 10]),
        // Two floors, the second one for a lease of the life before.
        ([(3, 110), (1001, 120), (1001, 210), (2000, 220)], [3, 5, 5, 6]),
        ([(5, 110), (1000, 160), (1001, 170), (1002, 180)], [5, 6, 7, 8]),
        // Below all floors nothing changes.
        ([(1, 90), (2, 110), (3, 120), (4, 210)], [1, 2, 3, 4]),
    ] {
        for what in [What::Look, What::Release] {
            let mut operations = before.map(|(at, from_ns)| seen(what, at, from_ns));
            take_out(&mut operations, &floors);
            let found = operations.map(|o| o.generation.or(o.fence).unwrap());
            assert_eq!(found, after, "{before:?}");
        }
    }
}
