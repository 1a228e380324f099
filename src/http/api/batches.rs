//! Requests for many keys. Each key is handled atomically, the request as a whole is not.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::task::spawn_blocking;

use super::of_pool::OfPool;
use super::state::Api;
use crate::error::Error;
use crate::http::audit::Subject;
use crate::http::wire::{Keys, Missing, WholeBody, json, object};
use crate::key::KeyId;
use crate::pool::PoolId;
use crate::store::{Operation, Release, Store, StoreExt, committed, give_way};

/// How many keys are handled before other tasks may run: some 100 µs.
const BATCH: usize = 64;

/// Releases many keys
///
/// Each key is released atomically, the request as a whole is not. A key that is free stays free.
#[utoipa::path(
    put, path = "/keys", operation_id = "releaseKeys", tag = "many",
    request_body(content = Keys, content_type = "application/json"),
    responses((status = 200, description = "Done, except for the keys in `missing`, which do not exist", body = Missing)),
)]
pub(in crate::http) async fn release<S: Store>(
    State(api): State<Api<S>>,
    OfPool(pool): OfPool,
    WholeBody(body): WholeBody,
) -> Response {
    each(&api, pool, body, |id| Operation::Release(id, Release::default())).await
}

/// Keeps many keys alive
///
/// Each key is kept alive atomically, the request as a whole is not.
#[utoipa::path(
    put, path = "/keepalive", operation_id = "keepKeysAlive", tag = "many",
    request_body(content = Keys, content_type = "application/json"),
    responses((status = 200, description = "Done, except for the keys in `missing`, which do not exist", body = Missing)),
)]
pub(in crate::http) async fn keep_alive<S: Store>(
    State(api): State<Api<S>>,
    OfPool(pool): OfPool,
    WholeBody(body): WholeBody,
) -> Response {
    each(&api, pool, body, Operation::KeepAlive).await
}

/// Carries out an operation on each key in the body. Answers which of them do not exist.
async fn each<S: Store>(
    api: &Api<S>,
    pool: PoolId,
    body: Bytes,
    operation: impl Fn(KeyId) -> Operation<'static>,
) -> Response {
    // Space for the ids and their text, for the growing list of missing ones, and for its copy.
    let permit = match api.budget.answer(5 * body.len()).await {
        Ok(permit) => permit,
        Err(problem) => return problem.into_response(),
    };
    // Reading a body of megabytes would block the other tasks of this thread.
    let read = spawn_blocking(move || object(&body, EXPECTED)).await;
    let names = match read.expect("no panic") {
        Ok(Keys { key_ids }) => key_ids,
        Err(problem) => return problem.into_response(),
    };
    let mut missing = Vec::new();
    for batch in names.chunks(BATCH) {
        let ids: Vec<Option<KeyId>> = batch.iter().map(|name| name.parse().ok()).collect();
        let operations: Vec<_> = ids.iter().flatten().map(|id| operation(*id)).collect();
        let mut outcomes = api.store.pool(pool).call_all_early(&operations).await.into_iter();
        for (name, id) in batch.iter().zip(ids) {
            let outcome = id.map_or(Err(Error::NotFound), |_| {
                outcomes.next().expect("an outcome for each operation").map(drop)
            });
            match outcome {
                Ok(()) => {}
                Err(Error::NotFound) => {
                    serde_json::to_writer(&mut missing, name)
                        .expect("writing to memory does not fail");
                    missing.push(b',');
                }
                // The client may retry all of them: a repeated operation changes nothing.
                Err(error) => {
                    committed(&*api.store).await;
                    let mut response = error.into_response();
                    api.note(&mut response, Subject::Many(names.len()));
                    return response;
                }
            }
        }
        give_way().await;
    }
    // Once for all of them.
    committed(&*api.store).await;
    missing.pop(); // The last comma, if there is one.
    let body = permit.into_body([br#"{"missing":["#, &missing[..], b"]}"].concat());
    let mut response = json(StatusCode::OK, body);
    api.note(&mut response, Subject::Many(names.len()));
    response
}

/// The right form of a body.
pub(in crate::http) const EXPECTED: &str = "Send an object with the field keyIds, a list of at most 100000 key ids, such as \
     {\"keyIds\":[\"936da01f-9abd-4d9d-80c7-02af85c822a8\"]}. No other field is allowed.";
