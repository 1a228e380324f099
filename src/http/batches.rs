//! Many keys by one request. Each key is its own atomic step.

use std::fmt;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::budget::Room;
use super::peer::Peer;
use super::pool::{COUNT_MAX, no_lease};
use super::query::Wanted;
use super::schema::Missing;
use super::wire::{self, Fields};
use super::{Api, answer, body, json};
use crate::error::Error;
use crate::key::{KeyId, Lease};
use crate::store::{Leasing, Release, Store, give_way};

/// How many items are written at a time: some 30 µs.
const LIST_BATCH: usize = 1024;
/// What a leased key takes, as such and as text, in bytes.
const LEASED_BYTES: usize = size_of::<Lease>() + KeyId::TEXT_LEN + 40;
/// How many keys a request gets at most that had to wait for one.
const WAITED_MAX: usize = 100;
/// How many keys are handled before others get a chance to run: some 100 µs.
const BATCH: usize = 64;

/// Many keys.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Keys {
    #[schema(max_items = 100_000, example = json!(["936da01f-9abd-4d9d-80c7-02af85c822a8"]))]
    #[serde(deserialize_with = "few")]
    key_ids: Vec<String>,
}

/// Reads a list, and stops where it is too long: what would be refused shall take no memory.
fn few<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<String>, D::Error> {
    struct Few;
    impl<'de> Visitor<'de> for Few {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {COUNT_MAX} ids")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                if list.len() == COUNT_MAX {
                    return Err(A::Error::custom("too many"));
                }
                list.push(item);
            }
            Ok(list)
        }
    }
    list.deserialize_seq(Few)
}

/// Leases up to `count` keys: those that are there.
pub(super) async fn lease<S: Store>(
    api: &Api<S>,
    peer: &Peer,
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
        result = match api.while_wanted(peer, waiting).await {
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

/// Releases many keys
///
/// Each is its own atomic step. Those that are free stay free.
#[utoipa::path(
    put, path = "/keys", operation_id = "releaseKeys", tag = "many",
    request_body(content = Keys, content_type = "application/json"),
    responses((status = 200, description = "Done, but for those that were not there", body = Missing)),
)]
pub(super) async fn release<S: Store>(State(api): State<Api<S>>, body: Bytes) -> Response {
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
pub(super) async fn keep_alive<S: Store>(State(api): State<Api<S>>, body: Bytes) -> Response {
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
    let read = spawn_blocking(move || body::object(&body, EXPECTED)).await;
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
pub(super) const EXPECTED: &str =
    "An object is expected, with no field but keyIds, a list of at most 100000 ids.";

/// Writes an object with one list, of one item at least, without holding up others.
pub(super) async fn list<T>(name: &str, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) -> Vec<u8> {
    let mut body = format!(r#"{{"{name}":["#).into_bytes();
    body.reserve(items.len() * (KeyId::TEXT_LEN + 3) + 2);
    for batch in items.chunks(LIST_BATCH) {
        for item in batch {
            write(&mut body, item);
            body.push(b',');
        }
        give_way().await;
    }
    body.pop(); // The last comma.
    body.extend_from_slice(b"]}");
    body
}
