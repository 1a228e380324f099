//! Probes: whether the server is alive, and wants requests.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::state::Ops;
use crate::http::wire::{Problem, json};
use crate::store::Store;

/// `GET /healthz`: whether the server is alive.
pub(in crate::http) async fn health() -> Response {
    json(StatusCode::OK, r#"{"status":"alive"}"#)
}

/// `GET /readyz`: whether the server wants requests.
pub(in crate::http) async fn ready<S: Store>(State(ops): State<Ops<S>>) -> Response {
    if ops.status.is_ready() {
        json(StatusCode::OK, r#"{"status":"ready"}"#)
    } else {
        Problem::Stopping.response()
    }
}
