//! The handler that leases keys: one, or several.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::client::Client;
use super::query::{LeaseQuery, Wanted};
use super::state::{Api, answer};
use crate::error::Error;
use crate::http::wire::{self, Empty, Fields, Leased, Room, list};
use crate::key::{KeyId, Lease};
use crate::store::{Leasing, Store};

/// What a leased key takes, as such and as text, in bytes.
const LEASED_BYTES: usize = size_of::<Lease>() + KeyId::TEXT_LEN + 40;
/// How many keys a request gets at most that had to wait for one.
const WAITED_MAX: usize = 100;

/// Leases a random free key
///
/// Each free key is equally likely. Nobody else gets it until the lease ends.
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
    wanted: Wanted,
) -> Response {
    if let Some(count) = wanted.count {
        return lease_many(&api, &client, &wanted, count).await;
    }
    let leasing = api.store.lease(wanted.leasing);
    // Who has only closed its half gets what is there at once.
    let leased = if wanted.leasing.wait_ms == 0 {
        Ok(leasing.await)
    } else {
        api.while_wanted(&client, leasing).await
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
        Err(error) => no_lease(&api, error).await,
    }
}

/// Leases up to `count` keys: those that are there.
async fn lease_many<S: Store>(
    api: &Api<S>,
    client: &Client,
    wanted: &Wanted,
    count: usize,
) -> Response {
    let mut room = match api.budget.answer(count * LEASED_BYTES).await {
        Ok(room) => room,
        Err(problem) => return problem.into_response(),
    };
    // Who has only closed its half gets what is there at once.
    let at_once = Leasing { wait_ms: 0, ..wanted.leasing };
    let mut result = api.store.lease_many(at_once, count).await;
    if matches!(result, Err(Error::Exhausted)) && wanted.leasing.wait_ms > 0 {
        // Who waits for a key shall not hold room that others could use.
        room = Room::default();
        let waiting = api.store.lease_many(wanted.leasing, count.min(WAITED_MAX));
        result = match api.while_wanted(client, waiting).await {
            Ok(result) => result,
            Err(problem) => return problem.into_response(),
        };
    }
    let leases = match result {
        Ok(leases) => leases,
        Err(error) => return no_lease(api, error).await,
    };
    let body = room.fill(list("keys", &leases, wire::lease).await);
    let first_end = leases.iter().map(|lease| lease.until).min();
    let fields = Fields { blocked_until: first_end, ..Fields::default() };
    answer(api, StatusCode::OK, &fields, body)
}

/// The answer to a request that got no key.
async fn no_lease<S: Store>(api: &Api<S>, error: Error) -> Response {
    if error != Error::Exhausted {
        return error.into_response();
    }
    let fields = Fields::of_exhausted(&*api.store).await;
    answer(api, StatusCode::NOT_FOUND, &fields, "{}")
}
