//! Bodies of requests: read in full and within limits before anything is done.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::Method;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::timeout;

use super::error::Problem;

/// The largest body that is read, in bytes, but for batches.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// The largest body that is read of a batch, in bytes: 100,000 ids, and some room.
pub(super) const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A body that takes longer than this to arrive is given up.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body that is refused is read and forgotten, so that a client that sends all of it
/// before it listens sees the answer and not a broken connection.
const DISCARD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long that may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads the body of every request, also of those that need none: what is left unread would end
/// the connection.
pub(super) async fn read(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let max = max_bytes(&request);
    let waits = request.headers().contains_key(EXPECT);
    let (head, mut body) = request.into_parts();
    let is_too_large = body.size_hint().lower() > max as u64;
    if is_too_large && waits {
        // It is not sent unless it is read.
        return Problem::BodyTooLarge { max }.response();
    }
    let limit = if is_too_large { 0 } else { max };
    match timeout(BODY_TIMEOUT, Limited::new(&mut body, limit).collect()).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, Body::from(bytes.to_bytes()))).await,
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(body).await;
            Problem::BodyTooLarge { max }.response()
        }
        Ok(Err(error)) => Problem::MalformedBody { detail: error.to_string() }.response(),
        Err(_) => Problem::BodyTimeout.response(),
    }
}

fn max_bytes(request: &Request) -> usize {
    let is_batch =
        request.method() == Method::PUT && matches!(request.uri().path(), "/keys" | "/keepalive");
    if is_batch { BATCH_BYTES_MAX } else { BODY_BYTES_MAX }
}

async fn discard(body: Body) {
    let mut body = Limited::new(body, DISCARD_BYTES_MAX);
    let all = async { while let Some(Ok(_)) = body.frame().await {} };
    // It is refused either way.
    let _ = timeout(DISCARD_TIMEOUT, all).await;
}

/// Reads a body as a JSON object, whatever its media type; `expected` says what it must say.
pub(super) fn object<T: DeserializeOwned>(
    body: &[u8],
    expected: &'static str,
) -> Result<T, Problem> {
    // To serde an array is a struct without names.
    if body.trim_ascii_start().starts_with(b"{")
        && let Ok(object) = serde_json::from_slice(body)
    {
        return Ok(object);
    }
    match serde_json::from_slice::<IgnoredAny>(body) {
        Ok(_) => Err(Problem::InvalidBody { expected }),
        Err(error) => Err(Problem::MalformedBody { detail: error.to_string() }),
    }
}
