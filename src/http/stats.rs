//! `GET /stats`: what the pool holds, and what has happened in it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::{Api, json};
use crate::store::Store;

/// Counts at about one moment.
#[derive(Serialize)]
struct Stats {
    keys: u64,
    free: u64,
    /// Leased.
    blocked: u64,
    cooling: u64,
    waiting: usize,
    totals: Totals,
}

/// Counts since the start.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Totals {
    created: u64,
    leased: u64,
    released: u64,
    lease_timeouts: u64,
    leases_lost: u64,
    expired: u64,
    deleted: u64,
    stale_refusals: u64,
}

pub(super) async fn show<S: Store>(State(api): State<Api<S>>) -> Response {
    let (stats, waiting) = (api.store.stats().await, api.store.waiting().await);
    let totals = stats.totals;
    let stats = Stats {
        keys: stats.keys,
        free: stats.free,
        blocked: stats.leased,
        cooling: stats.cooling,
        waiting,
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
    };
    json(StatusCode::OK, serde_json::to_vec(&stats).expect("numbers"))
}
