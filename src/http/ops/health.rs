//! Probes: whether the server is alive, and whether it is ready for requests.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::state::Ops;
use crate::http::wire::{Problem, json};
use crate::pool::PoolId;
use crate::store::Store;

/// `GET /healthz`: whether the server is alive.
pub(in crate::http) async fn health() -> Response {
    json(StatusCode::OK, r#"{"status":"alive"}"#)
}

/// `GET /readyz`: whether the server is ready for requests. It is not while it stops, or while its store
/// does not answer. O(s) for s shards.
pub(in crate::http) async fn ready<S: Store>(State(ops): State<Ops<S>>) -> Response {
    if !ops.status.is_ready() {
        return Problem::Stopping.response();
    }
    match ops.api.store.stats_of(PoolId::DEFAULT).await {
        Ok(_) => json(StatusCode::OK, r#"{"status":"ready"}"#),
        Err(error) => error.into_response(),
    }
}
