//! The handler that creates keys, or imports those that are given.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::import::{self, NewKey};
use super::of_pool::OfPool;
use super::room::{CREATED_BYTES, refusal};
use super::state::{Api, answer};
use crate::http::audit::Subject;
use crate::http::wire::{
    self, COUNT_MAX, Created, Fields, Problem, SMALL_BODY_BYTES, WholeBody, list,
};
use crate::store::{Store, StoreExt};

/// The right form of the body of `POST /keys`.
pub(in crate::http) const EXPECTED: &str = "Send an object with the field count, a number from 1 to 100000, such as {\"count\":3}; or with the \
     field keys, a list of up to 100000 keys to import, such as \
     {\"keys\":[{\"value\":\"sk-1\",\"labels\":{\"plan\":\"pro\"}}]}; or no body for one key. No other field is \
     allowed.";

/// How many keys to create, or which ones to import.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Create {
    /// How many keys to create. Without it, one key is created, and the answer has another form.
    #[serde(default, deserialize_with = "whole")]
    #[schema(nullable = false, minimum = 1, maximum = 100_000, example = 3)]
    count: Option<u64>,
    /// Keys to import, instead of `count`.
    #[serde(default, deserialize_with = "import::few")]
    #[schema(nullable = false, min_items = 1, max_items = 100_000)]
    keys: Option<Vec<NewKey>>,
}

/// A whole number in JSON, which may be written as 3.0. The field may be left out, but not be `null`.
pub(super) fn whole<'de, D: Deserializer<'de>>(field: D) -> Result<Option<u64>, D::Error> {
    let number = f64::deserialize(field)?;
    number.to_string().parse().map(Some).map_err(|_| D::Error::custom("not a whole number"))
}

/// How many bytes are needed for each byte of a body, once it is read, at most: a label of two letters takes eight bytes
/// there. The answer needs fewer.
const READ_FACTOR: usize = 16;

/// Reads a body. One of megabytes would block the other tasks of this thread.
async fn read(body: Bytes) -> Result<Create, Problem> {
    if body.len() <= SMALL_BODY_BYTES {
        return wire::object(&body, EXPECTED);
    }
    spawn_blocking(move || wire::object(&body, EXPECTED)).await.expect("no panic")
}

/// Creates or imports keys
///
/// Creates all keys, or none if the pool has no room for all. The body is optional. A value that the pool has already
/// keeps its key, and is not added once more: so an import can be repeated.
#[utoipa::path(
    post, path = "/keys", operation_id = "createKeys", tag = "pool",
    request_body(content = Create, content_type = "application/json", examples(
        ("create" = (value = json!({"count": 3}))),
        ("import" = (value = json!({"keys": [{"value": "sk-1", "labels": {"plan": "pro"}}]}))),
    )),
    responses((
        status = 201, description = "Created", body = Created,
        headers(("Location" = String), ("Key-Expires-At" = String), ("Keys-Created" = u64)),
        examples(
            ("one" = (value = json!({"keyId": "936da01f-9abd-4d9d-80c7-02af85c822a8"}))),
            ("several" = (value = json!({"keyIds": ["936da01f-9abd-4d9d-80c7-02af85c822a8"]}))),
        ),
    )),
)]
pub(in crate::http) async fn create<S: Store>(
    State(api): State<Api<S>>,
    OfPool(pool): OfPool,
    WholeBody(body): WholeBody,
) -> Response {
    let read_permit = match api.budget.answer(READ_FACTOR * body.len()).await {
        Ok(permit) => permit,
        Err(problem) => return problem.response(),
    };
    // The body is optional.
    let read = if body.is_empty() { Ok(Create::default()) } else { read(body).await };
    let create = match read {
        Ok(create) => create,
        Err(problem) => return problem.response(),
    };
    if let Some(keys) = create.keys {
        if create.count.is_some() || keys.is_empty() {
            return Problem::InvalidBody { expected: EXPECTED }.response();
        }
        return Box::pin(import::import(&api, pool, keys, read_permit)).await;
    }
    let count = match create.count.map(usize::try_from) {
        None => 1,
        Some(Ok(count)) if (1..=COUNT_MAX).contains(&count) => count,
        Some(_) => return Problem::InvalidBody { expected: EXPECTED }.response(),
    };
    let permit = match api.budget.answer_instead(read_permit, count * CREATED_BYTES).await {
        Ok(permit) => permit,
        Err(problem) => return problem.response(),
    };
    let created = match api.store.pool(pool).create(count).await {
        Ok(created) => created,
        Err(error) => return refusal(&api, pool, count, error).await,
    };
    if create.count.is_some() {
        let body = permit.into_body(list("keyIds", &created.ids, wire::quoted).await);
        let fields = Fields::of_life(created.life_ends);
        let mut response = answer(&api, StatusCode::CREATED, &fields, body);
        api.note(&mut response, Subject::Many(created.ids.len()));
        return response;
    }
    let (id, mut body) = (created.ids[0], Vec::new());
    wire::key_id(&mut body, &id);
    let fields = Fields::of_creation(pool, id, created.life_ends);
    let mut response = answer(&api, StatusCode::CREATED, &fields, body);
    api.note(&mut response, Subject::One(id));
    response
}
