//! What is counted of requests: how many, how they were answered, and how long that took.
//!
//! Each thread of the hot path has a [`Tally`] of its own, so that no two of them write the same memory;
//! all else shares one. Whoever looks adds them up.

pub(super) mod histogram;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use parking_lot::Mutex;
use tracing::debug;

use self::histogram::{Histogram, Snapshot};
pub(super) use self::text::show;
use super::route::Route;
use super::status::Status;
use crate::key::KeyId;

/// The statuses that are told apart; the last place is for all others.
const STATUSES: [u16; 19] =
    [200, 201, 308, 400, 401, 403, 404, 405, 408, 409, 412, 413, 414, 422, 429, 431, 500, 503, 504];
const PLACES: usize = STATUSES.len() + 1;

/// Counts of requests, by route.
pub(super) struct Tally(Box<[Counts]>);

#[derive(Default)]
struct Counts {
    by_status: [AtomicU64; PLACES],
    latencies: Histogram,
}

impl Default for Tally {
    fn default() -> Self {
        Self(Route::ALL.iter().map(|_| Counts::default()).collect())
    }
}

impl Tally {
    /// Counts `requests` that were answered alike, each after `elapsed`. O(1).
    pub(super) fn add(&self, route: Route, status: u16, requests: u64, elapsed: Duration) {
        let counts = &self.0[route as usize];
        let place = STATUSES.iter().position(|known| *known == status);
        counts.by_status[place.unwrap_or(STATUSES.len())].fetch_add(requests, Relaxed);
        counts.latencies.add(requests, elapsed);
    }
}

/// All tallies of a server.
#[derive(Default)]
pub(super) struct Metrics {
    shared: Tally,
    /// One for each thread of the hot path.
    threads: Mutex<Vec<Arc<Tally>>>,
}

impl Metrics {
    /// The tally of one more thread. O(1).
    pub(super) fn of_thread(&self) -> Arc<Tally> {
        let tally = Arc::<Tally>::default();
        self.threads.lock().push(Arc::clone(&tally));
        tally
    }

    /// That of all who have none of their own.
    pub(super) fn shared(&self) -> &Tally {
        &self.shared
    }

    fn sum<T: Default>(&self, route: Route, mut add: impl FnMut(&mut T, &Counts)) -> T {
        let mut sum = T::default();
        let threads = self.threads.lock();
        for tally in threads.iter().map(|tally| &**tally).chain([&self.shared]) {
            add(&mut sum, &tally.0[route as usize]);
        }
        sum
    }

    /// How often a route was answered so, for each status that was ever answered; 0 stands for those that
    /// are not told apart. O(t) for t threads.
    pub(super) fn answers(&self, route: Route) -> impl Iterator<Item = (u16, u64)> {
        let counts = self.sum(route, |sum: &mut [u64; PLACES], counts| {
            for (sum, count) in sum.iter_mut().zip(&counts.by_status) {
                *sum += count.load(Relaxed);
            }
        });
        STATUSES.into_iter().chain([0]).zip(counts).filter(|(_, count)| *count > 0)
    }

    /// How often a route was answered with `status`. O(t) for t threads.
    pub(super) fn answered(&self, route: Route, status: u16) -> u64 {
        self.answers(route).find(|(other, _)| *other == status).map_or(0, |(_, count)| count)
    }

    /// How many requests were answered. O(t) for t threads.
    pub(super) fn requests(&self) -> u64 {
        Route::ALL.iter().flat_map(|route| self.answers(*route)).map(|(_, count)| count).sum()
    }

    /// How many requests were answered with `status`. O(t) for t threads.
    pub(super) fn with_status(&self, status: u16) -> u64 {
        Route::ALL.iter().map(|route| self.answered(*route, status)).sum()
    }

    /// How long a route took. O(t) for t threads.
    pub(super) fn latencies(&self, route: Route) -> Snapshot {
        self.sum(route, |sum: &mut Snapshot, counts| sum.add(&counts.latencies))
    }

    /// How long all took that did not mean to wait. O(t) for t threads.
    pub(super) fn all_latencies(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        let prompt = Route::ALL.iter().filter(|route| **route != Route::LeaseOrWait);
        prompt.for_each(|route| sum.merge(&self.latencies(*route)));
        sum
    }
}

/// Counts and logs what comes by the router.
pub(super) async fn observe(
    State(status): State<Arc<Status>>,
    request: Request,
    next: Next,
) -> Response {
    let (begin, route) = (Instant::now(), Route::of(request.method(), request.uri()));
    let id = tracing::enabled!(tracing::Level::DEBUG).then(|| key_of(request.uri().path()));
    let response = next.run(request).await;
    let (elapsed, answer) = (begin.elapsed(), response.status().as_u16());
    status.metrics.shared().add(route, answer, 1, elapsed);
    log(route, id.flatten().as_ref(), answer, Some(elapsed));
    response
}

/// The key that a path names.
fn key_of(path: &str) -> Option<KeyId> {
    path.split('/').find_map(|part| part.parse().ok())
}

/// Logs a request, with the beginning of the key's id: the whole is a secret.
pub(super) fn log(route: Route, id: Option<&KeyId>, status: u16, elapsed: Option<Duration>) {
    debug!(
        method = route.method(),
        route = route.template(),
        key = id.map(tracing::field::debug),
        status,
        us = elapsed.and_then(|elapsed| u64::try_from(elapsed.as_micros()).ok()),
        "answered"
    );
}
