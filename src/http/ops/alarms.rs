//! What an operator acts on: a line in the log when it begins, and one when it is over.

use tracing::{info, warn};

use super::readings::Reading;

/// How late the sweep may be. Tens of milliseconds are usual when very many keys die at once.
const LAG_MS_MAX: u64 = 1000;
/// For how many looks it must be gone to be over: what comes and goes shall not fill the log.
const QUIET_LOOKS: u32 = 10;

/// The troubles that are looked for.
#[derive(Default)]
pub(in crate::http) struct Alarms {
    sweep: Alarm,
    full: Alarm,
    connections: Alarm,
    refusals: Alarm,
    /// Answers with 503 at the last look.
    refused: u64,
}

/// Whether one trouble is there.
#[derive(Default)]
struct Alarm {
    is_on: bool,
    quiet: u32,
}

/// What to say of it.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Begun,
    Over,
}

impl Alarm {
    fn look(&mut self, is_there: bool) -> Option<News> {
        self.quiet = if is_there { 0 } else { self.quiet + 1 };
        let news = match (self.is_on, is_there) {
            (false, true) => News::Begun,
            (true, false) if self.quiet >= QUIET_LOOKS => News::Over,
            _ => return None,
        };
        self.is_on = news == News::Begun;
        Some(news)
    }

    /// Looks, and logs what is new.
    fn log(&mut self, is_there: bool, begun: impl FnOnce() -> String, over: &str) {
        match self.look(is_there) {
            Some(News::Begun) => warn!("{}", begun()),
            Some(News::Over) => info!("{over}"),
            None => {}
        }
    }
}

impl Alarms {
    /// Looks at everything; `refused` are all answers with 503.
    pub(in crate::http) fn look(&mut self, reading: &Reading, refused: u64) {
        let lag_ms = reading.vitals.sweep_lag_ms;
        let begun =
            || format!("the sweep is {lag_ms} ms behind: memory of the dead comes back late");
        self.sweep.log(lag_ms >= LAG_MS_MAX, begun, "the sweep has caught up");
        let (keys, max) = (reading.stats.keys, reading.vitals.keys_max);
        let begun = || format!("the pool is full: no more than {max} keys are created");
        self.full.log(keys >= max, begun, "the pool has room again");
        let begun = || "all connections are taken; further ones wait to be accepted".to_owned();
        let (taken, all) = reading.connections;
        self.connections.log(taken == all, begun, "there is room for connections again");
        let count = refused.saturating_sub(self.refused);
        self.refused = refused;
        let begun = || format!("{count} requests were refused with 503 within a second");
        // Who stops refuses, and has said so.
        self.refusals.log(count > 0 && reading.is_ready, begun, "no more requests are refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_once_until_it_is_over_for_good() {
        let mut alarm = Alarm::default();
        assert_eq!(alarm.look(false), None);
        assert_eq!(alarm.look(true), Some(News::Begun));
        for _ in 0..3 {
            assert_eq!(alarm.look(true), None);
            (1..QUIET_LOOKS).for_each(|_| assert_eq!(alarm.look(false), None));
        }
        assert_eq!(alarm.look(true), None);
        (1..QUIET_LOOKS).for_each(|_| assert_eq!(alarm.look(false), None));
        assert_eq!(alarm.look(false), Some(News::Over));
        assert_eq!(alarm.look(false), None);
        assert_eq!(alarm.look(true), Some(News::Begun));
    }
}
