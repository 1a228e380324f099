//! The checker of histories: whether a server, or a pool, that keeps its promises can have given these
//! answers. The attacks on the server and the threads on one pool share it.
//!
//! It knows no more than the clocks of the clients: an operation took effect at some moment between its
//! beginning and its end, and one whose answer was lost perhaps not at all. It objects only if
//! there is no such choice of moments, so that no client's delay looks like a violation. Lives, leases
//! and gaps between leases are each looked at on their own, with bounds that are easily
//! understood, instead of searching for one order of everything: so it takes O(n log n).

mod gaps;
mod leases;
mod life;
pub(crate) mod record;
mod stages;
mod steps;

use std::fmt;

use self::record::{History, Operation, What};

/// A rule that was broken, and the operations that show it.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) rule: &'static str,
    operations: Vec<Operation>,
}

impl Violation {
    fn of(rule: &'static str, operations: &[&Operation]) -> Self {
        Self { rule, operations: operations.iter().map(|operation| **operation).collect() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rule)?;
        self.operations.iter().try_for_each(|operation| write!(f, "\n  {operation}"))
    }
}

/// How much of each kind a history contained: a check of nothing shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    pub(crate) operations: usize,
    pub(crate) leases: usize,
    /// Those by requests that were sent together.
    pub(crate) leases_in_groups: usize,
    /// Leases that were seen to be over, and that nothing but time can have ended.
    pub(crate) leases_timed_out: usize,
    /// Operations that were seen to act on a lease, or to show it.
    pub(crate) leases_seen: usize,
    pub(crate) cool_downs_measured: usize,
    pub(crate) renewals: usize,
    /// 412.
    pub(crate) refusals: usize,
    /// 404 of a request for any key.
    pub(crate) exhausted: usize,
    /// Times during which a key was free for sure.
    pub(crate) gaps: usize,
    /// Those of `exhausted` with such a time before or after, within a millisecond.
    pub(crate) close_to_gaps: usize,
    /// Keys that were seen to be gone, and that nothing but time can have ended.
    pub(crate) deaths: usize,
    pub(crate) deletions: usize,
    pub(crate) lost: usize,
}

/// Checks a history.
///
/// # Errors
///
/// The first violation that was found.
pub(crate) fn check(history: &History) -> Result<Found, Violation> {
    let mut operations = history.operations.clone();
    operations.sort_unstable_by_key(|operation| (operation.key, operation.invoked_ns));
    let mut found = Found { operations: operations.len(), ..Found::default() };
    found.lost = operations.iter().filter(|operation| operation.is_lost()).count();
    found.leases_in_groups = leases_in_groups(&operations);
    let is_keyless = |operation: &&Operation| operation.key.is_nil();
    let keyless: Vec<_> = operations.iter().filter(is_keyless).copied().collect();
    let mut gaps = gaps::Gaps::new(&operations, history.has_labels);
    for key in operations.chunk_by(|a, b| a.key == b.key) {
        if key[0].key.is_nil() {
            continue;
        }
        if let Some(life) = life::check(key, &keyless, history, &mut found)? {
            leases::check(key, life, history.slack_ns, &mut gaps, &mut found)?;
        }
    }
    gaps.check(&keyless, &mut found)?;
    Ok(found)
}

fn leases_in_groups(operations: &[Operation]) -> usize {
    let leases = operations.iter().filter(|o| o.what == What::Lease && o.is_done());
    let mut times: Vec<_> = leases.map(|lease| lease.invoked_ns).collect();
    times.sort_unstable();
    times.chunk_by(|a, b| a == b).map(<[u64]>::len).filter(|leases| *leases > 1).sum()
}

fn is_creation(operation: &Operation) -> bool {
    operation.what == What::Create
}
