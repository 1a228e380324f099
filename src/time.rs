//! Time: a [`Timestamp`] on a clock's own axis, and the [`Clock`]s that give it.
//!
//! Deadlines live on a monotonic axis, so a jump of the wall clock moves none of them.
//! The wall clock is asked once, when a clock is made, and serves for display only.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

/// Milliseconds since the origin of the [`Clock`] that gave it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The latest time that a record can hold: 2^40 - 1 ms, 34 years after the clock's origin.
    pub const MAX: Self = Self((1 << 40) - 1);

    /// The time `ms` milliseconds after the origin, at most [`Timestamp::MAX`]. O(1).
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        if ms > Self::MAX.0 { Self::MAX } else { Self(ms) }
    }

    /// Milliseconds since the origin. O(1).
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// This time and `ms` milliseconds, at most [`Timestamp::MAX`]. O(1).
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self::from_ms(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this time, 0 if `earlier` is the later one. O(1).
    #[must_use]
    pub const fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A source of time. The engine never sees one: it is handed each `now`.
pub trait Clock: Clone + Send + Sync + 'static {
    /// The time now; never smaller than an answer that was given before. O(1).
    fn now(&self) -> Timestamp;

    /// The time of day at `at`, for display. It never changes for one `at`. O(1).
    fn wall(&self, at: Timestamp) -> SystemTime;

    /// Ends at `at` or soon after, at once if that has passed.
    fn sleep_until(&self, at: Timestamp) -> impl Future<Output = ()> + Send;
}

/// The system's monotonic clock.
///
/// Its milliseconds tick together with the wall clock's, so that the time shown for a key is
/// the wall clock's at that moment, rounded down, unless the wall clock was set since the start.
#[derive(Clone, Debug)]
pub struct SystemClock {
    origin: Instant,
    /// How far into its millisecond the wall clock was at `origin`.
    offset: Duration,
    wall_at_origin: SystemTime,
}

impl SystemClock {
    /// A clock whose origin is now. O(1).
    #[must_use]
    pub fn new() -> Self {
        // Both at the same moment, not some other thread's time slice apart.
        let both = || {
            let (before, wall, origin) = (Instant::now(), SystemTime::now(), Instant::now());
            (origin.duration_since(before), origin, wall)
        };
        let closest = (0..10).map(|_| both()).min_by_key(|(apart, ..)| *apart);
        let (_, origin, wall) = closest.unwrap_or_else(both);
        let since_epoch = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let offset = Duration::from_nanos(u64::from(since_epoch.subsec_nanos()) % 1_000_000);
        Self { origin, offset, wall_at_origin: wall - offset }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let elapsed = self.origin.elapsed() + self.offset;
        Timestamp::from_ms(elapsed.as_secs() * 1000 + u64::from(elapsed.subsec_millis()))
    }

    fn wall(&self, at: Timestamp) -> SystemTime {
        self.wall_at_origin + Duration::from_millis(at.as_ms())
    }

    fn sleep_until(&self, at: Timestamp) -> impl Future<Output = ()> + Send {
        let due = self.origin + Duration::from_millis(at.as_ms()).saturating_sub(self.offset);
        tokio::time::sleep_until(due.into())
    }
}

/// A clock that moves only when it is told to, for tests. Clones share their time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<watch::Sender<Timestamp>>,
    wall_at_origin: SystemTime,
}

impl ManualClock {
    /// A clock that stands at its origin, where the wall clock shows `wall_at_origin`. O(1).
    #[must_use]
    pub fn new(wall_at_origin: SystemTime) -> Self {
        Self { now: Arc::new(watch::Sender::new(Timestamp::default())), wall_at_origin }
    }

    /// Moves the time on by `ms` milliseconds and wakes whoever slept until then.
    /// O(s) for s sleepers.
    pub fn advance_ms(&self, ms: u64) {
        self.now.send_modify(|now| *now = now.plus_ms(ms));
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new(SystemTime::UNIX_EPOCH)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    fn wall(&self, at: Timestamp) -> SystemTime {
        self.wall_at_origin + Duration::from_millis(at.as_ms())
    }

    async fn sleep_until(&self, at: Timestamp) {
        let mut changes = self.now.subscribe();
        if changes.wait_for(|now| *now >= at).await.is_err() {
            // Not reached: `self` holds the sender. Time that stands still wakes nobody.
            poll_fn(|_| Poll::<()>::Pending).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_clock_shows_the_wall_clock_to_the_millisecond() {
        let clock = SystemClock::new();
        let before = SystemTime::now();
        let shown = clock.wall(clock.now());
        let after = SystemTime::now();
        assert!(shown + Duration::from_millis(1) > before && shown <= after);
        let ms = shown.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(ms.subsec_nanos() % 1_000_000, 0);
    }

    #[test]
    fn a_timestamp_never_wraps() {
        assert_eq!(Timestamp::MAX.plus_ms(1), Timestamp::MAX);
        assert_eq!(Timestamp::from_ms(u64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_ms(3).ms_since(Timestamp::from_ms(5)), 0);
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers_exactly_at_their_time() {
        let clock = ManualClock::default();
        let mut sleep = std::pin::pin!(clock.sleep_until(Timestamp::from_ms(10)));
        let mut poll = async || poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_ready())).await;
        assert!(!poll().await);
        clock.advance_ms(9);
        assert!(!poll().await);
        clock.advance_ms(1);
        assert!(poll().await);
    }
}
