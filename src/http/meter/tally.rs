//! Counts of answers, by route.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::histogram::{Histogram, Snapshot};
use super::no_key::NoKeys;
use crate::http::route::Route;
use crate::pool::PoolId;

/// The statuses that are counted separately. The last counter is for all others.
const STATUSES: [u16; 19] =
    [200, 201, 308, 400, 401, 403, 404, 405, 408, 409, 412, 413, 414, 422, 429, 431, 500, 503, 504];
const COUNTERS: usize = STATUSES.len() + 1;

/// Counts of requests, by route.
pub(in crate::http) struct Tally {
    by_route: Box<[Counts]>,
    no_keys: NoKeys,
}

#[derive(Default)]
struct Counts {
    by_status: [AtomicU64; COUNTERS],
    latencies: Histogram,
}

impl Default for Tally {
    fn default() -> Self {
        let by_route = Route::ALL.iter().map(|_| Counts::default()).collect();
        Self { by_route, no_keys: NoKeys::default() }
    }
}

impl Tally {
    /// Counts `requests` with the same status, each of which took `elapsed`. O(1).
    pub(in crate::http) fn add(&self, route: Route, status: u16, requests: u64, elapsed: Duration) {
        let counts = &self.by_route[route as usize];
        let index = STATUSES.iter().position(|known| *known == status);
        counts.by_status[index.unwrap_or(STATUSES.len())].fetch_add(requests, Relaxed);
        counts.latencies.add(requests, elapsed);
    }

    /// Counts requests that found no key in a pool. O(1).
    pub(in crate::http) fn add_without_key(&self, pool: PoolId, requests: u64) {
        self.no_keys.add(pool, requests);
    }
}

/// All tallies of a server.
#[derive(Default)]
pub(in crate::http) struct Metrics {
    shared: Tally,
    /// One for each thread of the hot path.
    threads: Mutex<Vec<Arc<Tally>>>,
}

impl Metrics {
    /// The tally of one more thread. O(1).
    pub(in crate::http) fn of_thread(&self) -> Arc<Tally> {
        let tally = Arc::<Tally>::default();
        self.threads.lock().push(Arc::clone(&tally));
        tally
    }

    /// The tally of the router.
    pub(in crate::http) fn shared(&self) -> &Tally {
        &self.shared
    }

    fn sum<T: Default>(&self, route: Route, mut add: impl FnMut(&mut T, &Counts)) -> T {
        let mut sum = T::default();
        self.each(|tally| add(&mut sum, &tally.by_route[route as usize]));
        sum
    }

    fn each(&self, look: impl FnMut(&Tally)) {
        let threads = self.threads.lock();
        threads.iter().map(|tally| &**tally).chain([&self.shared]).for_each(look);
    }

    /// How many requests found no key in a pool. O(t) for t threads.
    pub(in crate::http) fn without_key(&self, pool: PoolId) -> u64 {
        let mut sum = 0;
        self.each(|tally| sum += tally.no_keys.of(pool));
        sum
    }

    /// Forgets what was counted for pools that are gone. O(t p) for t threads and p pools.
    pub(in crate::http) fn retain_pools(&self, is_there: impl Fn(PoolId) -> bool) {
        self.each(|tally| tally.no_keys.retain(&is_there));
    }

    /// The number of answers of a route, by status; 0 stands for the statuses that are not counted
    /// separately. O(t) for t threads.
    pub(in crate::http) fn answers(&self, route: Route) -> impl Iterator<Item = (u16, u64)> {
        let counts = self.sum(route, |sum: &mut [u64; COUNTERS], counts| {
            for (sum, count) in sum.iter_mut().zip(&counts.by_status) {
                *sum += count.load(Relaxed);
            }
        });
        STATUSES.into_iter().chain([0]).zip(counts).filter(|(_, count)| *count > 0)
    }

    /// How often a route was answered with `status`. O(t) for t threads.
    pub(in crate::http) fn answered(&self, route: Route, status: u16) -> u64 {
        self.answers(route).find(|(found, _)| *found == status).map_or(0, |(_, count)| count)
    }

    /// How many requests were answered. O(t) for t threads.
    pub(in crate::http) fn requests(&self) -> u64 {
        Route::ALL.iter().flat_map(|route| self.answers(*route)).map(|(_, count)| count).sum()
    }

    /// How many requests were answered with `status`. O(t) for t threads.
    pub(in crate::http) fn with_status(&self, status: u16) -> u64 {
        Route::ALL.iter().map(|route| self.answered(*route, status)).sum()
    }

    /// How long a route took. O(t) for t threads.
    pub(in crate::http) fn latencies(&self, route: Route) -> Snapshot {
        self.sum(route, |sum: &mut Snapshot, counts| sum.add(&counts.latencies))
    }

    /// How long all requests took, except those that may wait for a key. O(t) for t threads.
    pub(in crate::http) fn all_latencies(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        let prompt = Route::ALL.iter().filter(|route| !route.may_wait());
        prompt.for_each(|route| sum.merge(&self.latencies(*route)));
        sum
    }
}
