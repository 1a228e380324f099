//! The check that comes before every handler of the router.

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;

use super::access::Access;
use super::same_site::is_from_elsewhere;
use crate::http::route::{Need, Route};
use crate::http::wire::{Problem, refuse};

/// Refuses who may not do what it asks for, before its body is read.
pub(in crate::http) async fn guard(
    State(access): State<Access>,
    request: Request,
    next: Next,
) -> Response {
    let need = Route::of(request.method(), request.uri()).need();
    let fields = request.headers();
    if need != Need::Nothing && is_from_elsewhere(&request, access.is_guarded()) {
        return refuse(request, Problem::FromElsewhere).await;
    }
    let mut values = fields.get_all(AUTHORIZATION).iter();
    // Of two nobody knows which one counts.
    let value = values.next().filter(|_| values.next().is_none());
    match access.check(value.map(HeaderValue::as_bytes), need, &mut None) {
        Ok(()) => next.run(request).await,
        Err(problem) => refuse(request, problem).await,
    }
}
