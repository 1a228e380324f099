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
use super::state::{Api, answer, unless_reset};
use crate::error::Error;
use crate::http::audit::Subject;
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
    let pool = api.store.pool(pool);
    let lease = pool.lease_once(Leasing { wait_ms, ..leasing }, request);
    // A client that has closed only its sending half gets a key that is free at once.
    let leased = if wait_ms == 0 {
        unless_reset(client, lease).await
    } else {
        let waited = api.while_connected(client, lease, |leased| vec![leased.lease]).await;
        waited.map_err(IntoResponse::into_response)?
    };
    leased.map_err(|error| refusal(error, asked_ms > wait_ms))
}

/// The answer to a lease that was refused; `has_no_turn` if it could not wait.
fn refusal(error: Error, has_no_turn: bool) -> Response {
    match error {
        Error::Exhausted { .. } if has_no_turn => Problem::TooManyWaitersOfClient.into_response(),
        error => error.into_response(),
    }
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

/// As many of these leases as may be in one answer with their values, and a permit for them. How long the values are is
/// known only now. The others go back.
///
/// # Errors
///
/// [`Problem::Busy`], and all leases go back.
async fn with_values<S: Store>(
    api: &Api<S>,
    mut leases: Vec<key::Leased>,
    permit: AnswerPermit,
) -> Result<(Vec<key::Leased>, AnswerPermit), Problem> {
    let (mut bytes, mut fitting) = (0, 0);
    for leased in &leases {
        bytes += leased.value.as_ref().map_or(0, wire::value_bytes_max);
        if bytes > VALUE_BYTES_MAX {
            break;
        }
        fitting += 1;
    }
    if bytes == 0 {
        return Ok((leases, permit));
    }
    let others = leases.split_off(fitting);
    api.store.give_back(others.iter().map(|leased| leased.lease).collect());
    // What it has goes back first: requests that have some and want more would wait for one another.
    drop(permit);
    let permit = api.budget.answer(leases.len() * LEASED_BYTES + bytes.min(VALUE_BYTES_MAX)).await;
    match permit {
        Ok(permit) => Ok((leases, permit)),
        Err(problem) => {
            api.store.give_back(leases.iter().map(|leased| leased.lease).collect());
            Err(problem)
        }
    }
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
    let pool = api.store.pool(pool);
    let at_once = pool.lease_many_once(at_once, count, request);
    let mut result = unless_reset(client, at_once).await;
    let waits = matches!(result, Err(Error::Exhausted { .. })) && leasing.wait_ms > 0;
    let turn = if waits { client.turns.take() } else { None };
    if turn.is_some() {
        // A request that waits for a key must not keep others from the budget.
        permit = AnswerPermit::default();
        let waiting = pool.lease_many_once(leasing, count.min(WAITED_MAX), request);
        let leases_of =
            |leases: &Vec<key::Leased>| leases.iter().map(|leased| leased.lease).collect();
        result = match api.while_connected(client, waiting, leases_of).await {
            Ok(result) => result,
            Err(problem) => return problem.into_response(),
        };
    }
    let leases = match result {
        Ok(leases) => leases,
        Err(error) => return refusal(error, waits && turn.is_none()),
    };
    let (leases, permit) = match with_values(api, leases, permit).await {
        Ok(leases) => leases,
        Err(problem) => return problem.into_response(),
    };
    let body = permit.into_body(list("keys", &leases, wire::lease).await);
    let first_end = leases.iter().map(|lease| lease.until).min();
    let fields = Fields { blocked_until: first_end, ..Fields::default() };
    let mut response = answer(api, StatusCode::OK, &fields, body);
    api.note(&mut response, Subject::Many(leases.len()));
    response
}
