//! Numbers of answers on their way to the tally.

use std::time::Duration;

use crate::http::meter::Tally;
use crate::http::route::Route;
use crate::pool::PoolId;

/// Numbers of answers that are not yet in the tally.
#[derive(Default)]
pub(super) struct Counts {
    /// By route and status. There are only a few of these.
    answers: Vec<(Route, u16, u64)>,
    /// Requests that found no key, by pool.
    without_key: Vec<(PoolId, u64)>,
}

impl Counts {
    /// Notes an answer. O(1).
    pub(super) fn note(&mut self, route: Route, status: u16) {
        let is_same = |known: &&mut (Route, u16, u64)| known.0 == route && known.1 == status;
        match self.answers.iter_mut().find(is_same) {
            Some((.., count)) => *count += 1,
            None => self.answers.push((route, status, 1)),
        }
    }

    /// Notes that a request found no key. O(p) for the p pools of a batch.
    pub(super) fn note_without_key(&mut self, pool: PoolId) {
        match self.without_key.iter_mut().find(|known| known.0 == pool) {
            Some((_, count)) => *count += 1,
            None => self.without_key.push((pool, 1)),
        }
    }

    /// Moves all to `tally`, each answer with the latency `elapsed`. O(1).
    pub(super) fn move_to(&mut self, tally: &Tally, elapsed: Duration) {
        for (route, status, count) in self.answers.drain(..) {
            tally.add(route, status, count, elapsed);
        }
        for (pool, count) in self.without_key.drain(..) {
            tally.add_without_key(pool, count);
        }
    }
}
