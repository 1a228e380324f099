//! The handler of each route, and the checks before the handlers.

use std::sync::Arc;

use axum::Router;
use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{get, post, put};
use futures_util::FutureExt;
use futures_util::future::Either;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::api::{
    Api, audited, batches, check_parameters, creation, inventory, keys, leases, pools, stats,
    take_back, watched_pool,
};
use super::audit::{AuditLog, Entry};
use super::auth::{Access, authorization, guard};
use super::docs;
use super::meter::{Metrics, Observed};
use super::net::Handler;
use super::ops::{self, Ops};
use super::route::{Route, pool_of};
use super::wire::{
    self, BATCH_BYTES_MAX, BODY_BYTES_MAX, Budget, Problem, methods, moved, not_allowed, refuse,
    show,
};
use crate::pool::PoolName;
#[cfg(doc)]
use crate::store::Operation;
use crate::store::Store;

/// The methods that `/keys` allows.
const POOL_METHODS: &str = "GET, POST, PUT";

/// Checks requests, reads their bodies, and hands them to the router.
pub(super) struct Gate {
    access: Access,
    budget: Budget,
    metrics: Arc<Metrics>,
    audit: Option<AuditLog>,
    router: TowerToHyperService<Router>,
}

impl Gate {
    pub(super) fn new<S: Store>(ops: Ops<S>, audit: Option<AuditLog>, scope: Scope) -> Self {
        let (access, metrics) = (ops.status.access.clone(), Arc::clone(&ops.status.metrics));
        let budget = ops.api.budget.clone();
        let router = TowerToHyperService::new(router(ops, scope));
        Self { access, budget, metrics, audit, router }
    }

    /// Refuses a request that its token does not allow, and reads the body, within limits, before a handler
    /// sees the request.
    ///
    /// This is no axum middleware: each would add half a kilobyte or more to a request that waits.
    fn admit(
        self: &Arc<Self>,
        mut request: Request,
        route: Route,
        entry: Option<&mut Entry>,
    ) -> impl Future<Output = Response> + Send + use<> {
        let mut cached = None;
        // A name is never decoded: what is not one is no pool, neither for the token nor for the handler.
        let named = pool_of(request.uri().path());
        let malformed = named.filter(|name| !PoolName::is_valid(name));
        // The events of the dashboard name theirs in the query.
        let watched = (route == Route::Events).then(|| watched_pool(request.uri()).ok().flatten());
        let of_query = watched.as_ref().and_then(Option::as_deref);
        let pool = if malformed.is_some() { None } else { named.or(of_query).or(route.pool()) };
        let problem = wire::check_coding(request.headers())
            .and_then(|()| guard(&self.access, &request, route.need(), pool, &mut cached))
            .and_then(|()| match malformed {
                Some(_) if route == Route::PutPool => Err(Problem::MalformedPoolName),
                Some(_) => Err(Problem::NoSuchPool),
                None => check_parameters(request.uri(), route),
            })
            .err();
        if entry.is_some() || route.leases() {
            let token = self.access.token(authorization(request.headers()), cached.as_deref());
            let of_token = token.map(|token| (Arc::clone(&token.name), token.holder.clone()));
            if let Some((name, holder)) = of_token {
                request.extensions_mut().insert(holder);
                if let Some(entry) = entry {
                    entry.token = Some(name);
                }
            }
        }
        if problem.is_none() && request.body().is_end_stream() {
            return Either::Left(self.route(request));
        }
        let gate = Arc::clone(self);
        Either::Right(Box::pin(async move {
            if let Some(problem) = problem {
                return refuse(request, problem).await;
            }
            // The body of every request is read, also of those that need none.
            let max = if route.has_batch() { BATCH_BYTES_MAX } else { BODY_BYTES_MAX };
            match wire::read(&gate.budget, request, max).await {
                Ok(request) => gate.route(request).await,
                Err(refusal) => refusal,
            }
        }))
    }

    fn route(&self, request: Request) -> impl Future<Output = Response> + Send + use<> {
        self.router.call(request).map(|answer| answer.unwrap_or_else(|never| match never {}))
    }
}

impl Handler for Gate {
    fn handle(self: &Arc<Self>, request: Request) -> impl Future<Output = Response> + Send + use<> {
        let route = Route::of(request.method(), request.uri());
        let (observed, gate) = (Observed::new(&request, route), Arc::clone(self));
        let mut entry = self.audit.as_ref().map(|_| audited::begin(&request, route));
        self.admit(request, route, entry.as_deref_mut()).map(move |mut response| {
            observed.answered(&response, &gate.metrics);
            if let Some((audit, entry)) = gate.audit.as_ref().zip(entry) {
                audited::end(audit, entry, &mut response);
            }
            response
        })
    }
}

/// The routes of one pool.
///
/// Costs are amortised. They leave out the due entries that an operation handles first: see
/// [`Pool`](crate::engine::Pool).
///
/// | method and path | does | cost |
/// |---|---|---|
/// | `POST /keys` | [`Operation::Create`] | O(log n) a key |
/// | `GET /keys` | [`Operation::Lease`] | O(log n) a key |
/// | `POST /leases` | [`Operation::LeaseOnce`] | O(log n) a key |
/// | `DELETE /leases` | [`Store::take_back_from`] | O(s + l log n) for s shards and l leases |
/// | `PUT /keys` | [`Operation::Release`] | O(1) a key |
/// | `GET /keys/{id}` | [`Operation::Show`] | O(1) |
/// | `PUT /keys/{id}` | [`Operation::Release`] | O(1); O(log n) with a cool-down |
/// | `DELETE /keys/{id}` | [`Operation::Delete`] | O(log n) |
/// | `PUT /keys/{id}/lease` | [`Operation::Renew`] | O(1); O(log n) if the lease is cut short |
/// | `PUT /keepalive/{id}` | [`Operation::KeepAlive`] | O(1) |
/// | `PUT /keepalive` | [`Operation::KeepAlive`] | O(1) a key |
/// | `GET /stats` | [`Store::stats_of`] | O(s) for s shards |
fn of_pool<S: Store>() -> Router<Api<S>> {
    // Without an entry for HEAD, axum would answer it by leasing a key.
    let whole = get(leases::lease::<S>)
        .post(creation::create::<S>)
        .put(batches::release::<S>)
        .head(async || not_allowed(POOL_METHODS));
    let key = get(keys::show::<S>).put(keys::release::<S>).delete(keys::delete::<S>);
    let key = methods(key, "GET, HEAD, PUT, DELETE");
    let lease = methods(put(keys::renew::<S>), "PUT");
    let leases = post(leases::lease_once::<S>).delete(take_back::take_back::<S>);
    let life = methods(put(keys::keep_alive::<S>), "PUT");
    let lives = methods(put(batches::keep_alive::<S>), "PUT");
    Router::new()
        .route("/keys", methods(whole, POOL_METHODS))
        .route("/keys/{id}", key.clone())
        .route("/keys/{id}/lease", lease)
        .route("/leases", methods(leases, "POST, DELETE"))
        .route("/keepalive", lives)
        .route("/keepalive/{id}", life.clone())
        .route("/stats", show(get(stats::show::<S>)))
        // An empty id is answered like a malformed one.
        .route("/keys/", key)
        .route("/keepalive/", life)
}

/// The routes of `scope`.
///
/// | method and path | does | cost |
/// |---|---|---|
/// | `GET /pools` | [`Store::list_pools`] | O(limit + log p) for p pools |
/// | `PUT /pools/{pool}` | [`Store::put_pool`] | O(p) for p pools |
/// | `GET /pools/{pool}` | [`Store::settings_of`], [`Store::stats_of`] | O(s) for s shards |
/// | `DELETE /pools/{pool}` | [`Store::delete_pool`] | O(log p) for p pools |
/// | `GET /pools/{pool}/inventory` | [`Store::inventory`] | O(limit) |
/// | `/pools/{pool}/…` | as the same path without `/pools/{pool}` | |
fn router<S: Store>(ops: Ops<S>, scope: Scope) -> Router {
    let pool = get(pools::show::<S>).put(pools::put::<S>).delete(pools::delete::<S>);
    let mut router = of_pool::<S>()
        .nest("/pools/{pool}", of_pool::<S>())
        .route("/pools/{pool}", methods(pool, "GET, HEAD, PUT, DELETE"))
        .route("/pools/{pool}/inventory", show(get(inventory::list::<S>)))
        .route("/pools", show(get(pools::list::<S>)));
    if scope == Scope::All {
        router = router.merge(for_operators(ops.clone()));
    }
    router.fallback(async || Problem::NoSuchPath.response()).with_state(ops.api)
}

/// The routes that an address serves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The API alone, where operators have an address of their own.
    Api,
    /// The API and the routes for operators.
    All,
}

/// The routes for operators.
///
/// | method and path | shows | cost |
/// |---|---|---|
/// | `GET /metrics` | all metrics | O(s) for s shards |
/// | `GET /healthz` | whether the server is alive | O(1) |
/// | `GET /readyz` | whether the server is ready for requests, and its store answers | O(s) for s shards |
/// | `GET /` | the way to the dashboard | O(1) |
/// | `GET /dashboard` | the dashboard | O(1) |
/// | `GET /dashboard/events` | the samples of the dashboard | O(1), and O(1) a second; of another pool O(s) |
/// | `GET /openapi.json`, `GET /docs` | the description of the API | O(1) |
fn for_operators<S: Store>(ops: Ops<S>) -> Router<Api<S>> {
    let (settings, policy) = (ops.api.store.default_settings(), ops::policy());
    Router::new()
        .route("/metrics", show(get(ops::metrics::<S>)))
        .route("/healthz", show(get(ops::health)))
        .route("/readyz", show(get(ops::ready::<S>)))
        .route("/", show(get(async || moved("dashboard"))))
        .route("/dashboard", show(get(async || ops::page(policy))))
        .route("/dashboard/events", show(get(ops::events::<S>)))
        .with_state(ops)
        .merge(docs::routes(settings))
}
