//! Whether the checker finds the one false thing in a history that is otherwise true.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use uuid::Uuid;

use super::SLACK_NS;
use crate::checker::check;
use crate::checker::record::{History, Operation, Turn, What, ns};

/// How often each kind of corruption is applied.
const TRIES: usize = 100;
/// How many operations are tried at most for each corruption that is applied.
const PLACES_MAX: usize = 100;

/// How many histories a corruption is tried on at most.
const HISTORIES_MAX: usize = 6;

/// When a server was down: what was sent before, took effect before; and what is sent after, does so after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) from_ns: u64,
    pub(crate) until_ns: u64,
}

/// One way to falsify a history, applied to an operation that fits it.
pub(crate) struct Corruption {
    pub(crate) name: &'static str,
    pub(crate) fits: fn(&Operation) -> bool,
    /// Returns `None`, and the draft is dropped, if a true history could look like the result. So
    /// each corruption that is applied must be found, however the clients met.
    pub(crate) apply: fn(&mut Draft<'_>, Operation) -> Option<()>,
}

/// A copy of a history, to be corrupted.
pub(crate) struct Draft<'a> {
    pub(crate) operations: Vec<Operation>,
    place: usize,
    pub(crate) ttl_ns: u64,
    pub(crate) outages: &'a [Outage],
    rng: &'a mut StdRng,
}

impl Draft<'_> {
    pub(crate) fn of_key(&self, key: Uuid) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(move |operation| operation.key == key)
    }

    /// The operation that is corrupted.
    pub(crate) fn change(&mut self) -> &mut Operation {
        &mut self.operations[self.place]
    }

    /// The place of another lease that fits.
    pub(crate) fn another_lease(&mut self, fits: impl Fn(&Operation) -> bool) -> Option<usize> {
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

    /// Adds a look to the requests that were sent at once with an operation, behind all of them.
    fn look_behind(&mut self, one: Operation) -> &mut Operation {
        let turn = Turn { place: u32::MAX, ..one.turn };
        self.operations.push(Operation { what: What::Look, fence: None, turn, ..one });
        self.operations.last_mut().expect("it was pushed")
    }
}

pub(crate) fn is_lease(operation: &Operation) -> bool {
    operation.what == What::Lease && operation.is_done()
}

/// `Some` if the condition is true.
pub(crate) fn when(condition: bool) -> Option<()> {
    condition.then_some(())
}

pub(super) const CORRUPTIONS: &[Corruption] = &[
    Corruption {
        name: "a lease is served twice",
        fits: is_lease,
        apply: |draft, one| {
            let again = draft.another_lease(|_| true)?;
            draft.operations[again].key = one.key;
            draft.operations[again].generation = one.generation;
            Some(())
        },
    },
    Corruption {
        name: "a refused late request succeeds",
        fits: |one| one.status == 412,
        apply: |draft, one| {
            // Its lease had been seen to be over before it began.
            let is_over = |o: &Operation| o.ended_ns < one.invoked_ns && o.seen() > one.fence;
            when(draft.of_key(one.key).any(is_over))?;
            draft.change().status = 200;
            draft.change().generation = one.fence;
            Some(())
        },
    },
    Corruption {
        name: "a deleted key is shown",
        fits: |one| one.what == What::Delete && one.is_done(),
        apply: |draft, one| {
            let shown = draft.look_after(one);
            (shown.fence, shown.generation) = (None, Some(1_000_000));
            Some(())
        },
    },
    Corruption {
        name: "a key that is gone is shown, behind the answer that says so",
        fits: |one| one.status == 404 && !one.key.is_nil(),
        apply: |draft, one| {
            let is_creation = |o: &Operation| o.what == What::Create && o.is_done();
            when(draft.of_key(one.key).any(|o| is_creation(o) && o.ended_ns <= one.invoked_ns))?;
            let shown = draft.look_behind(one);
            (shown.status, shown.generation) = (200, Some(1_000_000));
            Some(())
        },
    },
    Corruption {
        name: "a lease that is over is shown, behind the answer that says so",
        fits: |one| one.what == What::Look && one.is_done() && one.generation > Some(0),
        apply: |draft, one| {
            when(!one.is_blocked)?;
            let shown = draft.look_behind(one);
            shown.generation = one.generation.map(|generation| generation - 1);
            shown.is_blocked = true;
            Some(())
        },
    },
    Corruption {
        name: "a key is missing right after its creation",
        fits: |one| one.what == What::Create && one.is_done(),
        apply: |draft, one| {
            when(one.ended_ns + 2 + SLACK_NS < one.invoked_ns + draft.ttl_ns)?;
            let is_deletion =
                |o: &Operation| o.what == What::Delete && o.invoked_ns <= one.ended_ns + 2;
            when(!draft.of_key(one.key).any(is_deletion))?;
            draft.look_after(one).status = 404;
            Some(())
        },
    },
    Corruption {
        name: "a key was never created",
        fits: |one| one.what == What::Look && one.is_done(),
        apply: |draft, one| {
            draft.operations.retain(|o| o.key != one.key || o.what != What::Create);
            draft.operations.retain(|o| !o.is_lost() || o.what != What::Create);
            Some(())
        },
    },
    Corruption {
        name: "a lease is shown long after its time",
        fits: is_lease,
        apply: |draft, one| {
            // Nothing else can have moved its end.
            let is_renewal = |o: &Operation| o.what == What::Renew && o.may_be_done();
            when(!draft.of_key(one.key).any(is_renewal))?;
            let mut shown = one;
            (shown.what, shown.is_blocked) = (What::Look, true);
            shown.invoked_ns = shown.ended_ns + 10 * shown.length_ns() + ns(20);
            shown.ended_ns = shown.invoked_ns + 1;
            draft.operations.push(shown);
            Some(())
        },
    },
    Corruption {
        name: "two leases swap their keys",
        fits: is_lease,
        apply: |draft, one| {
            // Keys that were past that generation before.
            let is_past = |o: &&Operation| o.ended_ns < one.invoked_ns && o.seen() > one.generation;
            let past: Vec<_> = draft.operations.iter().filter(is_past).map(|o| o.key).collect();
            let key = *past.choose(draft.rng).filter(|key| **key != one.key)?;
            let two = draft.another_lease(|o| o.key == key)?;
            let remain = draft.operations.iter().enumerate().filter(|(place, _)| *place != two);
            when(remain.map(|(_, o)| o).any(|o| o.key == key && is_past(&o)))?;
            draft.change().key = key;
            draft.operations[two].key = one.key;
            Some(())
        },
    },
    Corruption {
        name: "everything that may have ended a lease is missing",
        fits: is_lease,
        apply: |draft, one| {
            let ends = one.invoked_ns + one.length_ns();
            when(one.ended_ns + 2 + SLACK_NS < ends)?;
            draft.operations.retain(|o| {
                o.key != one.key
                    || !matches!(o.what, What::Release | What::Renew)
                    || o.ended_ns < one.invoked_ns
                    || o.invoked_ns > ends
            });
            // Something must show that it was over.
            draft.look_after(one).generation = one.generation.map(|generation| generation + 1);
            Some(())
        },
    },
    Corruption {
        name: "no key is free when one is about to be leased",
        fits: |one| one.what == What::Lease && one.status == 404,
        apply: |draft, _| {
            let next = draft.another_lease(|_| true)?;
            let next = draft.operations[next];
            let (from, until) = (next.invoked_ns - 2, next.invoked_ns - 1);
            // It was free for sure: just created, or surely released, and nothing can have changed that.
            let before = next.generation?.checked_sub(2);
            let had = |fits: &dyn Fn(&Operation) -> bool| draft.of_key(next.key).any(fits);
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
                    && next.invoked_ns + SLACK_NS <= o.invoked_ns + draft.ttl_ns
            };
            when(had(&was_made) && had(&lives))?;
            let may_change = |o: &Operation| {
                let is_cool_down = o.what == What::Release && o.ms > 0;
                (is_cool_down || o.what == What::Delete) && o.invoked_ns <= next.invoked_ns
            };
            when(!had(&may_change))?;
            (draft.change().invoked_ns, draft.change().ended_ns) = (from, until);
            Some(())
        },
    },
];

/// A true history, and when the server was down.
pub(crate) type Recorded = (History, Vec<Outage>);

/// Applies each corruption to true histories, and returns those that were not found. On a machine that is very
/// busy a history may lack what a corruption needs; then that is tried on another one.
pub(crate) fn corrupt_all(
    corruptions: &[Corruption],
    mut record: impl FnMut() -> Recorded,
    seed: u64,
) -> Vec<String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut missed = Vec::new();
    let mut recorded = record();
    for corruption in corruptions {
        let mut applied = 0;
        for again in 0..HISTORIES_MAX {
            if again > 0 {
                recorded = record();
            }
            applied += corrupt(&recorded, corruption, TRIES - applied, &mut rng, &mut missed);
            if applied == TRIES {
                break;
            }
        }
        assert_eq!(applied, TRIES, "too few fit: {}", corruption.name);
    }
    missed
}

/// Applies a corruption `tries` times to a true history. Returns how often it could.
fn corrupt(
    (history, outages): &Recorded,
    corruption: &Corruption,
    tries: usize,
    rng: &mut StdRng,
    missed: &mut Vec<String>,
) -> usize {
    let fit = |place: &usize| (corruption.fits)(&history.operations[*place]);
    let places: Vec<_> = (0..history.operations.len()).filter(fit).collect();
    let mut applied = 0;
    for _ in 0..tries * PLACES_MAX {
        let Some(&place) = places.choose(rng) else { break };
        let one = history.operations[place];
        let (operations, ttl_ns) = (history.operations.clone(), ns(history.key_ttl_ms));
        let mut draft = Draft { operations, place, ttl_ns, outages, rng };
        if (corruption.apply)(&mut draft, one).is_some() {
            applied += 1;
            let operations = draft.operations;
            if check(&History { operations, ..*history }).is_ok() {
                missed.push(format!("{}, about {one}", corruption.name));
            }
        }
        if applied == tries {
            break;
        }
    }
    println!("{}: {} fit, applied {applied} times", corruption.name, places.len());
    applied
}
