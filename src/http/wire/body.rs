//! Bodies of requests: read in full and within limits before anything is done.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::{BodyExt, Limited};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::timeout;

use super::budget::{BodyRoom, Budget, SMALL_BODY_BYTES};
use super::problem::Problem;

/// The largest body that is read, in bytes, but for batches.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// The largest body that is read of a batch, in bytes: 100,000 ids, and some room.
pub(in crate::http) const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A body that takes longer than this to arrive is given up.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body that is refused is read and forgotten, so that a client that sends all of it
/// before it listens sees the answer and not a broken connection.
const DISCARD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long that may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads the body of every request, also of those that need none: what is left unread would end
/// the connection.
pub(in crate::http) async fn read(
    State(budget): State<Budget>,
    request: Request,
    next: Next,
) -> Response {
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
    let problem = if is_too_large {
        Problem::BodyTooLarge { max }
    } else {
        match timeout(BODY_TIMEOUT, collect(&mut body, max, budget.body())).await {
            Ok(Ok(bytes)) => return next.run(Request::from_parts(head, Body::from(bytes))).await,
            Ok(Err(problem)) => problem,
            Err(_) => Problem::BodyTimeout,
        }
    };
    if matches!(problem, Problem::BodyTooLarge { .. } | Problem::Busy) {
        discard(body).await;
    }
    problem.response()
}

/// A body, and what it takes of the budget.
struct Counted {
    bytes: Vec<u8>,
    room: BodyRoom,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a body into one piece: many small ones would take many times its length.
async fn collect(body: &mut Body, max: usize, room: BodyRoom) -> Result<Bytes, Problem> {
    let mut read = Counted { bytes: Vec::new(), room };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::MalformedBody { detail: error.to_string() })?;
        let Ok(data) = frame.into_data() else { continue };
        let length = read.bytes.len() + data.len();
        if length > max {
            return Err(Problem::BodyTooLarge { max });
        }
        if length > read.bytes.capacity() {
            // What was announced is no reason to have memory for it before it comes.
            let capacity = (2 * length).min(max).max(SMALL_BODY_BYTES);
            read.room.grow(capacity)?;
            read.bytes.reserve_exact(capacity - read.bytes.len());
        }
        read.bytes.extend_from_slice(&data);
    }
    Ok(Bytes::from_owner(read))
}

fn max_bytes(request: &Request) -> usize {
    let is_batch =
        request.method() == Method::PUT && matches!(request.uri().path(), "/keys" | "/keepalive");
    if is_batch { BATCH_BYTES_MAX } else { BODY_BYTES_MAX }
}

/// Refuses a request whose body nobody has read.
pub(in crate::http) async fn refuse(request: Request, problem: Problem) -> Response {
    if !request.headers().contains_key(EXPECT) {
        discard(request.into_body()).await;
    }
    problem.response()
}

async fn discard(body: Body) {
    let mut body = Limited::new(body, DISCARD_BYTES_MAX);
    let all = async { while let Some(Ok(_)) = body.frame().await {} };
    // It is refused either way.
    let _ = timeout(DISCARD_TIMEOUT, all).await;
}

/// Reads a body as a JSON object, whatever its media type; `expected` says what it must say.
pub(in crate::http) fn object<T: DeserializeOwned>(
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
