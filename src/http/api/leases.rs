//! The handler that leases one key or several.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::client::Client;
use super::query::{LeaseQuery, LeaseRequest};
use super::state::{Api, answer, unless_reset};
use crate::error::Error;
use crate::http::wire::{self, AnswerPermit, Empty, Fields, Leased, list};
use crate::key::{KeyId, Lease};
use crate::store::{Leasing, Store, StoreExt};

/// The size of a leased key and its text, in bytes.
const LEASED_BYTES: usize = size_of::<Lease>() + KeyId::TEXT_LEN + 40;
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
    Extension(client): Extension<Client>,
    request: LeaseRequest,
) -> Response {
    if let Some(count) = request.count {
        // Boxed, so that requests that wait for one key need no memory for many.
        return Box::pin(lease_many(&api, &client, &request, count)).await;
    }
    let leasing = api.store.lease(request.leasing);
    // A client that has closed only its sending half gets a key that is free at once.
    let leased = if request.leasing.wait_ms == 0 {
        Ok(unless_reset(&client, leasing).await)
    } else {
        api.while_connected(&client, leasing).await
    };
    let leased = match leased {
        Ok(leased) => leased,
        Err(problem) => return problem.into_response(),
    };
    match leased {
        Ok(lease) => {
            let mut body = Vec::new();
            wire::key_id(&mut body, &lease.id);
            answer(&api, StatusCode::OK, &Fields::of_lease(&lease), body)
        }
        Err(error) => error.into_response(),
    }
}

/// Leases up to `count` keys, fewer if fewer are free.
async fn lease_many<S: Store>(
    api: &Api<S>,
    client: &Client,
    request: &LeaseRequest,
    count: usize,
) -> Response {
    let mut permit = match api.budget.answer(count * LEASED_BYTES).await {
        Ok(permit) => permit,
        Err(problem) => return problem.into_response(),
    };
    // A client that has closed only its sending half gets the keys that are free at once.
    let at_once = Leasing { wait_ms: 0, ..request.leasing };
    let mut result = unless_reset(client, api.store.lease_many(at_once, count)).await;
    if matches!(result, Err(Error::Exhausted { .. })) && request.leasing.wait_ms > 0 {
        // A request that waits for a key must not keep others from the budget.
        permit = AnswerPermit::default();
        let waiting = api.store.lease_many(request.leasing, count.min(WAITED_MAX));
        result = match api.while_connected(client, waiting).await {
            Ok(result) => result,
            Err(problem) => return problem.into_response(),
        };
    }
    let leases = match result {
        Ok(leases) => leases,
        Err(error) => return error.into_response(),
    };
    let body = permit.into_body(list("keys", &leases, wire::lease).await);
    let first_end = leases.iter().map(|lease| lease.until).min();
    let fields = Fields { blocked_until: first_end, ..Fields::default() };
    answer(api, StatusCode::OK, &fields, body)
}
