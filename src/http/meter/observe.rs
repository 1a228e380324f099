//! Counting and logging each answer.

use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::Response;
use tracing::debug;

use super::no_key::NoKey;
use super::tally::Metrics;
use crate::http::route::{Route, key_of};
use crate::key::KeyId;

/// A request of the router that is not answered yet.
pub(in crate::http) struct Observed {
    begin: Instant,
    route: Route,
    /// If it is logged.
    id: Option<KeyId>,
}

impl Observed {
    pub(in crate::http) fn new(request: &Request, route: Route) -> Self {
        let begin = Instant::now();
        let id = tracing::enabled!(tracing::Level::DEBUG).then(|| key_of(request.uri().path()));
        Self { begin, route, id: id.flatten() }
    }

    /// Counts and logs the answer.
    pub(in crate::http) fn answered(self, response: &Response, metrics: &Metrics) {
        let (elapsed, status) = (self.begin.elapsed(), response.status().as_u16());
        metrics.shared().add(self.route, status, 1, elapsed);
        if let Some(NoKey(pool)) = response.extensions().get() {
            metrics.shared().add_without_key(*pool, 1);
        }
        log(self.route, self.id.as_ref(), status, Some(elapsed));
    }
}

/// Logs a request, with the beginning of the key's id. The whole id is a secret.
pub(in crate::http) fn log(
    route: Route,
    id: Option<&KeyId>,
    status: u16,
    elapsed: Option<Duration>,
) {
    debug!(
        method = route.method(),
        route = route.template(),
        key = id.map(tracing::field::debug),
        status,
        us = elapsed.and_then(|elapsed| u64::try_from(elapsed.as_micros()).ok()),
        "answered"
    );
}
