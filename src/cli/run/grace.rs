//! When a command must end so that it is gone before its lease is over.

use std::time::Duration;

use humantime::format_duration;

/// How long a command may take to end after SIGTERM, if the user does not say.
const KILL_AFTER: Duration = Duration::from_secs(10);
/// The least time from SIGKILL to the end of the lease. In it, the system ends the processes.
const MARGIN_MIN: Duration = Duration::from_millis(100);
/// The part of a lease that lies between SIGKILL and its end. Clocks that are set right go wrong by less
/// than a thousandth: each is slowed or sped up by half of that at most.
const MARGIN_PART: u32 = 100;
/// This part of a lease is for renewals, whatever the user wants.
const RENEWAL_PART: u32 = 4;

/// The time between SIGTERM, SIGKILL and the end of a lease.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Grace {
    /// How long the command may take to end after SIGTERM.
    pub(super) kill_after: Duration,
    /// From SIGKILL to the end of the lease.
    margin: Duration,
}

impl Grace {
    /// No time at all, as long as no command runs.
    pub(super) const NONE: Self = Self { kill_after: Duration::ZERO, margin: Duration::ZERO };

    /// The times for a lease of this length, or for the life of a key if that is shorter; `asked` is what the
    /// user wants as `kill_after`. O(1).
    ///
    /// # Errors
    ///
    /// The message for the user, if the lease is too short.
    pub(super) fn new(asked: Option<Duration>, lease: Duration) -> Result<Self, String> {
        let margin = (lease / MARGIN_PART).max(MARGIN_MIN);
        let kill_after_max = lease.saturating_sub(lease / RENEWAL_PART + margin);
        let kill_after_max = Duration::from_millis(ms(kill_after_max));
        let lasts = format_duration(Duration::from_millis(ms(lease)));
        if kill_after_max.is_zero() {
            return Err(format!(
                "the key can be used for {lasts} without a renewal, which is too short to end CMD before that: \
                 lease for longer, such as with --lease 30s"
            ));
        }
        let kill_after = asked.unwrap_or(KILL_AFTER.min(lease / 4).min(kill_after_max));
        if kill_after > kill_after_max {
            return Err(format!(
                "--kill-after {} is too long: the key can be used for {lasts} without a renewal, CMD must be \
                 gone before that, and there must be time to renew; use --kill-after {}ms or less, or a \
                 longer --lease",
                format_duration(kill_after),
                ms(kill_after_max)
            ));
        }
        Ok(Self { kill_after, margin })
    }

    /// When the command gets SIGTERM if its lease ends at `ends` and was not renewed. O(1).
    pub(super) fn term_at(&self, ends: Duration) -> Duration {
        self.kill_at(ends).saturating_sub(self.kill_after)
    }

    /// When the command gets SIGKILL if its lease ends at `ends`. O(1).
    pub(super) fn kill_at(&self, ends: Duration) -> Duration {
        ends.saturating_sub(self.margin)
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn sigterm_sigkill_and_the_end_follow_each_other() {
        let grace = Grace::new(None, s(60)).unwrap();
        assert_eq!(grace.kill_after, s(10));
        assert_eq!(grace.kill_at(s(100)), Duration::from_millis(99_400));
        assert_eq!(grace.term_at(s(100)), Duration::from_millis(89_400));
        // A short lease is shared out.
        let grace = Grace::new(None, s(4)).unwrap();
        assert_eq!((grace.kill_after, grace.margin), (s(1), MARGIN_MIN));
        // What is over already has no time left.
        assert_eq!(grace.term_at(s(1)), Duration::ZERO);
    }

    #[test]
    fn the_command_is_gone_before_the_lease_is_whatever_is_asked_for() {
        for lease in (100..2000).chain([60_000, 86_400_000]).map(Duration::from_millis) {
            for asked in [None, Some(Duration::from_millis(1)), Some(lease / 2), Some(lease)] {
                if let Ok(grace) = Grace::new(asked, lease) {
                    assert!(grace.kill_at(lease) + MARGIN_MIN <= lease);
                    // So much is left to renew it.
                    assert!(grace.term_at(lease) >= lease / RENEWAL_PART, "{lease:?} {asked:?}");
                    assert!(asked.is_none_or(|asked| grace.kill_after == asked));
                }
            }
        }
    }

    #[test]
    fn what_a_lease_does_not_allow_is_refused_with_what_it_allows() {
        assert!(Grace::new(Some(Duration::from_millis(7400)), s(10)).is_ok());
        let error = Grace::new(Some(Duration::from_millis(7401)), s(10)).unwrap_err();
        assert!(
            error.contains("--kill-after 7s 401ms") && error.contains("for 10s without"),
            "{error}"
        );
        assert!(error.contains("--kill-after 7400ms or less"), "{error}");
        for asked in [None, Some(Duration::from_millis(1))] {
            let error = Grace::new(asked, Duration::from_millis(100)).unwrap_err();
            assert!(error.contains("for 100ms without"), "{error}");
        }
    }
}
