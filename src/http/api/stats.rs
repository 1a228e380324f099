//! `GET /stats`: what the pool holds, and what has happened in it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::state::Api;
use crate::http::wire::json;
use crate::store::{self, Store};

/// Counts at about one moment.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct Stats {
    /// Keys that live: free, blocked and cooling ones.
    #[schema(example = 3)]
    keys: u64,
    /// Keys for whoever asks next.
    #[schema(example = 1)]
    free: u64,
    /// Leased keys.
    #[schema(example = 2)]
    blocked: u64,
    /// Keys that rest.
    #[schema(example = 0)]
    cooling: u64,
    /// Requests that wait for a key.
    #[schema(example = 0)]
    waiting: u64,
    /// Entries of the index that ends lives: one for each key.
    #[schema(example = 3)]
    life_entries: u64,
    /// Entries of the index that ends leases and cool-downs: one at most for each key.
    #[schema(example = 2)]
    hold_entries: u64,
    /// Places in the free vectors of keys that are gone, or were rested while they were free: about
    /// twice the free keys at most.
    #[schema(example = 0)]
    stale_hints: u64,
    totals: Totals,
}

/// Counts since the start.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Totals {
    /// Keys that were created.
    #[schema(example = 3)]
    created: u64,
    /// Leases that were given.
    #[schema(example = 6)]
    leased: u64,
    /// Leases that ended by a release.
    #[schema(example = 3)]
    released: u64,
    /// Leases that ended by themselves.
    #[schema(example = 1)]
    lease_timeouts: u64,
    /// Leases whose keys died or were deleted.
    #[schema(example = 0)]
    leases_lost: u64,
    /// Keys that died.
    #[schema(example = 0)]
    expired: u64,
    /// Keys that were deleted.
    #[schema(example = 0)]
    deleted: u64,
    /// Requests that were refused by their `If-Match`.
    #[schema(example = 1)]
    stale_refusals: u64,
}

/// Counts
///
/// All at about one moment. A lease that ran out counts as blocked until the sweep has come by, which
/// takes milliseconds.
#[utoipa::path(
    get, path = "/stats", operation_id = "showStats", tag = "pool",
    responses((status = 200, description = "The counts", body = Stats)),
)]
pub(in crate::http) async fn show<S: Store>(State(api): State<Api<S>>) -> Response {
    let (stats, vitals) = (api.store.stats().await, api.store.vitals().await);
    let stats = Stats::of(&stats, vitals.waiting);
    json(StatusCode::OK, serde_json::to_vec(&stats).expect("numbers"))
}

impl Stats {
    pub(in crate::http) fn of(stats: &store::Stats, waiting: u64) -> Self {
        let totals = &stats.totals;
        Self {
            keys: stats.keys,
            free: stats.free,
            blocked: stats.leased,
            cooling: stats.cooling,
            waiting,
            life_entries: stats.life_entries,
            hold_entries: stats.hold_entries,
            stale_hints: stats.stale_hints,
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
