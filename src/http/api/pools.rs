//! The handler that creates keys.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::state::{Api, answer};
use crate::http::wire::{self, COUNT_MAX, Created, Fields, Problem, list};
use crate::key::KeyId;
use crate::store::Store;

/// What a created key takes, as such and as text, in bytes.
const CREATED_BYTES: usize = size_of::<KeyId>() + KeyId::TEXT_LEN + 3;
/// What the body of `POST /keys` must say.
pub(in crate::http) const EXPECTED: &str =
    "An object is expected, with no field but count, a number from 1 to 100000.";

/// What to create.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Create {
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
pub(in crate::http) async fn create<S: Store>(State(api): State<Api<S>>, body: Bytes) -> Response {
    // No body says nothing.
    let read = if body.is_empty() { Ok(Create::default()) } else { wire::object(&body, EXPECTED) };
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
