//! Whether leases of a key followed one another, and lasted as long as they had to.
//!
//! Generations put them in order: a lease has an odd one, its end the next, and a cool-down of a
//! free key takes two. So what is seen at a generation is before all that is seen at a later one.

use std::collections::BTreeMap;

use super::gaps::Gaps;
use super::life::Life;
use super::record::{NEVER, Operation, What};
use super::stages;
use super::steps::Steps;
use super::{Found, Violation};

/// What is known of one key, and how it is looked up.
struct Key<'a> {
    /// By the generation that they were seen at, or were meant for.
    at: BTreeMap<u64, Vec<&'a Operation>>,
    leases: Vec<&'a Operation>,
    /// When releases without a fence, which may have happened, began and ended.
    open_releases: Steps,
    /// The same of those without a cool-down, and of those that surely happened.
    plain_releases: Steps,
    sure_releases: Steps,
    /// When cool-downs may have begun, and when what they began is over.
    cool_downs: Steps,
    /// Lost, and without a fence.
    open_renewals: Vec<&'a Operation>,
    slack_ns: u64,
}

impl<'a> Key<'a> {
    fn new(operations: &'a [Operation], slack_ns: u64) -> Self {
        let mut at = BTreeMap::<_, Vec<_>>::new();
        for operation in operations {
            let meant = operation.is_lost().then_some(operation.fence).flatten();
            if let Some(generation) = operation.seen().or(meant) {
                at.entry(generation).or_default().push(operation);
            }
        }
        let releases = || operations.iter().filter(|o| o.what == What::Release && o.may_be_done());
        let open = || releases().filter(|release| release.fence.is_none());
        let span = |o: &Operation| (o.invoked_ns, o.ended_ns);
        let rested = releases().filter(|release| release.ms > 0);
        let rest =
            |o: &Operation| (o.invoked_ns, o.ended_ns.saturating_add(o.length_ns() + slack_ns));
        let lost = operations.iter().filter(|o| o.is_lost() && o.fence.is_none());
        Self {
            leases: at.values().flatten().filter(|o| o.what == What::Lease).copied().collect(),
            at,
            open_releases: Steps::new(open().map(span)),
            plain_releases: Steps::new(open().filter(|o| o.ms == 0).map(span)),
            sure_releases: Steps::new(open().filter(|o| o.is_done()).map(span)),
            cool_downs: Steps::new(rested.map(rest)),
            open_renewals: lost.filter(|o| o.what == What::Renew).collect(),
            slack_ns,
        }
    }

    fn seen(&self, generation: u64) -> impl Iterator<Item = &'a Operation> {
        self.at.get(&generation).into_iter().flatten().copied().filter(|o| o.is_done())
    }

    /// Releases that were meant for that generation, and may have happened.
    fn fenced_releases(&self, generation: u64) -> impl Iterator<Item = &'a Operation> {
        let at = self.at.get(&generation).into_iter().flatten().copied();
        at.filter(|o| o.what == What::Release)
    }
}

/// Checks what the operations of one key, sorted by their beginning, show of its leases, and notes
/// when it was free for sure.
pub(super) fn check(
    operations: &[Operation],
    life: Life,
    slack_ns: u64,
    gaps: &mut Gaps,
    found: &mut Found,
) -> Result<(), Violation> {
    let key = Key::new(operations, slack_ns);
    check_generations(&key)?;
    stages::check(operations, life)?;
    check_looks(&key, operations)?;
    let over = seen_over(&key, operations);
    found.refusals += operations.iter().filter(|o| o.status == 412).count();
    // When each even generation began at the latest, as far as that is known.
    let mut free_from = BTreeMap::new();
    for lease in &key.leases {
        let generation = lease.generation.unwrap_or_default();
        let tenure = Tenure::new(&key, lease);
        tenure.check_seen(&key, found)?;
        if let Some(over) = over.get(&generation) {
            tenure.check_not_early(&key, over, found)?;
        }
        check_cool_down(&key, generation, over.get(&(generation + 1)), found)?;
        let end =
            tenure.surely_over(&key).min(tenure.latest_end(None).saturating_add(key.slack_ns));
        free_from.insert(generation + 1, end);
    }
    note_gaps(&key, life, free_from, gaps);
    Ok(())
}

/// Generations of leases are odd, and differ.
fn check_generations(key: &Key<'_>) -> Result<(), Violation> {
    for pair in key.leases.windows(2) {
        if pair[0].generation == pair[1].generation {
            return Err(Violation::of("two leases have one generation", pair));
        }
    }
    if let Some(lease) = key.leases.iter().find(|o| o.generation.is_none_or(|at| at % 2 == 0)) {
        return Err(Violation::of("a lease has no odd generation", &[lease]));
    }
    Ok(())
}

/// What a look shows is consistent, and a key cools down only if a release asked for that.
fn check_looks(key: &Key<'_>, operations: &[Operation]) -> Result<(), Violation> {
    for look in operations.iter().filter(|o| o.what == What::Look && o.is_done()) {
        let is_leased = look.generation.is_some_and(|generation| generation % 2 == 1);
        if is_leased && !look.is_blocked {
            return Err(Violation::of("a leased key is shown as free", &[look]));
        }
        let may_rest = key.cool_downs.largest_until(look.ended_ns) >= look.invoked_ns;
        if look.is_blocked && !is_leased && !may_rest {
            return Err(Violation::of("a cool-down ended late, or never began", &[look]));
        }
    }
    Ok(())
}

/// For each generation what shows first that it was over.
fn seen_over<'a>(key: &Key<'a>, operations: &'a [Operation]) -> BTreeMap<u64, &'a Operation> {
    let mut over = BTreeMap::<u64, &Operation>::new();
    let mut note = |generation: u64, by: &'a Operation| {
        let first = over.entry(generation).or_insert(by);
        if by.ended_ns < first.ended_ns {
            *first = by;
        }
    };
    let mut first: Option<&Operation> = None;
    for generation in key.at.keys().rev() {
        if let Some(first) = first {
            note(*generation, first);
            if !key.at.contains_key(&(generation + 1)) {
                note(generation + 1, first);
            }
        }
        first = first.into_iter().chain(key.seen(*generation)).min_by_key(|o| o.ended_ns);
    }
    // The order of their answers, with the highest generation so far.
    let by_answer =
        Steps::new(key.leases.iter().map(|o| (o.ended_ns, o.generation.unwrap_or_default())));
    for operation in operations {
        let known = by_answer.largest_until(operation.invoked_ns);
        match (operation.status, operation.fence) {
            // It was begun, so it can only be over.
            (412, Some(fence)) if fence <= known && fence % 2 == 1 => note(fence, operation),
            // Of all that had begun the last one was over too.
            (409, _) if known > 0 => note(known, operation),
            _ => {}
        }
        if operation.what == What::Look && operation.is_done() && !operation.is_blocked {
            // A cool-down is over if the key is free, even at the same generation.
            operation.generation.into_iter().for_each(|generation| note(generation, operation));
        }
    }
    over
}

/// A lease, and what may have moved its end.
struct Tenure<'a> {
    lease: &'a Operation,
    generation: u64,
    /// First the lease itself.
    terms: Vec<&'a Operation>,
}

impl<'a> Tenure<'a> {
    fn new(key: &Key<'a>, lease: &'a Operation) -> Self {
        let generation = lease.generation.unwrap_or_default();
        let fenced = key.at.get(&generation).into_iter().flatten().copied();
        let fenced = fenced.filter(|o| o.what == What::Renew);
        let open = key.open_renewals.iter().copied().filter(|o| o.ended_ns >= lease.invoked_ns);
        let terms = [lease].into_iter().chain(fenced).chain(open).collect();
        Self { lease, generation, terms }
    }

    /// The earliest time at which it can have run out.
    fn earliest_end(&self) -> u64 {
        let is_last = |term: &&&Operation| {
            let mut later = self.terms.iter().filter(|later| later.is_done());
            !later.any(|later| later.invoked_ns > term.ended_ns)
        };
        let end = |term: &&Operation| term.invoked_ns.max(self.lease.invoked_ns) + term.length_ns();
        self.terms.iter().filter(is_last).map(end).min().unwrap_or(0)
    }

    /// The latest time at which it can have run out, as far as `seen` can know.
    fn latest_end(&self, seen: Option<&Operation>) -> u64 {
        let (from, until) = seen.map_or((NEVER, NEVER), |seen| (seen.invoked_ns, seen.ended_ns));
        let is_other = |term: &Operation| seen.is_none_or(|seen| seen != term);
        let terms = || self.terms.iter().filter(|o| is_other(o) && o.invoked_ns <= until);
        let is_last = |term: &&&Operation| {
            let mut later = terms().filter(|later| later.is_done() && later.ended_ns < from);
            !later.any(|later| later.invoked_ns > term.ended_ns)
        };
        let ends = terms().filter(is_last).filter(|term| term.ended_ns != NEVER);
        let end = ends.map(|term| term.ended_ns + term.length_ns()).max().unwrap_or(0);
        // Each that may still come moves the end by its length at most.
        let pending = terms().filter(|term| term.ended_ns == NEVER);
        end.saturating_add(pending.map(|term| term.length_ns()).sum())
    }

    /// By when a release has surely ended it.
    fn surely_over(&self, key: &Key<'_>) -> u64 {
        let fenced = key.fenced_releases(self.generation).filter(|release| release.is_done());
        let fenced = fenced.map(|release| release.ended_ns).min().unwrap_or(NEVER);
        fenced.min(key.sure_releases.smallest_from(self.lease.ended_ns).unwrap_or(NEVER))
    }

    /// What acts on the lease, or shows it, does so before its end.
    fn check_seen(&self, key: &Key<'_>, found: &mut Found) -> Result<(), Violation> {
        let lease = self.lease;
        let released = self.surely_over(key);
        let mut end: Option<&Operation> = None;
        found.leases += 1;
        for seen in key.seen(self.generation).filter(|seen| seen.what != What::Lease) {
            found.leases_seen += 1;
            found.renewals += usize::from(seen.what == What::Renew);
            if seen.invoked_ns > self.latest_end(Some(seen)).saturating_add(key.slack_ns) {
                return Err(Violation::of("a lease ended late", &[lease, seen]));
            }
            if seen.invoked_ns > released {
                return Err(Violation::of("a lease went on after its release", &[lease, seen]));
            }
            if matches!(seen.what, What::Release | What::Delete) {
                if let Some(first) = end {
                    return Err(Violation::of("a lease was ended twice", &[lease, first, seen]));
                }
                end = Some(seen);
            }
        }
        Ok(())
    }

    /// What shows that the lease is over comes after its time, or after something that ended it.
    fn check_not_early(
        &self,
        key: &Key<'_>,
        over: &Operation,
        found: &mut Found,
    ) -> Result<(), Violation> {
        let mut fenced = key.fenced_releases(self.generation);
        let is_released = fenced.any(|release| release.invoked_ns <= over.ended_ns)
            || key.open_releases.largest_until(over.ended_ns) >= self.lease.invoked_ns;
        if is_released {
            return Ok(());
        }
        if over.ended_ns + key.slack_ns < self.earliest_end() {
            let rule = match over.what {
                What::Lease => "two leases overlap",
                _ => "a lease ended early",
            };
            let operations: Vec<_> = self.terms.iter().copied().chain([over]).collect();
            return Err(Violation::of(rule, &operations));
        }
        found.leases_timed_out += 1;
        Ok(())
    }
}

/// A cool-down with which a lease was surely released lasts as long as was asked for, unless the
/// key is released once more.
fn check_cool_down(
    key: &Key<'_>,
    leased: u64,
    over: Option<&&Operation>,
    found: &mut Found,
) -> Result<(), Violation> {
    let mut released = key.fenced_releases(leased).filter(|o| o.is_done() && o.ms > 0);
    let (Some(release), Some(over)) = (released.next(), over) else { return Ok(()) };
    let mut fenced = key.fenced_releases(leased + 1).filter(|o| o.ms == 0);
    let is_ended = fenced.any(|o| o.invoked_ns <= over.ended_ns)
        || key.plain_releases.largest_until(over.ended_ns) >= release.invoked_ns;
    if is_ended {
        return Ok(());
    }
    found.cool_downs_measured += 1;
    if over.ended_ns + key.slack_ns < release.invoked_ns + release.length_ns() {
        return Err(Violation::of("a cool-down ended early", &[release, over]));
    }
    Ok(())
}

/// Notes when the key was free for sure: from the sure end of a lease to the next one, or to the
/// last moment at which the generation is known to be the same.
fn note_gaps(key: &Key<'_>, life: Life, mut free_from: BTreeMap<u64, u64>, gaps: &mut Gaps) {
    for (generation, seen) in &key.at {
        let is_free = |o: &&&Operation| o.what == What::Create || o.what == What::Look;
        let seen = seen.iter().filter(|o| o.is_done() && !o.is_blocked).filter(is_free);
        if generation % 2 == 0
            && let Some(first) = seen.map(|o| o.ended_ns).min()
        {
            let from = free_from.entry(*generation).or_insert(NEVER);
            *from = first.min(*from);
        }
    }
    for (generation, from) in free_from {
        let next = key.seen(generation + 1).find(|o| o.what == What::Lease);
        let last = next.or_else(|| key.seen(generation).max_by_key(|o| o.invoked_ns));
        let Some(last) = last else { continue };
        let until_ns = last.invoked_ns.min(life.until_ns);
        let from_ns = from.max(life.from_ns).max(key.cool_downs.largest_until(until_ns));
        gaps.add(from_ns, until_ns, last, next.is_some());
    }
}
