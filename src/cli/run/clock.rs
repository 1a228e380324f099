//! The clock that deadlines follow. It counts the time that the machine is suspended, and nobody sets it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

/// The longest sleep at a time. The runtime's timers do not count the time of a suspension, so a longer one
/// could be late by that time when the machine resumes.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// The time since boot. O(1).
pub(super) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    // Neither is negative.
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// How long it is until `at`, a time since boot. O(1).
pub(super) fn left(at: Duration) -> Duration {
    at.saturating_sub(now())
}

/// How long ago `at` was, a time since boot. O(1).
pub(super) fn since(at: Duration) -> Duration {
    now().saturating_sub(at)
}

/// Ends at `at`, a time since boot. If the machine was suspended then, it ends within 100 ms after that.
pub(super) async fn sleep_until(at: Duration) {
    while !left(at).is_zero() {
        sleep(left(at).min(SLEEP_MAX)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_is_over_when_its_time_has_come() {
        for after in [Duration::ZERO, Duration::from_millis(20), SLEEP_MAX + SLEEP_MAX / 2] {
            let at = now() + after;
            sleep_until(at).await;
            assert_eq!(left(at), Duration::ZERO);
        }
        // What has passed is not waited for.
        sleep_until(Duration::ZERO).await;
    }
}
