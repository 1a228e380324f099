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
    pub(crate) generation: u32,
}

/// Takes the floors of all lives out of a history. O(o log o + k f) for o operations on k keys and f floors.
pub(super) fn take_out(operations: &mut [Operation], floors: &[Floor]) {
    let mut of_keys = BTreeMap::<Uuid, Vec<&mut Operation>>::new();
    for operation in operations {
        of_keys.entry(operation.key).or_default().push(operation);
    }
    of_keys.into_values().for_each(|mut operations| take_out_of_key(&mut operations, floors));
}

fn take_out_of_key(operations: &mut [&mut Operation], floors: &[Floor]) {
    // From the last one on, so that those below are still as they were.
    for floor in floors.iter().rev().filter(|floor| floor.generation > 0) {
        let all = operations.iter().flat_map(|o| [o.generation, o.fence]).flatten();
        let (above, below): (Vec<_>, Vec<_>) = all.partition(|at| *at >= floor.generation);
        if above.is_empty() {
            continue;
        }
        let last = below.into_iter().max().unwrap_or(0);
        let is_last = |o: &&mut Operation| o.seen() == Some(last) && o.invoked_ns >= floor.from_ns;
        let steps = match last % 2 {
            0 => 2,
            _ if operations.iter().any(|o| is_last(&o)) => 1,
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
