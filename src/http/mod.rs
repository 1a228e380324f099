//! The HTTP API: the only place that knows axum.
//!
//! ```text
//!   accept ─┬─ hot ─┬─ parse, answer: the commonest requests, many connections at a time
//!   (serve) │       └─ any other ───────────────────┐
//!           ├─ with TLS: handshake (secure) ────────┼─ hyper (peer) ── router ── handlers
//!           └─ from the address for operators ──────┘
//! ```
//!
//! Both the hot path and the router ask [`Access`] who may do what, and count what they answered
//! (`metrics`). What operators look at is in `status`, `live` and `alarms`.

mod accept;
mod access;
mod alarms;
mod batches;
mod body;
mod budget;
mod error;
mod fence;
mod hot;
mod keys;
mod live;
mod metrics;
mod openapi;
mod pattern;
mod peer;
mod pool;
mod query;
mod route;
mod schema;
mod secure;
mod serve;
mod stats;
mod status;
mod tls;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{MethodRouter, get, put};

use tokio::sync::watch;

pub use self::access::{Access, Role, TokenHash, check_name, new_token};
pub use self::body::BODY_BYTES_MAX;
use self::budget::Budget;
use self::error::Problem;
use self::peer::Peer;
pub use self::pool::COUNT_MAX;
pub use self::query::Limits;
pub use self::serve::{Listeners, ServeOptions, serve};
use self::status::Status;
pub use self::tls::Tls;
use self::wire::Fields;
use crate::error::Error;
use crate::store::Store;

/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How a connection of HTTP/2 begins (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What `/keys` knows.
const POOL_METHODS: &str = "GET, POST, PUT";

/// What handlers work with.
struct Api<S> {
    store: Arc<S>,
    limits: Limits,
    /// Changes when the server stops; for operators, when all requests are finished.
    stopped: watch::Receiver<()>,
    budget: Budget,
    status: Arc<Status>,
}

impl<S> Clone for Api<S> {
    fn clone(&self) -> Self {
        let (store, status) = (Arc::clone(&self.store), Arc::clone(&self.status));
        let (stopped, budget) = (self.stopped.clone(), self.budget.clone());
        Self { store, limits: self.limits, stopped, budget, status }
    }
}

impl<S> Api<S> {
    /// What `lease` ends with, unless the server stops before, or the client hangs up: nobody waits
    /// for a key then.
    async fn while_wanted<T>(
        &self,
        peer: &Peer,
        lease: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, Problem> {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            biased;
            result = lease => Ok(result),
            _ = stopped.changed() => Err(Problem::Stopping),
            () = peer.gone() => Ok(Err(Error::Exhausted)),
        }
    }
}

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
fn router<S: Store>(api: Api<S>, scope: Scope) -> Router {
    // Without its own entry, axum would answer HEAD by leasing a key.
    let whole = get(pool::lease::<S>)
        .post(pool::create::<S>)
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
        router = router.merge(for_operators(api.limits));
    }
    router
        .fallback(async || Problem::NoSuchPath.response())
        // Bodies are read, within limits, before they come to a handler.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(api.budget.clone(), body::read))
        .layer(from_fn_with_state(api.status.access.clone(), access::guard))
        .layer(from_fn_with_state(Arc::clone(&api.status), metrics::observe))
        .with_state(api)
}

/// What an address is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
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
fn for_operators<S: Store>(limits: Limits) -> Router<Api<S>> {
    let policy = live::policy();
    Router::new()
        .route("/metrics", show(get(metrics::show::<S>)))
        .route("/healthz", show(get(status::health)))
        .route("/readyz", show(get(status::ready::<S>)))
        .route("/dashboard", show(get(async || live::page(policy))))
        .route("/dashboard/events", show(get(live::events::<S>)))
        .merge(openapi::routes(limits))
}

/// What can only be looked at.
fn show<T: Clone + Send + Sync + 'static>(router: MethodRouter<T>) -> MethodRouter<T> {
    methods(router, "GET, HEAD")
}

/// Answers other methods than those that `router` knows.
fn methods<T: Clone + Send + Sync + 'static>(
    router: MethodRouter<T>,
    allowed: &'static str,
) -> MethodRouter<T> {
    router.fallback(async move || not_allowed(allowed))
}

fn not_allowed(allowed: &'static str) -> Response {
    Problem::MethodNotAllowed { allowed }.response()
}

/// An answer with a JSON body. No answer may be cached: each of them is true for a moment only.
fn json(status: StatusCode, body: impl Into<axum::body::Body>) -> Response {
    respond(status, "application/json", body.into())
}

/// An answer that tells of a key.
fn answer<S: Store>(
    api: &Api<S>,
    status: StatusCode,
    fields: &Fields,
    body: impl Into<axum::body::Body>,
) -> Response {
    let mut response = json(status, body);
    fields.each(&*api.store, |name, value| {
        let value = HeaderValue::from_bytes(value).expect("digits and punctuation");
        response.headers_mut().insert(HeaderName::from_static(name), value);
    });
    response
}

fn respond(status: StatusCode, content_type: &'static str, body: axum::body::Body) -> Response {
    use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
