//! Time: a [`Timestamp`] since a fixed epoch, and the [`Clock`]s that give it.
//!
//! A clock is anchored to the wall clock when it is made. After that it runs by a clock that nobody
//! sets, so a jump of the wall clock moves no deadline. What is shown follows the wall clock.

use std::fs;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::time::sleep;
use uuid::Uuid;

/// Milliseconds since 2025-01-01T00:00:00Z, by the [`Clock`] that gave it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The epoch in milliseconds of Unix time: 2025-01-01T00:00:00Z.
    pub const EPOCH_UNIX_MS: u64 = 1_735_689_600_000;

    /// The latest time: 2^40 - 2 ms after the epoch, in the year 2059.
    pub const MAX: Self = Self(Self::NEVER.0 - 1);

    /// The end of what has none. It is later than any time, and no sum gives it. A record can keep it: it
    /// takes 40 bits.
    pub const NEVER: Self = Self((1 << 40) - 1);

    /// The time `ms` milliseconds after the epoch, at most [`Timestamp::MAX`]. O(1).
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        if ms > Self::MAX.0 { Self::MAX } else { Self(ms) }
    }

    /// The time, or [`Timestamp::NEVER`], that [`Timestamp::as_ms`] gave as `ms`. O(1).
    pub(crate) const fn from_kept_ms(ms: u64) -> Self {
        debug_assert!(ms <= Self::NEVER.0, "no timestamp gave this");
        Self(ms)
    }

    /// Whether this is [`Timestamp::NEVER`], and so no time. O(1).
    #[must_use]
    pub const fn is_never(self) -> bool {
        self.0 == Self::NEVER.0
    }

    /// This time, or `None` for [`Timestamp::NEVER`]: what may be shown. O(1).
    #[must_use]
    pub const fn unless_never(self) -> Option<Self> {
        if self.is_never() { None } else { Some(self) }
    }

    /// Milliseconds since the epoch. O(1).
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

/// A source of time. The engine never sees one: each `now` is an argument.
pub trait Clock: Clone + Send + Sync + 'static {
    /// The time now; never smaller than an answer that was given before. O(1).
    fn now(&self) -> Timestamp;

    /// The time of day at `at`, for display, in milliseconds of Unix time. O(1).
    fn unix_ms(&self, at: Timestamp) -> u64;

    /// How the clock runs, for one that goes on where it has ended. O(1).
    fn anchor(&self) -> ClockAnchor {
        ClockAnchor::default()
    }

    /// Ends at `at` or soon after, at once if that has passed.
    fn sleep_until(&self, at: Timestamp) -> impl Future<Output = ()> + Send;
}

/// The system's time since boot, also while it was suspended, from a start at the wall clock's time.
///
/// Its milliseconds tick together with the wall clock's, so that the time shown for a key is the
/// wall clock's at that moment, rounded down. If the wall clock is set later, as on a machine that
/// first learns the time after boot, all shown times follow it, and no deadline does.
#[derive(Clone, Debug)]
pub struct SystemClock {
    /// What to add to the time since boot, so that it counts from the epoch.
    offset: Duration,
    shown: Arc<Shown>,
}

/// How a [`SystemClock`] runs, for one that goes on where it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockAnchor {
    /// Names the start of the machine; all zeros if that is not known.
    pub boot: [u8; 16],
    /// What to add to the time since then, in nanoseconds.
    pub offset_ns: u64,
}

/// How the shown time differs from the clock's own.
#[derive(Debug, Default)]
struct Shown {
    ahead_ms: AtomicI64,
    /// When the wall clock was last looked at.
    looked_at_ms: AtomicU64,
}

impl SystemClock {
    /// How often the wall clock is looked at.
    const LOOK_MS: u64 = 1000;
    /// A difference to the wall clock up to this comes from reading two clocks one after the other.
    const NOISE_MS: i64 = 50;
    /// How far apart two readings may be that are taken for one.
    const APART_MS: u64 = 5;
    /// The longest sleep at a time: a suspended machine stops the runtime's clock, but not this one.
    const SLEEP_MAX: Duration = Duration::from_secs(1);

    /// A clock that shows the wall clock's time. O(1).
    #[must_use]
    pub fn new() -> Self {
        // Both at the same moment, not some other thread's time slice apart.
        let both = || {
            let (before, wall, boot) = (since_boot(), since_epoch(), since_boot());
            (boot.saturating_sub(before), boot, wall)
        };
        let closest = (0..10).map(|_| both()).min_by_key(|(apart, ..)| *apart);
        let (_, boot, wall) = closest.unwrap_or_else(both);
        Self::anchored(wall, boot)
    }

    /// A clock that goes on where one has ended that ran by `anchor`, and last gave `seen`. If the machine was not started
    /// again meanwhile, it goes on as if it had never ended, whatever has become of the wall clock. Otherwise it shows
    /// the wall clock's time, but none before `reserved`. O(1).
    #[must_use]
    pub fn resume(anchor: ClockAnchor, seen: Timestamp, reserved: Timestamp) -> Self {
        let offset = Duration::from_nanos(anchor.offset_ns);
        let goes_on = Timestamp::from_ms(whole_ms(since_boot() + offset)) >= seen;
        if anchor.boot == boot_id() && anchor.boot != [0; 16] && goes_on {
            return Self { offset, shown: Arc::default() };
        }
        let clock = Self::new();
        let behind_ms = reserved.ms_since(clock.now());
        Self { offset: clock.offset + Duration::from_millis(behind_ms), ..clock }
    }

    /// A clock that showed `wall`, a time since the epoch, when the machine was up for `boot`.
    fn anchored(wall: Duration, boot: Duration) -> Self {
        // Only a wall clock that was never set is this far behind.
        Self { offset: wall.saturating_sub(boot), shown: Arc::default() }
    }

    /// Follows the wall clock if it was set. O(1).
    fn look_at_wall_clock(&self, now_ms: u64, wall_ms: u64) {
        let ahead_ms = wall_ms.cast_signed() - now_ms.cast_signed();
        if (ahead_ms - self.shown.ahead_ms.load(Relaxed)).abs() > Self::NOISE_MS {
            self.shown.ahead_ms.store(ahead_ms, Relaxed);
        }
    }
}

/// Names the start of the machine: another one after each. All zeros where the system does not say it.
fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Uuid::try_parse(text.trim()).unwrap_or_default().into_bytes()
}

/// How long the system has been up. It is never set, and goes on while the machine is suspended.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::try_from(time).expect("the system was booted before")
}

/// What the wall clock shows, since the epoch; zero if it is behind that.
fn since_epoch() -> Duration {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    unix.saturating_sub(Duration::from_millis(Timestamp::EPOCH_UNIX_MS))
}

fn whole_ms(time: Duration) -> u64 {
    time.as_secs() * 1000 + u64::from(time.subsec_millis())
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now_ms = whole_ms(since_boot() + self.offset);
        let looked_at_ms = self.shown.looked_at_ms.load(Relaxed);
        if now_ms >= looked_at_ms + Self::LOOK_MS {
            self.shown.looked_at_ms.store(now_ms, Relaxed);
            let wall_ms = whole_ms(since_epoch());
            // A thread that was held up in between has not read both at the same time.
            if whole_ms(since_boot() + self.offset) <= now_ms + Self::APART_MS {
                self.look_at_wall_clock(now_ms, wall_ms);
            }
        }
        Timestamp::from_ms(now_ms)
    }

    fn anchor(&self) -> ClockAnchor {
        let offset_ns = u64::try_from(self.offset.as_nanos()).unwrap_or(u64::MAX);
        ClockAnchor { boot: boot_id(), offset_ns }
    }

    fn unix_ms(&self, at: Timestamp) -> u64 {
        let ahead_ms = self.shown.ahead_ms.load(Relaxed);
        (Timestamp::EPOCH_UNIX_MS + at.as_ms()).saturating_add_signed(ahead_ms)
    }

    async fn sleep_until(&self, at: Timestamp) {
        loop {
            let left = Duration::from_millis(at.as_ms()).saturating_sub(since_boot() + self.offset);
            if left.is_zero() {
                return;
            }
            sleep(left.min(Self::SLEEP_MAX)).await;
        }
    }
}

/// A clock that moves only when it is told to, for tests. Clones share their time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<watch::Sender<Timestamp>>,
    unix_ms_at_epoch: u64,
}

impl ManualClock {
    /// A clock that stands at its epoch, where the wall clock shows `wall_at_epoch`. O(1).
    #[must_use]
    pub fn new(wall_at_epoch: SystemTime) -> Self {
        let unix = wall_at_epoch.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = Arc::new(watch::Sender::new(Timestamp::default()));
        Self { now, unix_ms_at_epoch: whole_ms(unix) }
    }

    /// Moves the time on by `ms` milliseconds and wakes the tasks that slept until then.
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

    fn unix_ms(&self, at: Timestamp) -> u64 {
        self.unix_ms_at_epoch + at.as_ms()
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

    fn wall_ms() -> u64 {
        Timestamp::EPOCH_UNIX_MS + whole_ms(since_epoch())
    }

    #[test]
    fn a_system_clock_shows_the_wall_clock_to_the_millisecond() {
        let clock = SystemClock::new();
        let before = wall_ms();
        let shown = clock.unix_ms(clock.now());
        assert!((before..=wall_ms()).contains(&shown), "{shown} is not from {before} on");
        assert_eq!(Timestamp::EPOCH_UNIX_MS + clock.now().as_ms(), clock.unix_ms(clock.now()));
    }

    #[test]
    fn a_clock_goes_on_by_the_time_since_the_machine_started() {
        let before = SystemClock::anchored(Duration::from_secs(5), Duration::ZERO);
        let (anchor, seen) = (before.anchor(), before.now());
        assert_ne!(anchor.boot, [0; 16], "the system says it");
        // Hours from the wall clock, and exact.
        let after = SystemClock::resume(anchor, seen, seen.plus_ms(2000));
        assert!(after.now().ms_since(before.now()) <= 1000 && after.offset == before.offset);
    }

    #[test]
    fn after_another_start_of_the_machine_no_time_comes_back() {
        let (now, hour_ms) = (SystemClock::new().now(), 3_600_000);
        let of_other_start = ClockAnchor { boot: [7; 16], offset_ns: 0 };
        // The wall clock has gone on, or was set back by an hour.
        for reserved in [Timestamp::from_ms(now.as_ms() - hour_ms), now.plus_ms(hour_ms)] {
            let after = SystemClock::resume(of_other_start, reserved, reserved).now();
            assert!(after >= reserved.max(now), "{after:?}");
            assert!(after.ms_since(reserved.max(now)) <= 1000, "{after:?}");
        }
        // It says that it is the same start, but less time has passed since then: that of a container, perhaps.
        let anchor = ClockAnchor { offset_ns: 0, ..SystemClock::new().anchor() };
        let seen = now.plus_ms(hour_ms);
        assert!(SystemClock::resume(anchor, seen, seen).now() >= seen);
    }

    #[test]
    fn shown_times_follow_a_wall_clock_that_is_set_and_deadlines_do_not() {
        // The wall clock was never set, and shows a time before the epoch.
        let boot = since_boot();
        let clock = SystemClock::anchored(Duration::ZERO, boot);
        let (now, real) = (clock.now(), wall_ms());
        assert!(now <= Timestamp::from_ms(whole_ms(since_boot())), "{now:?}");
        // `now` has looked at the real wall clock.
        assert!(clock.unix_ms(now).abs_diff(real) <= 1000, "{} is shown", clock.unix_ms(now));
        let until = now.plus_ms(60_000);
        clock.look_at_wall_clock(now.as_ms(), now.as_ms() + 3_600_000);
        assert_eq!(clock.unix_ms(until), Timestamp::EPOCH_UNIX_MS + until.as_ms() + 3_600_000);
        // What is within the noise of reading two clocks moves nothing.
        clock.look_at_wall_clock(now.as_ms(), now.as_ms() + 3_600_050);
        assert_eq!(clock.unix_ms(until), Timestamp::EPOCH_UNIX_MS + until.as_ms() + 3_600_000);
        clock.look_at_wall_clock(now.as_ms(), now.as_ms());
        assert_eq!(clock.unix_ms(until), Timestamp::EPOCH_UNIX_MS + until.as_ms());
    }

    #[tokio::test]
    async fn a_system_clock_sleeps_until_the_time_has_come() {
        let clock = SystemClock::new();
        let at = clock.now().plus_ms(5);
        clock.sleep_until(at).await;
        assert!(clock.now() >= at);
    }

    #[test]
    fn a_timestamp_never_wraps() {
        assert_eq!(Timestamp::MAX.plus_ms(1), Timestamp::MAX);
        assert_eq!(Timestamp::from_ms(u64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_ms(3).ms_since(Timestamp::from_ms(5)), 0);
    }

    #[test]
    fn never_is_later_than_any_time_and_no_time() {
        assert!(Timestamp::NEVER > Timestamp::MAX && Timestamp::NEVER.is_never());
        assert_eq!((Timestamp::NEVER.unless_never(), Timestamp::MAX.is_never()), (None, false));
        assert_eq!(Timestamp::from_kept_ms(Timestamp::NEVER.as_ms()), Timestamp::NEVER);
        for ms in [Timestamp::NEVER.as_ms(), u64::MAX] {
            assert_eq!(
                (Timestamp::from_ms(ms), Timestamp::MAX.plus_ms(ms)),
                (Timestamp::MAX, Timestamp::MAX)
            );
        }
        assert_eq!(Timestamp::MAX.unless_never(), Some(Timestamp::MAX));
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
