//! The cool-down after a lease that has lapsed: one that ran out, neither renewed nor released. Its holder may
//! still be at work.

use super::fail_point::FailPoint;
use crate::time::Timestamp;

/// How long a key cools down after a lease that has lapsed, and how long it did before that was changed.
///
/// It is what held when the lease lapsed that counts, and not what holds when an operation notices it. So what
/// was once shown as over stays over, whatever is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LapseCooldown {
    pub(super) ms: u32,
    /// For leases that ended at [`LapseCooldown::changed_at`] or before.
    pub(super) before_ms: u32,
    pub(super) changed_at: Timestamp,
}

impl LapseCooldown {
    /// The same for all leases.
    pub(super) fn new(ms: u32) -> Self {
        Self { ms, before_ms: ms, changed_at: Timestamp::default() }
    }

    /// The same as before for the leases that have lapsed by `now`, and `ms` for later ones. Those that had
    /// lapsed by the change before this one must have been ended: of them nothing is known any more.
    #[must_use]
    pub(super) fn changed_to(self, ms: u32, now: Timestamp) -> Self {
        Self { ms, before_ms: self.ms, changed_at: now }
    }

    /// Until when a key cools down whose lease lapsed at `end`: until then if it does not.
    pub(super) fn ends_after(self, end: Timestamp) -> Timestamp {
        if FailPoint::LapseFreesAtOnce.is_on() {
            return end;
        }
        let is_later = end > self.changed_at || FailPoint::LapseForgetsChange.is_on();
        end.plus_ms(u64::from(if is_later { self.ms } else { self.before_ms }))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_for_leases_that_lapse_later() {
        let at = Timestamp::from_ms;
        let lapse = LapseCooldown::new(5);
        assert_eq!((lapse.ends_after(at(0)), lapse.ends_after(at(10))), (at(5), at(15)));
        let lapse = lapse.changed_to(0, at(10));
        assert_eq!((lapse.ends_after(at(10)), lapse.ends_after(at(11))), (at(15), at(11)));
        let lapse = lapse.changed_to(7, at(20));
        assert_eq!((lapse.ends_after(at(20)), lapse.ends_after(at(21))), (at(20), at(28)));
    }
}
