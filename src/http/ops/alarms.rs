//! Alarms: troubles that an operator acts on, logged when they begin and when they are over.

use tracing::{info, warn};

use super::readings::Reading;
use crate::store::Stats;

/// How far the sweep may be behind. Tens of milliseconds are usual when very many keys expire at once.
const LAG_MS_MAX: u64 = 1000;
/// For how many looks a trouble must be gone to be over, so that one that comes and goes does not fill the
/// log.
const QUIET_LOOKS: u32 = 10;

/// The alarms of the server.
#[derive(Default)]
pub(in crate::http) struct Alarms {
    sweep: Alarm,
    store: Alarm,
    full: Alarm,
    connections: Alarm,
    refusals: Alarm,
    /// Answers with 503 at the last look.
    refused: u64,
}

/// The state of one alarm.
#[derive(Default)]
struct Alarm {
    is_on: bool,
    quiet: u32,
}

/// What to log.
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

    /// Updates the alarm, and logs a change.
    fn log(&mut self, is_there: bool, begun: impl FnOnce() -> String, over: &str) {
        match self.look(is_there) {
            Some(News::Begun) => warn!("{}", begun()),
            Some(News::Over) => info!("{over}"),
            None => {}
        }
    }
}

impl Alarms {
    /// Updates all alarms. `refused` is the number of all answers with 503.
    pub(in crate::http) fn look(&mut self, reading: &Reading, refused: u64) {
        let lag_ms = reading.sweep_lag_ms.unwrap_or(0);
        let begun =
            || format!("the sweep is {lag_ms} ms behind: expired keys take memory for longer");
        self.sweep.log(lag_ms >= LAG_MS_MAX, begun, "the sweep has caught up");
        let begun = || "the store does not answer: requests are refused with 503".to_owned();
        self.store.log(
            reading.stats.is_none() && !reading.is_starting,
            begun,
            "the store answers again",
        );
        if let Some(Stats { keys, keys_max: max, .. }) = reading.stats {
            let begun =
                || format!("the pool is full: it has {max} keys; --max-keys sets the limit");
            self.full.log(keys >= max, begun, "the pool has room again");
        }
        let (taken, max) = reading.connections;
        let begun = || {
            format!(
                "all {max} connections are taken, and further ones wait to be accepted; \
                 --max-connections sets the limit"
            )
        };
        self.connections.log(taken == max, begun, "connections are accepted again");
        let count = refused.saturating_sub(self.refused);
        self.refused = refused;
        let begun = || format!("{count} requests were refused with 503 within a second");
        // A server that stops refuses requests, and has logged that.
        self.refusals.log(
            count > 0 && reading.is_ready && !reading.is_starting,
            begun,
            "no request is refused with 503 any more",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_logged_once_until_it_is_over_for_good() {
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
