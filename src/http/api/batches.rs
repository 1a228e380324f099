//! Many keys by one request. Each key is its own atomic step.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::task::spawn_blocking;

use super::state::Api;
use crate::http::wire::{Keys, Missing, json, object};
use crate::key::KeyId;
use crate::store::{Release, Store, give_way};

/// How many keys are handled before others get a chance to run: some 100 µs.
const BATCH: usize = 64;

/// Releases many keys
///
/// Each is its own atomic step. Those that are free stay free.
#[utoipa::path(
    put, path = "/keys", operation_id = "releaseKeys", tag = "many",
    request_body(content = Keys, content_type = "application/json"),
    responses((status = 200, description = "Done, but for those that were not there", body = Missing)),
)]
pub(in crate::http) async fn release<S: Store>(State(api): State<Api<S>>, body: Bytes) -> Response {
    each(&api, body, Act::Release).await
}

/// Keeps many keys alive
///
/// Each is its own atomic step.
#[utoipa::path(
    put, path = "/keepalive", operation_id = "keepKeysAlive", tag = "many",
    request_body(content = Keys, content_type = "application/json"),
    responses((status = 200, description = "Done, but for those that were not there", body = Missing)),
)]
pub(in crate::http) async fn keep_alive<S: Store>(
    State(api): State<Api<S>>,
    body: Bytes,
) -> Response {
    each(&api, body, Act::KeepAlive).await
}

/// What is done to each key.
#[derive(Clone, Copy)]
enum Act {
    Release,
    KeepAlive,
}

impl Act {
    async fn is_done(self, store: &impl Store, id: &KeyId) -> bool {
        match self {
            Self::Release => store.release(id, Release::default()).await.is_ok(),
            Self::KeepAlive => store.keep_alive(id).await.is_ok(),
        }
    }
}

/// Does something to each key that the body names; answers which of them were not there.
async fn each<S: Store>(api: &Api<S>, body: Bytes, act: Act) -> Response {
    // Of an id and its text, the list of those that are missing as it grows, and its copy.
    let room = match api.budget.answer(5 * body.len()).await {
        Ok(room) => room,
        Err(problem) => return problem.into_response(),
    };
    // A body of megabytes takes a while to read.
    let read = spawn_blocking(move || object(&body, EXPECTED)).await;
    let names = match read.expect("no panic") {
        Ok(Keys { key_ids }) => key_ids,
        Err(problem) => return problem.into_response(),
    };
    let mut missing = Vec::new();
    for batch in names.chunks(BATCH) {
        let ids: Vec<Option<KeyId>> = batch.iter().map(|name| name.parse().ok()).collect();
        api.store.prefetch(&ids.iter().flatten().copied().collect::<Vec<_>>());
        for (name, id) in batch.iter().zip(ids) {
            let is_there = match id {
                Some(id) => act.is_done(&*api.store, &id).await,
                None => false,
            };
            if !is_there {
                serde_json::to_writer(&mut missing, name).expect("memory takes all");
                missing.push(b',');
            }
        }
        give_way().await;
    }
    missing.pop(); // The last comma, if there is one.
    json(StatusCode::OK, room.fill([br#"{"missing":["#, &missing[..], b"]}"].concat()))
}

/// What a body must say.
pub(in crate::http) const EXPECTED: &str =
    "An object is expected, with no field but keyIds, a list of at most 100000 ids.";
