//! `GET /stats`: how many keys the pool contains, and what has happened to them.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::of_pool::OfPool;
use super::state::Api;
use crate::http::wire::json;
use crate::store::{self, IndexSizes, Store};

/// The counts of the pool.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct Stats {
    /// All keys: free, blocked and cooling ones.
    #[schema(example = 3)]
    keys: u64,
    /// Keys that can be leased.
    #[schema(example = 1)]
    free: u64,
    /// Leased keys.
    #[schema(example = 2)]
    blocked: u64,
    /// Keys that cool down.
    #[schema(example = 0)]
    cooling: u64,
    /// Requests that wait for a key.
    #[schema(example = 0)]
    waiting: u64,
    /// Entries of the index of lives: one for each key.
    #[schema(example = 3, nullable = false, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    life_entries: Option<u64>,
    /// Entries of the index of blocks (leases and cool-downs): at most one for each key.
    #[schema(example = 2, nullable = false, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    block_entries: Option<u64>,
    /// Stale hints in the free vectors, of keys that are gone or cooled down while they were free: at most
    /// about twice the number of free keys, and 32 more for each shard.
    #[schema(example = 0, nullable = false, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_hints: Option<u64>,
    totals: Totals,
}

/// Counts since the start of the server.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Totals {
    /// Keys that were created.
    #[schema(example = 3)]
    created: u64,
    /// Leases that began.
    #[schema(example = 6)]
    leased: u64,
    /// Leases that ended by a release.
    #[schema(example = 3)]
    released: u64,
    /// Leases that timed out.
    #[schema(example = 1)]
    lease_timeouts: u64,
    /// Leases that ended because their keys expired or were deleted.
    #[schema(example = 0)]
    leases_lost: u64,
    /// Keys that expired because they were not kept alive.
    #[schema(example = 0)]
    expired: u64,
    /// Keys that were deleted.
    #[schema(example = 0)]
    deleted: u64,
    /// Requests that were refused because of `If-Match`.
    #[schema(example = 1)]
    stale_refusals: u64,
}

/// Shows the counts of the pool
///
/// A lease that has timed out counts as blocked until the sweep has handled it, which takes milliseconds.
#[utoipa::path(
    get, path = "/stats", operation_id = "showStats", tag = "pool",
    responses((status = 200, description = "The counts", body = Stats)),
)]
pub(in crate::http) async fn show<S: Store>(
    State(api): State<Api<S>>,
    OfPool(pool): OfPool,
) -> Response {
    match api.store.stats_of(pool).await {
        Ok(stats) => {
            let stats = Stats::of(&stats, api.index_sizes(pool).as_ref());
            json(StatusCode::OK, serde_json::to_vec(&stats).expect("numbers"))
        }
        Err(error) => error.into_response(),
    }
}

impl Stats {
    pub(in crate::http) fn of(stats: &store::Stats, sizes: Option<&IndexSizes>) -> Self {
        let totals = &stats.totals;
        Self {
            keys: stats.keys,
            free: stats.free,
            blocked: stats.leased,
            cooling: stats.cooling,
            waiting: stats.waiting,
            life_entries: sizes.map(|sizes| sizes.life_entries),
            block_entries: sizes.map(|sizes| sizes.block_entries),
            stale_hints: sizes.map(|sizes| sizes.stale_hints),
            totals: Totals {
                created: totals.created,
                leased: totals.leases,
                released: totals.releases,
                lease_timeouts: totals.lease_timeouts,
                leases_lost: totals.leases_lost,
                expired: totals.expired,
                deleted: totals.deleted,
                stale_refusals: totals.stale_refusals,
            },
        }
    }
}
