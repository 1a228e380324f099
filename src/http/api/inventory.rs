//! The list of the keys of a pool.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::of_pool::OfPool;
use super::pools::{LIMIT, PoolPath, limit};
use super::query::{read, read_label, shown};
use super::state::Api;
use crate::http::audit::Subject;
use crate::http::wire::{Problem, json, time_text};
use crate::key::{KeyId, KeyInfo, Label};
use crate::store::{Inventory, StateKind, Store, Wanted};

/// The size of a listed key and its text, in bytes.
const LISTED_BYTES: usize = size_of::<(KeyId, KeyInfo)>() + 2 * size_of::<ListedKey>() + 600;

/// The query of `GET /pools/{pool}/inventory`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct InventoryQuery {
    /// Only keys in this state: `free`, `blocked` or `cooling`
    #[param(nullable = false, pattern = "^(free|blocked|cooling)$", example = "blocked")]
    state: Option<String>,
    /// Only keys with this label: its name, a colon, and its value
    #[param(
        nullable = false,
        format = "label",
        pattern = "^[^:]{1,63}:.{1,63}$",
        example = "plan:pro"
    )]
    label: Option<String>,
    /// The cursor of the page before
    #[param(nullable = false, example = "AAWA")]
    cursor: Option<String>,
    /// How many keys the page has at most
    #[param(nullable = false, value_type = u64, minimum = 1, maximum = 1000, required = false, example = 100)]
    limit: Option<String>,
}

/// A key in a list.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ListedKey {
    #[schema(format = "uuid", example = "936da01f-9abd-4d9d-80c7-02af85c822a8")]
    key_id: String,
    /// `free`, `blocked` or `cooling`
    #[schema(example = "blocked")]
    state: &'static str,
    /// Who has leased the key; `null` if that was not said, or while it is not leased.
    #[schema(required, example = "worker-7")]
    holder: Option<String>,
    /// Since when the key is blocked or cooling; `null` while it is free.
    #[schema(required, format = DateTime, example = "2026-11-22T18:19:31.246Z")]
    blocked_at: Option<String>,
    /// When the lease or the cool-down ends; `null` while the key is free.
    #[schema(required, format = DateTime, example = "2026-11-22T18:20:31.246Z")]
    lease_expires_at: Option<String>,
    #[schema(format = DateTime, example = "2026-11-22T18:19:02.610Z")]
    created_at: String,
    /// When the key expires unless it is kept alive; `null` if it does not.
    #[schema(required, format = DateTime, example = "2026-11-22T18:24:02.610Z")]
    key_expires_at: Option<String>,
    /// The labels of the key.
    labels: BTreeMap<String, String>,
    /// How often the key was leased. A cool-down of a key that was free counts as well.
    #[schema(example = 1)]
    leases: u64,
}

/// Keys, in no order that means anything.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct KeyList {
    keys: Vec<ListedKey>,
    /// The parameter `cursor` of the next page; `null` if this is the last one.
    #[schema(required, example = json!(null))]
    cursor: Option<String>,
}

/// Lists the keys of a pool
///
/// A page at a time, in no order that means anything. A key that exists all the while is listed exactly once. A page may
/// have fewer keys than its limit, or none; the list ends where `cursor` is `null`. Values are never shown.
#[utoipa::path(
    get, path = "/pools/{pool}/inventory", operation_id = "listKeys", tag = "pools",
    params(PoolPath, InventoryQuery),
    responses((status = 200, description = "The keys", body = KeyList)),
)]
pub(in crate::http) async fn list<S: Store>(
    State(api): State<Api<S>>,
    OfPool(pool): OfPool,
    Page { state, label, cursor, limit }: Page,
) -> Response {
    let mut permit = match api.budget.answer(limit * LISTED_BYTES).await {
        Ok(permit) => permit,
        Err(problem) => return problem.into_response(),
    };
    let wanted = Wanted { cursor: cursor.as_deref(), limit, state, label: label.as_ref() };
    let Inventory { keys, cursor } = match api.store.inventory(pool, wanted).await {
        Ok(inventory) => inventory,
        Err(error) => return error.into_response(),
    };
    let count = keys.len();
    let labels: usize = keys.iter().flat_map(|(_, info)| info.labels()).map(label_bytes).sum();
    if labels > 0 {
        // How long they are is known only now.
        let bytes = limit * LISTED_BYTES + labels;
        permit = match api.budget.answer_instead(permit, bytes).await {
            Ok(permit) => permit,
            Err(problem) => return problem.into_response(),
        };
    }
    let keys = keys.iter().map(|(id, info)| listed(&*api.store, id, info)).collect();
    let list = KeyList { keys, cursor };
    let body = permit.into_body(serde_json::to_vec(&list).expect("strings and numbers"));
    let mut response = json(StatusCode::OK, body);
    api.note(&mut response, Subject::Many(count));
    response
}

fn listed(store: &impl Store, id: &KeyId, info: &KeyInfo) -> ListedKey {
    let text = |at| time_text(store, at);
    let blocked = info.state.blocked();
    ListedKey {
        key_id: id.to_string(),
        state: match StateKind::from(&info.state) {
            StateKind::Free => "free",
            StateKind::Leased => "blocked",
            StateKind::Cooling => "cooling",
        },
        holder: info.holder().map(|holder| holder.name().to_owned()),
        blocked_at: blocked.map(|(since, _)| text(since)),
        lease_expires_at: blocked.map(|(_, until)| text(until)),
        created_at: text(info.created_at),
        key_expires_at: info.life_ends.unless_never().map(text),
        labels: info.labels().iter().map(split).collect(),
        // A lease and its end raise the generation by one each.
        leases: info.generation.div_ceil(2),
    }
}

/// How many bytes a label takes at most: its text in JSON, where each character may be escaped, and two strings.
fn label_bytes(label: &Label) -> usize {
    7 * (label.name().len() + label.value().len()) + 2 * size_of::<String>()
}

fn split(label: &Label) -> (String, String) {
    (label.name().to_owned(), label.value().to_owned())
}

/// `state`, `label`, `cursor` and `limit`.
pub(in crate::http) struct Page {
    state: Option<StateKind>,
    label: Option<Label>,
    cursor: Option<String>,
    limit: usize,
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query: InventoryQuery = read(parts).await?;
        let state = match query.state.as_deref() {
            None => None,
            Some("free") => Some(StateKind::Free),
            Some("blocked") => Some(StateKind::Leased),
            Some("cooling") => Some(StateKind::Cooling),
            Some(other) => {
                let value = shown(other);
                let detail = format!("state must be free, blocked or cooling, not {value}.");
                return Err(Problem::InvalidParameter { detail });
            }
        };
        let limit = query.limit.as_deref().map_or(Ok(LIMIT), limit)?;
        let label = query.label.as_deref().map(read_label).transpose()?;
        Ok(Self { state, label, cursor: query.cursor, limit })
    }
}
