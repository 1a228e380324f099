//! Whether a client was answered that no key is free while one was.

use super::record::{Operation, What};
use super::steps::Steps;
use super::{Found, Violation};

/// A time during which a key was free for sure.
struct Gap {
    from_ns: u64,
    until_ns: u64,
    /// What shows how long it lasted.
    last: Operation,
}

/// Of all keys.
pub(super) struct Gaps {
    found: Vec<Gap>,
    /// When requests for any key ended and began.
    leases: Steps,
    /// Whether only one request at a time is about to lease a key.
    is_one_at_a_time: bool,
}

/// See [`Found::close_to_gaps`].
const CLOSE_NS: u64 = 1_000_000;

impl Gaps {
    pub(super) fn new(operations: &[Operation], has_labels: bool) -> Self {
        let leases = operations.iter().filter(|operation| operation.what == What::Lease);
        let leases = Steps::new(leases.map(|lease| (lease.ended_ns, lease.invoked_ns)));
        Self { found: Vec::new(), leases, is_one_at_a_time: !has_labels }
    }

    /// Notes that a key was free between these times, if there is any time between them.
    ///
    /// A key that a request is about to lease is not free for any further one. If that request `has_leased`
    /// it, the gap ends with its beginning. If not, it has found the key changed, which was after
    /// the gap: so it may be any that ended after. With labels a key is in several indexes: then requests that found it
    /// changed may have been about to lease it beside the one that has.
    pub(super) fn add(&mut self, from_ns: u64, until_ns: u64, last: &Operation, has_leased: bool) {
        let about_to = if has_leased && self.is_one_at_a_time {
            None
        } else {
            self.leases.smallest_from(until_ns)
        };
        let until_ns = about_to.map_or(until_ns, |about_to| about_to.min(until_ns));
        if from_ns < until_ns {
            self.found.push(Gap { from_ns, until_ns, last: *last });
        }
    }

    /// A client that was answered that no key is free asked at a moment when that was so.
    pub(super) fn check(&self, keyless: &[Operation], found: &mut Found) -> Result<(), Violation> {
        let steps = Steps::new(self.found.iter().map(|gap| (gap.from_ns, gap.until_ns)));
        found.gaps += self.found.len();
        for exhausted in keyless.iter().filter(|o| o.what == What::Lease && o.status == 404) {
            let (from, until) = (exhausted.invoked_ns, exhausted.ended_ns);
            found.exhausted += 1;
            let is_close = steps.largest_until(until + CLOSE_NS) + CLOSE_NS >= from;
            found.close_to_gaps += usize::from(is_close);
            if steps.largest_until(from) > until {
                let gap = self.found.iter().find(|gap| gap.from_ns <= from && gap.until_ns > until);
                let operations = [gap.map(|gap| &gap.last), Some(exhausted)];
                let operations: Vec<_> = operations.into_iter().flatten().collect();
                return Err(Violation::of("a free key was not served", &operations));
            }
        }
        Ok(())
    }
}
