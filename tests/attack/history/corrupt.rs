//! Whether the checker finds what is wrong with a history that is true but for one thing.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use uuid::Uuid;

use super::check::{SLACK_NS, check};
use super::record::{History, Operation, What, ns};

/// How often each kind of lie is told.
const TRIES: usize = 100;
/// How many places are tried for each that a lie is told about.
const PLACES_MAX: usize = 100;

/// One lie, told about an operation that is fit for it.
struct Lie {
    name: &'static str,
    fits: fn(&Operation) -> bool,
    /// `None`, and the tale is of no use, unless no true history could look like it. So each that
    /// is told must be found, however the clients met.
    tell: fn(&mut Tale<'_>, Operation) -> Option<()>,
}

/// A history about which a lie is told.
struct Tale<'a> {
    operations: Vec<Operation>,
    place: usize,
    ttl_ns: u64,
    rng: &'a mut StdRng,
}

impl Tale<'_> {
    fn of_key(&self, key: Uuid) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(move |operation| operation.key == key)
    }

    /// Of the one that the lie is about.
    fn change(&mut self) -> &mut Operation {
        &mut self.operations[self.place]
    }

    /// The place of another lease that fits.
    fn other(&mut self, fits: impl Fn(&Operation) -> bool) -> Option<usize> {
        let fit = |place: &usize| {
            let lease = &self.operations[*place];
            *place != self.place && is_lease(lease) && fits(lease)
        };
        let places: Vec<_> = (0..self.operations.len()).filter(fit).collect();
        places.choose(self.rng).copied()
    }

    /// Adds a look that begins when an operation has just ended, and shows what that has shown.
    fn look_after(&mut self, mut look: Operation) -> &mut Operation {
        look.what = What::Look;
        look.invoked_ns = look.ended_ns + 1;
        look.ended_ns += 2;
        self.operations.push(look);
        self.operations.last_mut().expect("it was pushed")
    }
}

fn is_lease(operation: &Operation) -> bool {
    operation.what == What::Lease && operation.is_done()
}

/// `Some` if it holds.
fn when(holds: bool) -> Option<()> {
    holds.then_some(())
}

const LIES: &[Lie] = &[
    Lie {
        name: "a lease is served twice",
        fits: is_lease,
        tell: |tale, one| {
            let again = tale.other(|_| true)?;
            tale.operations[again].key = one.key;
            tale.operations[again].generation = one.generation;
            Some(())
        },
    },
    Lie {
        name: "a refusal of who was late is a success",
        fits: |one| one.status == 412,
        tell: |tale, one| {
            // Its lease had been seen to be over before it began.
            let is_over = |o: &Operation| o.ended_ns < one.invoked_ns && o.seen() > one.fence;
            when(tale.of_key(one.key).any(is_over))?;
            tale.change().status = 200;
            tale.change().generation = one.fence;
            Some(())
        },
    },
    Lie {
        name: "a deleted key is shown",
        fits: |one| one.what == What::Delete && one.is_done(),
        tell: |tale, one| {
            let shown = tale.look_after(one);
            (shown.fence, shown.generation) = (None, Some(1_000_000));
            Some(())
        },
    },
    Lie {
        name: "a key is missing right after its creation",
        fits: |one| one.what == What::Create && one.is_done(),
        tell: |tale, one| {
            when(one.ended_ns + 2 + SLACK_NS < one.invoked_ns + tale.ttl_ns)?;
            let is_deletion =
                |o: &Operation| o.what == What::Delete && o.invoked_ns <= one.ended_ns + 2;
            when(!tale.of_key(one.key).any(is_deletion))?;
            tale.look_after(one).status = 404;
            Some(())
        },
    },
    Lie {
        name: "a key was never created",
        fits: |one| one.what == What::Look && one.is_done(),
        tell: |tale, one| {
            tale.operations.retain(|o| o.key != one.key || o.what != What::Create);
            tale.operations.retain(|o| !o.is_lost() || o.what != What::Create);
            Some(())
        },
    },
    Lie {
        name: "a lease is shown long after its time",
        fits: is_lease,
        tell: |tale, one| {
            // Nothing else can have moved its end.
            let is_renewal = |o: &Operation| o.what == What::Renew && o.may_be_done();
            when(!tale.of_key(one.key).any(is_renewal))?;
            let mut shown = one;
            (shown.what, shown.is_blocked) = (What::Look, true);
            shown.invoked_ns = shown.ended_ns + 10 * shown.length_ns() + ns(20);
            shown.ended_ns = shown.invoked_ns + 1;
            tale.operations.push(shown);
            Some(())
        },
    },
    Lie {
        name: "two leases change their keys",
        fits: is_lease,
        tell: |tale, one| {
            // Keys that were past that generation before.
            let is_past = |o: &&Operation| o.ended_ns < one.invoked_ns && o.seen() > one.generation;
            let past: Vec<_> = tale.operations.iter().filter(is_past).map(|o| o.key).collect();
            let key = *past.choose(tale.rng).filter(|key| **key != one.key)?;
            let two = tale.other(|o| o.key == key)?;
            let remain = tale.operations.iter().enumerate().filter(|(place, _)| *place != two);
            when(remain.map(|(_, o)| o).any(|o| o.key == key && is_past(&o)))?;
            tale.change().key = key;
            tale.operations[two].key = one.key;
            Some(())
        },
    },
    Lie {
        name: "all that may have ended a lease is left out",
        fits: is_lease,
        tell: |tale, one| {
            let ends = one.invoked_ns + one.length_ns();
            when(one.ended_ns + 2 + SLACK_NS < ends)?;
            tale.operations.retain(|o| {
                o.key != one.key
                    || !matches!(o.what, What::Release | What::Renew)
                    || o.ended_ns < one.invoked_ns
                    || o.invoked_ns > ends
            });
            // Something must tell that it was over.
            tale.look_after(one).generation = one.generation.map(|generation| generation + 1);
            Some(())
        },
    },
    Lie {
        name: "no key is free when one is about to be leased",
        fits: |one| one.what == What::Lease && one.status == 404,
        tell: |tale, _| {
            let next = tale.other(|_| true)?;
            let next = tale.operations[next];
            let (from, until) = (next.invoked_ns - 2, next.invoked_ns - 1);
            // It was free for sure: just created, or surely released, and nothing can have changed that.
            let before = next.generation?.checked_sub(2);
            let had = |fits: &dyn Fn(&Operation) -> bool| tale.of_key(next.key).any(fits);
            let was_made =
                |o: &Operation| o.what == What::Create && o.is_done() && o.ended_ns <= from;
            let was_released = |o: &Operation| {
                let is_release = o.what == What::Release && o.is_done() && o.fence == before;
                is_release && o.ended_ns <= from
            };
            let is_before = |o: &Operation| is_lease(o) && o.generation == before;
            when(before.is_none() || had(&was_released) && had(&is_before))?;
            let lives = |o: &Operation| {
                matches!(o.what, What::Create | What::KeepAlive)
                    && o.is_done()
                    && next.invoked_ns + SLACK_NS <= o.invoked_ns + tale.ttl_ns
            };
            when(had(&was_made) && had(&lives))?;
            let may_change = |o: &Operation| {
                let is_cool_down = o.what == What::Release && o.ms > 0;
                (is_cool_down || o.what == What::Delete) && o.invoked_ns <= next.invoked_ns
            };
            when(!had(&may_change))?;
            (tale.change().invoked_ns, tale.change().ended_ns) = (from, until);
            Some(())
        },
    },
];

/// Tells each lie about a history that is true; answers those that were not found.
pub(super) fn tell_lies(history: &History, seed: u64) -> Vec<String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut missed = Vec::new();
    for lie in LIES {
        let fit = |place: &usize| (lie.fits)(&history.operations[*place]);
        let places: Vec<_> = (0..history.operations.len()).filter(fit).collect();
        let mut told = 0;
        for _ in 0..TRIES * PLACES_MAX {
            let Some(&place) = places.choose(&mut rng) else { break };
            let one = history.operations[place];
            let (operations, ttl_ns) = (history.operations.clone(), ns(history.key_ttl_ms));
            let mut tale = Tale { operations, place, ttl_ns, rng: &mut rng };
            if (lie.tell)(&mut tale, one).is_some() {
                told += 1;
                let operations = tale.operations;
                if check(&History { operations, ..*history }).is_ok() {
                    missed.push(format!("{}, about {one}", lie.name));
                }
            }
            if told == TRIES {
                break;
            }
        }
        println!("{}: {} fit, told {told} times", lie.name, places.len());
        assert_eq!(told, TRIES, "too few fit: {}", lie.name);
    }
    missed
}
