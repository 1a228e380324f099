//! Counting and logging each answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tracing::debug;

use super::tally::Metrics;
use crate::http::route::Route;
use crate::key::KeyId;

/// Counts and logs what comes by the router.
pub(in crate::http) async fn observe(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let (begin, route) = (Instant::now(), Route::of(request.method(), request.uri()));
    let id = tracing::enabled!(tracing::Level::DEBUG).then(|| key_of(request.uri().path()));
    let response = next.run(request).await;
    let (elapsed, answer) = (begin.elapsed(), response.status().as_u16());
    metrics.shared().add(route, answer, 1, elapsed);
    log(route, id.flatten().as_ref(), answer, Some(elapsed));
    response
}

/// The key that a path names.
fn key_of(path: &str) -> Option<KeyId> {
    path.split('/').find_map(|part| part.parse().ok())
}

/// Logs a request, with the beginning of the key's id: the whole is a secret.
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
