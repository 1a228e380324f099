//! Which handler a request goes to, and what comes before it.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, put};

use super::api::{Api, batches, keys, leases, pools, stats};
use super::ops::{self, Ops};
use super::wire::{self, Problem, methods, not_allowed, show};
use super::{auth, docs, meter};
use crate::store::Store;

/// What `/keys` knows.
const POOL_METHODS: &str = "GET, POST, PUT";

/// The whole API over `store`.
///
/// | method and path | does | cost |
/// |---|---|---|
/// | `POST /keys` | [`Store::create`] | O(log n) a key |
/// | `GET /keys` | [`Store::lease`] | O(log n), amortised |
/// | `PUT /keys` | [`Store::release`] | O(1) a key, amortised |
/// | `GET /keys/{id}` | [`Store::get`] | O(1) |
/// | `PUT /keys/{id}` | [`Store::release`] | O(1), amortised; O(log n) with a cool-down |
/// | `DELETE /keys/{id}` | [`Store::delete`] | O(log n) |
/// | `PUT /keys/{id}/lease` | [`Store::renew`] | O(1); O(log n) if it is cut shorter |
/// | `PUT /keepalive/{id}` | [`Store::keep_alive`] | O(1) |
/// | `PUT /keepalive` | [`Store::keep_alive`] | O(1) a key |
/// | `GET /stats` | [`Store::stats`] | O(s) for s shards |
pub(super) fn router<S: Store>(ops: Ops<S>, scope: Scope) -> Router {
    // Without its own entry, axum would answer HEAD by leasing a key.
    let whole = get(leases::lease::<S>)
        .post(pools::create::<S>)
        .put(batches::release::<S>)
        .head(async || not_allowed(POOL_METHODS));
    let key = get(keys::show::<S>).put(keys::release::<S>).delete(keys::delete::<S>);
    let key = methods(key, "GET, HEAD, PUT, DELETE");
    let lease = methods(put(keys::renew::<S>), "PUT");
    let life = methods(put(keys::keep_alive::<S>), "PUT");
    let lives = methods(put(batches::keep_alive::<S>), "PUT");
    let mut router = Router::new()
        .route("/keys", methods(whole, POOL_METHODS))
        .route("/keys/{id}", key.clone())
        .route("/keys/{id}/lease", lease)
        .route("/keepalive", lives)
        .route("/keepalive/{id}", life.clone())
        .route("/stats", show(get(stats::show::<S>)))
        // The empty id: malformed, like any other.
        .route("/keys/", key)
        .route("/keepalive/", life);
    if scope == Scope::All {
        router = router.merge(for_operators(ops.clone()));
    }
    router
        .fallback(async || Problem::NoSuchPath.response())
        // Bodies are read, within limits, before they come to a handler.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(ops.api.budget.clone(), wire::read))
        .layer(from_fn_with_state(ops.status.access.clone(), auth::guard))
        .layer(from_fn_with_state(Arc::clone(&ops.status.metrics), meter::observe))
        .with_state(ops.api)
}

/// What an address is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The API alone: operators have an address of their own.
    Api,
    All,
}

/// What operators ask for.
///
/// | method and path | shows | cost |
/// |---|---|---|
/// | `GET /metrics` | all that is counted | O(s) for s shards |
/// | `GET /healthz`, `GET /readyz` | whether the server is alive, and wants requests | O(1) |
/// | `GET /dashboard` | a page | O(1) |
/// | `GET /dashboard/events` | what the page lives on | O(1), and O(1) a second |
/// | `GET /openapi.json`, `GET /docs` | the description of the API | O(1) |
fn for_operators<S: Store>(ops: Ops<S>) -> Router<Api<S>> {
    let (limits, policy) = (ops.api.limits, ops::policy());
    Router::new()
        .route("/metrics", show(get(ops::metrics::<S>)))
        .route("/healthz", show(get(ops::health)))
        .route("/readyz", show(get(ops::ready::<S>)))
        .route("/dashboard", show(get(async || ops::page(policy))))
        .route("/dashboard/events", show(get(ops::events::<S>)))
        .with_state(ops)
        .merge(docs::routes(limits))
}
