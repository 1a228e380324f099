//! The handlers for pools: to create, change, show, list and delete them.

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::of_pool::{OfPool, name_of_pool};
use super::query::{read, shown};
use super::settings::{Given, Shown};
use super::state::Api;
use super::stats::Stats;
use crate::error::Error;
use crate::http::wire::{self, Empty, Problem, WholeBody, json};
use crate::pool::{PoolId, PoolName};
use crate::store::{Store, Wanted, committed, together};

/// How many pools or keys a page has, unless the request says otherwise, and how many it may have.
pub(super) const LIMIT: usize = 100;
const LIMIT_MAX: usize = Wanted::LIMIT_MAX;
/// The size of a listed pool and its text, in bytes.
const LISTED_BYTES: usize = 1500;

/// A pool.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Pool {
    #[schema(example = "openai")]
    pool: String,
    settings: Shown,
}

/// A pool with its counts.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct CountedPool {
    #[schema(example = "openai")]
    pool: String,
    settings: Shown,
    stats: Stats,
}

/// Pools in the order of their names.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PoolList {
    pools: Vec<CountedPool>,
    /// The parameter `cursor` of the next page; `null` if this is the last one.
    #[schema(required, example = json!(null))]
    cursor: Option<String>,
}

/// The query of `GET /pools`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ListQuery {
    /// The cursor of the page before
    #[param(nullable = false, pattern = "^[a-z0-9][a-z0-9._-]{0,62}$")]
    cursor: Option<String>,
    /// How many pools the page has at most
    #[param(nullable = false, value_type = u64, minimum = 1, maximum = 1000, required = false, example = 100)]
    limit: Option<String>,
}

/// The query of `DELETE /pools/{pool}`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct DeleteQuery {
    /// `delete`, to delete a pool with the keys that it has
    #[param(nullable = false, pattern = "^delete$", example = "delete")]
    keys: Option<String>,
}

/// The path of a pool.
#[derive(IntoParams)]
#[expect(dead_code, reason = "it describes what handlers take")]
#[into_params(parameter_in = Path)]
pub(in crate::http) struct PoolPath {
    /// The name of the pool
    #[param(format = "pool-name", pattern = "^[a-z0-9][a-z0-9._-]{0,62}$", example = "openai")]
    pool: String,
}

/// Creates or changes a pool
///
/// What the request leaves out is as the server has it by default, also if it was otherwise before. Leases, cool-downs and
/// lives that have begun stay as they are. The body is optional.
#[utoipa::path(
    put, path = "/pools/{pool}", operation_id = "putPool", tag = "pools",
    params(PoolPath), request_body(content = Given, content_type = "application/json"),
    responses(
        (status = 200, description = "Changed", body = Pool),
        (status = 201, description = "Created", body = Pool),
    ),
)]
pub(in crate::http) async fn put<S: Store>(
    State(api): State<Api<S>>,
    Name(name): Name,
    WholeBody(body): WholeBody,
) -> Result<Response, Problem> {
    let name: PoolName = name.parse().map_err(|_| Problem::MalformedPoolName)?;
    let given =
        if body.is_empty() { Given::default() } else { wire::object(&body, Given::EXPECTED)? };
    let settings = given.settings(&api.store.default_settings())?;
    let is_new = match api.store.put_pool(name.clone(), settings).await {
        Ok(is_new) => is_new,
        Err(error) => return Ok(error.into_response()),
    };
    let pool = Pool { pool: name.to_string(), settings: settings.into() };
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(status, serde_json::to_vec(&pool).expect("strings and numbers")))
}

/// Shows a pool
#[utoipa::path(
    get, path = "/pools/{pool}", operation_id = "showPool", tag = "pools",
    params(PoolPath),
    responses((status = 200, description = "Its settings and counts", body = CountedPool)),
)]
pub(in crate::http) async fn show<S: Store>(
    State(api): State<Api<S>>,
    OfPool(id): OfPool,
    Name(name): Name,
) -> Result<Response, Error> {
    let pool = counted(&api, id, name).await?;
    Ok(json(StatusCode::OK, serde_json::to_vec(&pool).expect("strings and numbers")))
}

/// Lists the pools
///
/// In the order of their names, a page at a time.
#[utoipa::path(
    get, path = "/pools", operation_id = "listPools", tag = "pools",
    params(ListQuery),
    responses((status = 200, description = "The pools", body = PoolList)),
)]
pub(in crate::http) async fn list<S: Store>(
    State(api): State<Api<S>>,
    Page { cursor, limit }: Page,
) -> Response {
    let permit = match api.budget.answer(limit * LISTED_BYTES).await {
        Ok(permit) => permit,
        Err(problem) => return problem.into_response(),
    };
    match page(&api, cursor.as_deref(), limit).await {
        Ok(page) => {
            let body = serde_json::to_vec(&page).expect("strings and numbers");
            json(StatusCode::OK, permit.into_body(body))
        }
        Err(error) => error.into_response(),
    }
}

/// Up to `limit` pools behind `cursor`.
async fn page<S: Store>(
    api: &Api<S>,
    cursor: Option<&str>,
    limit: usize,
) -> Result<PoolList, Error> {
    // One more tells whether there is another page.
    let mut found = api.store.list_pools(cursor, limit + 1).await?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| has_more).map(|last| last.name.to_string());
    let mut pools = Vec::new();
    for counted in
        together(found.iter().map(|pool| counted(api, pool.id, pool.name.to_string()))).await
    {
        match counted {
            Ok(pool) => pools.push(pool),
            // It was deleted meanwhile.
            Err(Error::NoSuchPool) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(PoolList { pools, cursor: last })
}

/// Deletes a pool
///
/// Requests that wait for one of its keys get 404.
#[utoipa::path(
    delete, path = "/pools/{pool}", operation_id = "deletePool", tag = "pools",
    params(PoolPath, DeleteQuery),
    responses((status = 200, description = "Deleted", body = Empty)),
)]
pub(in crate::http) async fn delete<S: Store>(
    State(api): State<Api<S>>,
    Name(name): Name,
    WithKeys(with_keys): WithKeys,
) -> Result<Response, Error> {
    api.store.delete_pool(&name, with_keys).await?;
    Ok(json(StatusCode::OK, "{}"))
}

/// A pool with its settings and counts.
async fn counted<S: Store>(api: &Api<S>, id: PoolId, name: String) -> Result<CountedPool, Error> {
    let Some(settings) = api.store.settings_of(id) else {
        // It was just deleted.
        committed(&*api.store).await;
        return Err(Error::NoSuchPool);
    };
    let stats = api.store.stats_of(id).await?;
    let stats = Stats::of(&stats, api.index_sizes(id).as_ref());
    Ok(CountedPool { pool: name, settings: settings.into(), stats })
}

/// The name in the path.
pub(in crate::http) struct Name(String);

impl<S: Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        name_of_pool(parts).map(Self).ok_or(Problem::MalformedPoolName)
    }
}

/// `cursor` and `limit`.
pub(in crate::http) struct Page {
    cursor: Option<String>,
    limit: usize,
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let ListQuery { cursor, limit } = read(parts).await?;
        let limit = limit.as_deref().map_or(Ok(LIMIT), self::limit)?;
        if let Some(cursor) = cursor.as_deref().filter(|cursor| !PoolName::is_valid(cursor)) {
            let detail = format!("cursor must be that of the page before, not {}.", shown(cursor));
            return Err(Problem::InvalidParameter { detail });
        }
        Ok(Self { cursor, limit })
    }
}

/// Reads how many items a page has at most.
///
/// # Errors
///
/// [`Problem::InvalidParameter`]
pub(super) fn limit(text: &str) -> Result<usize, Problem> {
    match text.parse() {
        Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
        _ => {
            let value = shown(text);
            let detail =
                format!("limit must be a number from 1 to {LIMIT_MAX}, such as 100, not {value}.");
            Err(Problem::InvalidParameter { detail })
        }
    }
}

/// `keys=delete`
pub(in crate::http) struct WithKeys(bool);

impl<S: Sync> FromRequestParts<S> for WithKeys {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let DeleteQuery { keys } = read(parts).await?;
        match keys.as_deref() {
            None => Ok(Self(false)),
            Some("delete") => Ok(Self(true)),
            Some(other) => {
                let detail = format!(
                    "keys must be delete, to delete a pool with its keys, not {}.",
                    shown(other)
                );
                Err(Problem::InvalidParameter { detail })
            }
        }
    }
}
