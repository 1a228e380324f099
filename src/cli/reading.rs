//! How far reading a data directory has come: a line of the terminal, or else lines of the log.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::info;

use super::counts::number;
use super::progress_bar::{Line, bar, columns};
use super::report::can_write_at_once;

/// How often the line is drawn.
const REDRAWN_EVERY: Duration = Duration::from_millis(100);
/// How often it is logged where there is no terminal.
const LOGGED_EVERY: Duration = Duration::from_secs(1);
/// So many bytes are read so soon that nobody wants to see it.
const SOON_BYTES: u64 = 8 << 20;
/// After how long the time that is left can be told.
const KNOWN_AFTER: Duration = Duration::from_secs(1);

/// Shows how far reading has come, until it or what tells it is dropped.
pub(super) struct Reading(Arc<Mutex<Option<Shown>>>);

struct Shown {
    line: Line,
    begin: Instant,
    pace: Pace,
}

impl Reading {
    /// Reading begins now.
    pub(super) fn begin() -> Self {
        let (line, begin) = (Line::new(), Instant::now());
        let pace = if line.is_terminal() { Pace::of_line(begin) } else { Pace::of_log(begin) };
        Self(Arc::new(Mutex::new(Some(Shown { line, begin, pace }))))
    }

    /// Is to be told how many bytes were read, of how many at most.
    pub(super) fn progress(&self) -> impl FnMut(u64, u64) + Send + use<> {
        let reading = Self(Arc::clone(&self.0));
        move |read, all| reading.tell(read, all, Instant::now())
    }

    fn tell(&self, read: u64, all: u64, now: Instant) {
        let mut shown = self.0.lock();
        let Some(Shown { line, begin, pace }) = &mut *shown else { return };
        if !pace.is_due(read, now) {
            return;
        }
        if !line.is_terminal() {
            info!("reading the data directory: {} of {} MiB", read >> 20, all >> 20);
        } else if can_write_at_once() {
            // A terminal that was stopped holds up no start.
            line.show(&text(columns(), read, all, now.duration_since(*begin)));
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(mut shown) = self.0.lock().take()
            && can_write_at_once()
        {
            shown.line.clear();
        }
    }
}

/// When to show it.
struct Pace {
    every: Duration,
    /// Not before so many bytes were read.
    from_bytes: u64,
    next: Instant,
}

impl Pace {
    fn of_line(begin: Instant) -> Self {
        Self { every: REDRAWN_EVERY, from_bytes: SOON_BYTES, next: begin }
    }

    fn of_log(begin: Instant) -> Self {
        Self { every: LOGGED_EVERY, from_bytes: 0, next: begin + LOGGED_EVERY }
    }

    fn is_due(&mut self, read: u64, now: Instant) -> bool {
        let is_due = read >= self.from_bytes && now >= self.next;
        if is_due {
            self.next = now + self.every;
        }
        is_due
    }
}

/// The line for a terminal that is so many characters wide. A longer one would be broken, and could not be written over.
fn text(columns: usize, read: u64, all: u64, elapsed: Duration) -> String {
    let mib = |bytes: u64| number(&(bytes >> 20).into());
    let mut text =
        format!("reading {}  {} of {} MiB", bar(columns / 4, read, all), mib(read), mib(all));
    if elapsed >= KNOWN_AFTER {
        let rest = u128::from(all.saturating_sub(read));
        let left_ms = elapsed.as_millis() * rest / u128::from(read.max(1));
        let left = Duration::from_secs(u64::try_from(left_ms.div_ceil(1000)).unwrap_or(u64::MAX));
        let _ = write!(text, ", {} left", humantime::format_duration(left));
    }
    text.chars().take(columns.saturating_sub(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_much_was_read_and_how_long_the_rest_takes() {
        const MIB: u64 = 1 << 20;
        for (columns, read, all, elapsed_ms, expected) in [
            (80, 0, 0, 0, "reading [....................]   0 %  0 of 0 MiB"),
            (80, 50 * MIB, 200 * MIB, 999, "reading [#####...............]  25 %  50 of 200 MiB"),
            (
                80,
                512 * MIB,
                2400 * MIB,
                1001,
                "reading [####................]  21 %  512 of 2,400 MiB, 4s left",
            ),
            (80, MIB, 102_400 * MIB, 40, "reading [....................]   0 %  1 of 102,400 MiB"),
            (
                80,
                1000 * MIB,
                100_000 * MIB,
                100_000,
                "reading [....................]   1 %  1,000 of 100,000 MiB, 2h 45m left",
            ),
            (
                80,
                7 * MIB,
                7 * MIB,
                2000,
                "reading [####################] 100 %  7 of 7 MiB, 0s left",
            ),
            // It may be more than was thought.
            (80, 9 * MIB, 7 * MIB, 0, "reading [####################] 100 %  9 of 7 MiB"),
            (40, 50 * MIB, 200 * MIB, 2000, "reading [##........]  25 %  50 of 200 M"),
            (9, 50 * MIB, 200 * MIB, 2000, "reading "),
            (1, 50 * MIB, 200 * MIB, 2000, ""),
        ] {
            let shown = text(columns, read, all, Duration::from_millis(elapsed_ms));
            assert_eq!(shown, expected, "{columns} {read} {all} {elapsed_ms}");
            assert!(shown.chars().count() < columns);
        }
        let longest = text(80, u64::MAX / 3, u64::MAX, Duration::from_hours(1));
        assert_eq!(longest.chars().count(), 79, "{longest}");
    }

    #[test]
    fn it_is_drawn_ten_times_a_second_and_logged_once() {
        let begin = Instant::now();
        for (mut pace, every_ms, first) in
            [(Pace::of_line(begin), 100, SOON_BYTES), (Pace::of_log(begin), 1000, 1)]
        {
            let is_log = first == 1;
            let at = |ms| begin + Duration::from_millis(ms);
            // A short directory shows nothing.
            assert!(!pace.is_due(first - 1, at(if is_log { 999 } else { 5000 })));
            let start = if is_log { 1000 } else { 0 };
            for n in 0..3 {
                let now = start + n * every_ms;
                assert!(pace.is_due(first, at(now)), "{now}");
                assert!(!pace.is_due(first, at(now)), "{now}");
                assert!(!pace.is_due(first, at(now + every_ms - 1)), "{now}");
            }
        }
    }
}
