//! The handlers for the pool as a whole: creating keys and leasing one.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::batches::{self, list};
use super::error::Problem;
use super::peer::Peer;
use super::query::{LeaseQuery, Wanted};
use super::schema::{Created, Empty, Leased};
use super::wire::{self, Fields};
use super::{Api, answer, body};
use crate::error::Error;
use crate::key::KeyId;
use crate::store::Store;

/// The most keys that one request may create, lease, release or keep alive.
pub const COUNT_MAX: usize = 100_000;
/// What a created key takes, as such and as text, in bytes.
const CREATED_BYTES: usize = size_of::<KeyId>() + KeyId::TEXT_LEN + 3;
/// What the body of `POST /keys` must say.
pub(super) const EXPECTED: &str =
    "An object is expected, with no field but count, a number from 1 to 100000.";

/// What to create.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    /// How many keys; without it one, which is answered in another form.
    #[serde(default, deserialize_with = "whole")]
    #[schema(nullable = false, minimum = 1, maximum = 100_000, example = 3)]
    count: Option<u64>,
}

/// A whole number, as JSON sees it: also 3.0. A field may be left out, but then it is not `null`.
fn whole<'de, D: Deserializer<'de>>(field: D) -> Result<Option<u64>, D::Error> {
    let number = f64::deserialize(field)?;
    number.to_string().parse().map(Some).map_err(|_| D::Error::custom("no whole number"))
}

/// Creates keys
///
/// All of them, or none if there is no room. The body is optional.
#[utoipa::path(
    post, path = "/keys", operation_id = "createKeys", tag = "pool",
    request_body(content = Create, content_type = "application/json"),
    responses((
        status = 201, description = "Created", body = Created,
        headers(("Location" = String), ("Key-Expires-At" = String)),
        examples(
            ("one" = (value = json!({"keyId": "936da01f-9abd-4d9d-80c7-02af85c822a8"}))),
            ("several" = (value = json!({"keyIds": ["936da01f-9abd-4d9d-80c7-02af85c822a8"]}))),
        ),
    )),
)]
pub(super) async fn create<S: Store>(State(api): State<Api<S>>, body: Bytes) -> Response {
    // No body says nothing.
    let read = if body.is_empty() { Ok(Create::default()) } else { body::object(&body, EXPECTED) };
    let create = match read {
        Ok(create) => create,
        Err(problem) => return problem.response(),
    };
    let count = match create.count.map(usize::try_from) {
        None => 1,
        Some(Ok(count)) if (1..=COUNT_MAX).contains(&count) => count,
        Some(_) => return Problem::InvalidBody { expected: EXPECTED }.response(),
    };
    let room = match api.budget.answer(count * CREATED_BYTES).await {
        Ok(room) => room,
        Err(problem) => return problem.response(),
    };
    let created = match api.store.create(count).await {
        Ok(created) => created,
        Err(error) => return error.into_response(),
    };
    let fields = Fields::of_life(created.life_ends);
    if create.count.is_some() {
        return answer(
            &api,
            StatusCode::CREATED,
            &fields,
            room.fill(list("keyIds", &created.ids, wire::quoted).await),
        );
    }
    let mut body = Vec::new();
    wire::key_id(&mut body, &created.ids[0]);
    let mut response = answer(&api, StatusCode::CREATED, &fields, body);
    let location = format!("/keys/{}", created.ids[0]);
    let location = HeaderValue::try_from(location).expect("an id is ASCII");
    response.headers_mut().insert(LOCATION, location);
    response
}

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
pub(super) async fn lease<S: Store>(
    State(api): State<Api<S>>,
    Extension(peer): Extension<Peer>,
    wanted: Wanted,
) -> Response {
    if let Some(count) = wanted.count {
        return batches::lease(&api, &peer, &wanted, count).await;
    }
    let leasing = api.store.lease(wanted.leasing);
    // Who has only closed its half gets what is there at once.
    let leased = if wanted.leasing.wait_ms == 0 {
        Ok(leasing.await)
    } else {
        api.while_wanted(&peer, leasing).await
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

/// The answer to a request that got no key.
pub(super) async fn no_lease<S: Store>(api: &Api<S>, error: Error) -> Response {
    if error != Error::Exhausted {
        return error.into_response();
    }
    let fields = Fields::of_exhausted(&*api.store).await;
    answer(api, StatusCode::NOT_FOUND, &fields, "{}")
}
