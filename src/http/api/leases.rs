//! The handlers that lease one key or several.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::client::Client;
use super::of_pool::OfPool;
use super::query::{LeaseQuery, LeaseRequest};
use super::request_key::IdempotencyKey;
use super::state::{Api, Given, answer, unless_reset};
use crate::error::Error;
use crate::http::audit::Subject;
use crate::http::meter::NoKey;
use crate::http::wire::{
    self, AnswerPermit, Empty, Fields, IdempotencyKeyHeader, Leased, Problem, WholeBody, list,
};
use crate::key::{self, KeyId, Lease};
use crate::pool::PoolId;
use crate::store::{Leasing, RequestKey, Store, StoreExt};

/// The size of a leased key and its text, in bytes.
const LEASED_BYTES: usize = size_of::<Lease>() + KeyId::TEXT_LEN + 40;
/// The most bytes of values in one answer, each counted as if it were escaped. A request for more gets fewer keys.
const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most keys for a request that had to wait.
const WAITED_MAX: usize = 100;

/// Leases a random free key
///
/// Each free key is equally likely. No other request gets the key until its lease ends.
#[utoipa::path(
    get, path = "/keys", operation_id = "leaseKey", tag = "pool",
    params(LeaseQuery),
    responses(
        (
            status = 200, description = "Leased", body = Leased,
            headers(("ETag" = String), ("Lease-Expires-At" = String)),
            examples(
                ("one" = (value = json!({"keyId": "936da01f-9abd-4d9d-80c7-02af85c822a8"}))),
                ("several" = (value = json!({"keys": [
                    {"keyId": "936da01f-9abd-4d9d-80c7-02af85c822a8", "etag": "\"1\""},
                ]}))),
            ),
        ),
        (status = 404, description = "No key is free", body = Empty, headers(("Retry-After" = String))),
    ),
)]
pub(in crate::http) async fn lease<S: Store>(
    State(api): State<Api<S>>,
    OfPool(pool): OfPool,
    Extension(client): Extension<Client>,
    request: LeaseRequest,
) -> Response {
    let (count, leasing) = (request.count, request.held());
    if let Some(count) = count {
        // Boxed, so that requests that wait for one key need no memory for many.
        return Box::pin(lease_many(&api, pool, &client, leasing, count, None)).await;
    }
    match lease_one(&api, pool, &client, leasing, None).await {
        Ok(lease) => answer_of(&api, StatusCode::OK, &Fields::of_lease(&lease), &lease),
        Err(refusal) => refusal,
    }
}

/// The right form of the body of `POST /leases`.
pub(in crate::http) const EXPECTED: &str = "Send no body, or {}. The parameters lease, wait and count belong to the query, such as \
     /leases?lease=5s.";

/// An object without fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

/// Leases a random free key, once
///
/// As `GET /keys`, for clients behind anything that may repeat a request whose answer was lost. A POST is not repeated
/// by itself, and with an `Idempotency-Key` a retry gets the same lease as long as that lasts.
#[utoipa::path(
    post, path = "/leases", operation_id = "leaseKeyOnce", tag = "pool",
    params(LeaseQuery, IdempotencyKeyHeader),
    responses(
        (
            status = 201, description = "Leased", body = Leased,
            headers(
                ("ETag" = String), ("Lease-Expires-At" = String), ("Location" = String),
            ),
            examples(
                ("one" = (value = json!({"keyId": "936da01f-9abd-4d9d-80c7-02af85c822a8"}))),
                ("several" = (value = json!({"keys": [
                    {"keyId": "936da01f-9abd-4d9d-80c7-02af85c822a8", "etag": "\"1\""},
                ]}))),
            ),
        ),
        (status = 404, description = "No key is free", body = Empty, headers(("Retry-After" = String))),
    ),
)]
pub(in crate::http) async fn lease_once<S: Store>(
    State(api): State<Api<S>>,
    OfPool(pool): OfPool,
    Extension(client): Extension<Client>,
    key: IdempotencyKey,
    asked: LeaseRequest,
    WholeBody(body): WholeBody,
) -> Response {
    if !body.is_empty()
        && let Err(problem) = wire::object::<NoFields>(&body, EXPECTED)
    {
        return problem.response();
    }
    let count = asked.count;
    let request = match key.request_key(pool, &asked.leasing, count.unwrap_or(0)) {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let leasing = asked.held();
    if let Some(count) = count {
        let leased = Box::pin(lease_many(&api, pool, &client, leasing, count, request));
        let mut response = leased.await;
        if response.status() == StatusCode::OK {
            *response.status_mut() = StatusCode::CREATED;
        }
        return response;
    }
    match lease_one(&api, pool, &client, leasing, request).await {
        Ok(lease) => answer_of(&api, StatusCode::CREATED, &Fields::of_lease_once(&lease), &lease),
        Err(refusal) => refusal,
    }
}

/// Leases one key.
///
/// # Errors
///
/// The answer that refuses it.
async fn lease_one<S: Store>(
    api: &Api<S>,
    pool: PoolId,
    client: &Client,
    leasing: Leasing,
    request: Option<RequestKey>,
) -> Result<key::Leased, Response> {
    let turn = if leasing.wait_ms > 0 { client.turns.take() } else { None };
    let asked_ms = leasing.wait_ms;
    let wait_ms = if turn.is_some() { asked_ms } else { 0 };
    let in_pool = api.store.pool(pool);
    let leasing = Leasing { wait_ms, ..leasing };
    // A client that has closed only its sending half gets a key that is free at once.
    let mut leased = unless_reset(client, in_pool.lease_once(leasing.at_once(), request)).await;
    if wait_ms > 0 && matches!(leased, Err(Error::Exhausted { .. })) {
        let lease = in_pool.lease_once_early(leasing, request);
        let waited = api.while_connected(client, lease, |leased| vec![leased.lease]).await;
        leased = waited.map_err(IntoResponse::into_response)?;
    }
    leased.map_err(|error| refusal(pool, error, asked_ms > wait_ms))
}

/// The answer to a lease that was refused; `has_no_turn` if it could not wait.
fn refusal(pool: PoolId, error: Error, has_no_turn: bool) -> Response {
    let Error::Exhausted { .. } = error else { return error.into_response() };
    if has_no_turn {
        return Problem::TooManyWaitersOfClient.into_response();
    }
    let mut response = error.into_response();
    response.extensions_mut().insert(NoKey(pool));
    response
}

/// The answer that gives one lease.
fn answer_of<S: Store>(
    api: &Api<S>,
    status: StatusCode,
    fields: &Fields,
    lease: &key::Leased,
) -> Response {
    let mut body = Vec::new();
    wire::leased(&mut body, lease);
    let mut response = answer(api, status, fields, body);
    api.note(&mut response, Subject::One(lease.id));
    response
}

/// Gives back the last leases if there are more values than may be in one answer. Returns how many bytes those of the
/// others have at most; how long they are is known only now.
fn fit<S: Store>(given: &mut Given<'_, S>, leases: &mut Vec<key::Leased>) -> usize {
    let mut bytes = 0;
    for (n, leased) in leases.iter().enumerate() {
        let of_one = leased.value.as_ref().map_or(0, wire::value_bytes_max);
        if bytes + of_one > VALUE_BYTES_MAX {
            given.store.give_back(given.leases.split_off(n));
            leases.truncate(n);
            break;
        }
        bytes += of_one;
    }
    bytes
}

/// Leases up to `count` keys, fewer if fewer are free.
async fn lease_many<S: Store>(
    api: &Api<S>,
    pool: PoolId,
    client: &Client,
    leasing: Leasing,
    count: usize,
    request: Option<RequestKey>,
) -> Response {
    let mut permit = match api.budget.answer(count * LEASED_BYTES).await {
        Ok(permit) => permit,
        Err(problem) => return problem.into_response(),
    };
    // A client that has closed only its sending half gets the keys that are free at once.
    let at_once = leasing.at_once();
    let in_pool = api.store.pool(pool);
    let at_once = in_pool.lease_many_early(at_once, count, request);
    let mut result = unless_reset(client, at_once).await;
    let leases_of = |leases: &Vec<key::Leased>| leases.iter().map(|leased| leased.lease).collect();
    let waits = matches!(result, Err(Error::Exhausted { .. })) && leasing.wait_ms > 0;
    let turn = if waits { client.turns.take() } else { None };
    if turn.is_some() {
        // A request that waits for a key must not keep others from the budget.
        permit = AnswerPermit::default();
        let waiting = in_pool.lease_many_early(leasing, count.min(WAITED_MAX), request);
        result = match api.while_connected(client, waiting, leases_of).await {
            Ok(result) => result,
            Err(problem) => return problem.into_response(),
        };
    } else {
        result = api.once_committed(client, result, leases_of).await;
    }
    let mut leases = match result {
        Ok(leases) => leases,
        Err(error) => return refusal(pool, error, waits && turn.is_none()),
    };
    // They go back if the client goes before the answer is written.
    let of_all = leases.iter().map(|leased| leased.lease).collect();
    let mut given = Given { store: &*api.store, leases: of_all };
    let of_values = fit(&mut given, &mut leases);
    if of_values > 0 {
        let bytes = leases.len() * LEASED_BYTES + of_values;
        permit = match api.budget.answer_instead(permit, bytes).await {
            Ok(permit) => permit,
            Err(problem) => return problem.into_response(),
        };
    }
    let body = permit.into_body(list("keys", &leases, wire::lease).await);
    let first_end = leases.iter().map(|lease| lease.until).min();
    let fields = Fields { blocked_until: first_end, ..Fields::default() };
    let mut response = answer(api, StatusCode::OK, &fields, body);
    api.note(&mut response, Subject::Many(leases.len()));
    given.leases.clear();
    response
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::pin::pin;
    use std::sync::Arc;

    use futures_util::FutureExt;
    use tokio::net::TcpStream;
    use tokio::sync::{Semaphore, watch};
    use tokio::task::yield_now;

    use super::*;
    use crate::http::api::Place;
    use crate::http::wire::Budget;
    use crate::pool::PoolId;
    use crate::store::{Memory, Options, OwnKey};
    use crate::time::ManualClock;

    /// It goes while its answer waits for memory.
    #[tokio::test]
    async fn a_client_that_goes_before_its_values_are_written_takes_no_key_along() {
        let store = Arc::new(Memory::new(Options::default(), ManualClock::default()));
        let keys: Vec<_> = (0..50).map(OwnKey::longest).collect();
        store.import(PoolId::DEFAULT, &keys).await.unwrap();
        let (budget, stopped) = (Budget::default(), watch::channel(()).1);
        let (diagnose, is_audited) = (None, false);
        let api = Api { store, stopped, budget, diagnose, is_audited };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let place =
            Place::new(Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(), None, None);
        let client = Client::new(Arc::new(socket), false, place.turns());
        let memory = api.budget.answer(usize::MAX).await.ok().unwrap();
        let leased = async || api.store.stats_of(PoolId::DEFAULT).await.unwrap().leased;
        {
            let mut lease =
                pin!(lease_many(&api, PoolId::DEFAULT, &client, Leasing::default(), 50, None));
            while leased().await < 50 {
                assert!(lease.as_mut().now_or_never().is_none(), "it waits for memory");
                yield_now().await;
            }
        }
        // One turn of the sweep takes them back.
        assert!(pin!((*api.store).clone().sweep()).now_or_never().is_none());
        assert_eq!(leased().await, 0);
        drop(memory);
        let lease = lease_many(&api, PoolId::DEFAULT, &client, Leasing::default(), 50, None);
        assert_eq!(lease.await.status(), StatusCode::OK);
        assert_eq!(leased().await, 50);
    }
}
