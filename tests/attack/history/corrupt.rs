//! Whether the checker finds what is wrong with a history that is true but for one thing.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::check::check;
use super::record::{History, Operation, What, ns};

/// How often each kind of lie is told.
const TRIES: usize = 100;

/// One lie, told about an operation that is fit for it, and how many of a hundred are found at
/// least. Those that are not found could have been true: as when another release may have ended
/// the lease whose own is left out.
struct Lie {
    name: &'static str,
    fits: fn(&Operation) -> bool,
    tell: fn(&mut Vec<Operation>, usize, &mut StdRng),
    found_at_least: usize,
}

fn is_lease(operation: &Operation) -> bool {
    operation.what == What::Lease && operation.is_done()
}

/// Another lease that fits.
fn other(
    operations: &[Operation],
    place: usize,
    rng: &mut StdRng,
    fits: impl Fn(&Operation) -> bool,
) -> usize {
    let one = operations[place];
    loop {
        let place = rng.random_range(0..operations.len());
        if is_lease(&operations[place]) && operations[place] != one && fits(&operations[place]) {
            return place;
        }
    }
}

/// Adds a look that begins when an operation has just ended, and shows what that has shown.
fn look_after(operations: &mut Vec<Operation>, one: Operation) -> &mut Operation {
    let mut look = one;
    look.what = What::Look;
    look.invoked_ns = look.ended_ns + 1;
    look.ended_ns += 2;
    operations.push(look);
    operations.last_mut().expect("it was pushed")
}

const LIES: &[Lie] = &[
    Lie {
        name: "a lease is served twice",
        fits: is_lease,
        tell: |operations, place, rng| {
            let again = other(operations, place, rng, |_| true);
            operations[again].key = operations[place].key;
            operations[again].generation = operations[place].generation;
        },
        found_at_least: 100,
    },
    Lie {
        name: "a refusal of who was late is a success",
        fits: |operation| operation.status == 412,
        tell: |operations, place, _| {
            operations[place].status = 200;
            operations[place].generation = operations[place].fence;
        },
        found_at_least: 40,
    },
    Lie {
        name: "a deleted key is shown",
        fits: |operation| operation.what == What::Delete && operation.is_done(),
        tell: |operations, place, _| {
            let one = operations[place];
            let shown = look_after(operations, one);
            (shown.fence, shown.generation) = (None, Some(1_000_000));
        },
        found_at_least: 100,
    },
    Lie {
        name: "a key is missing right after its creation",
        fits: |operation| operation.what == What::Create && operation.is_done(),
        tell: |operations, place, _| {
            let one = operations[place];
            look_after(operations, one).status = 404;
        },
        found_at_least: 90,
    },
    Lie {
        name: "a key was never created",
        fits: |operation| operation.what == What::Look && operation.status == 200,
        tell: |operations, place, _| {
            let key = operations[place].key;
            operations.retain(|o| o.key != key || o.what != What::Create);
            operations.retain(|o| !o.is_lost() || o.what != What::Create);
        },
        found_at_least: 100,
    },
    Lie {
        name: "a lease is shown long after its time",
        fits: |operation| is_lease(operation),
        tell: |operations, place, _| {
            let mut shown = operations[place];
            (shown.what, shown.is_blocked) = (What::Look, true);
            shown.invoked_ns = shown.ended_ns + 10 * shown.length_ns() + ns(20);
            shown.ended_ns = shown.invoked_ns + 1;
            operations.push(shown);
        },
        found_at_least: 90,
    },
    Lie {
        name: "two leases change their keys",
        fits: is_lease,
        tell: |operations, place, rng| {
            let key = operations[place].key;
            let two = other(operations, place, rng, |o| o.key != key);
            operations[place].key = operations[two].key;
            operations[two].key = key;
        },
        found_at_least: 80,
    },
    Lie {
        name: "all that may have ended a lease is left out",
        fits: |operation| is_lease(operation) && operation.ms > 5,
        tell: |operations, place, _| {
            let lease = operations[place];
            let ends = lease.invoked_ns + lease.length_ns();
            operations.retain(|o| {
                o.key != lease.key
                    || !matches!(o.what, What::Release | What::Renew)
                    || o.ended_ns < lease.invoked_ns
                    || o.invoked_ns > ends
            });
            // Something must tell that it was over.
            let generation = lease.generation.map(|generation| generation + 1);
            look_after(operations, lease).generation = generation;
        },
        found_at_least: 90,
    },
    Lie {
        name: "no key is free when one is about to be leased",
        fits: |operation| operation.what == What::Lease && operation.status == 404,
        tell: |operations, place, rng| {
            let next = other(operations, place, rng, |_| true);
            operations[place].ended_ns = operations[next].invoked_ns - 1;
            operations[place].invoked_ns = operations[place].ended_ns - 1;
        },
        found_at_least: 80,
    },
];

/// Tells each lie about a history that is true; answers what was not found often enough.
pub(super) fn tell_lies(history: &History, seed: u64) -> Vec<String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut missed = Vec::new();
    for lie in LIES {
        let fit = |place: &usize| (lie.fits)(&history.operations[*place]);
        let places: Vec<_> = (0..history.operations.len()).filter(fit).collect();
        assert!(!places.is_empty(), "nothing fits: {}", lie.name);
        let found = (0..TRIES).filter(|_| {
            let place = places[rng.random_range(0..places.len())];
            let mut operations = history.operations.clone();
            (lie.tell)(&mut operations, place, &mut rng);
            check(&History { operations, ..*history }).is_err()
        });
        let found = found.count();
        println!("{}: found {found} of {TRIES}", lie.name);
        if found < lie.found_at_least {
            missed.push(format!("{}: found {found} of {TRIES}", lie.name));
        }
    }
    missed
}
