//! Answers with a body of any kind.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;

/// An answer with a JSON body. No answer may be cached, because the state that it shows may change.
pub(in crate::http) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    respond(status, "application/json", body.into())
}

/// An answer that a page is elsewhere. `to` is relative, so that it holds below the path of a proxy.
pub(in crate::http) fn moved(to: &'static str) -> Response {
    let mut response = json(StatusCode::PERMANENT_REDIRECT, "{}");
    response.headers_mut().insert(LOCATION, HeaderValue::from_static(to));
    response
}

/// An answer with a body of any media type. It may not be cached either.
pub(in crate::http) fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: Body,
) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
