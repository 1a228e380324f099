//! Bodies of requests. A body is read in full, and within limits, before its request is handled.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONNECTION, EXPECT, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderValue, Version};
use axum::response::Response;
use http_body_util::{BodyExt, Collected, Limited};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::timeout;
use zeroize::Zeroize;

use super::budget::{BodyPermit, Budget, SMALL_BODY_BYTES};
use super::problem::Problem;

/// The largest body that is read, in bytes, except for batches.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// The largest body of a batch or an import, in bytes: enough for 100,000 ids.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a refused body is read and discarded. A client that sends its whole body before it reads
/// then gets the answer and not a broken connection.
const DISCARD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long discarding a body may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads the body of every request, of at most `max` bytes; also of requests that need none: an unread body would end the
/// connection.
///
/// # Errors
///
/// The answer to a request whose body was not read to its end.
pub(in crate::http) async fn read(
    budget: &Budget,
    request: Request,
    max: usize,
) -> Result<Request, Response> {
    let waits = request.headers().contains_key(EXPECT);
    let (head, mut body) = request.into_parts();
    let is_too_large = body.size_hint().lower() > max as u64;
    if is_too_large && waits {
        // The client sends the body only if it is asked to.
        return Err(closing(head.version, Problem::BodyTooLarge { max }.response()));
    }
    let problem = if is_too_large {
        Problem::BodyTooLarge { max }
    } else {
        match timeout(BODY_TIMEOUT, collect(&mut body, max, budget.body())).await {
            Ok(Ok(bytes)) => return Ok(Request::from_parts(head, Body::from(bytes))),
            Ok(Err(problem)) => problem,
            Err(_) => Problem::BodyTimeout,
        }
    };
    if matches!(problem, Problem::BodyTooLarge { .. } | Problem::Busy) {
        discard(body).await;
    }
    Err(problem.response())
}

/// A body that was read, by [`read`] and so within limits.
pub(in crate::http) struct WholeBody(pub(in crate::http) Bytes);

impl<S: Sync> FromRequest<S> for WholeBody {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        let body = request.into_body().collect().await;
        // It is in memory: nothing can fail any more.
        Ok(Self(body.map(Collected::to_bytes).unwrap_or_default()))
    }
}

/// A body and its share of the budget.
struct Counted {
    bytes: Vec<u8>,
    permit: BodyPermit,
}

/// It may have values of keys.
impl Drop for Counted {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a body into one buffer. Many small buffers would take many times its length.
async fn collect(body: &mut Body, max: usize, permit: BodyPermit) -> Result<Bytes, Problem> {
    let mut read = Counted { bytes: Vec::new(), permit };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::MalformedBody { detail: error.to_string() })?;
        let Ok(data) = frame.into_data() else { continue };
        let length = read.bytes.len() + data.len();
        if length > max {
            return Err(Problem::BodyTooLarge { max });
        }
        if length > read.bytes.capacity() {
            // Memory grows with the bytes that arrive, and not with the announced length.
            let capacity = (2 * length).min(max).max(SMALL_BODY_BYTES);
            read.permit.grow(capacity)?;
            // It may have values of keys, so the buffer that it outgrows is zeroed.
            let mut larger = Vec::with_capacity(capacity);
            larger.extend_from_slice(&read.bytes);
            read.bytes.zeroize();
            read.bytes = larger;
        }
        read.bytes.extend_from_slice(&data);
    }
    Ok(Bytes::from_owner(read))
}

/// Checks how a body is coded. Hyper takes any list that ends with `chunked`, and so would leave open what the
/// body is, and where it ends for a proxy that reads the list in another way (RFC 9112, section 6.1). O(length).
///
/// # Errors
///
/// [`Problem::TransferCoding`] for anything but one `chunked`.
pub(in crate::http) fn check_coding(fields: &HeaderMap) -> Result<(), Problem> {
    let values = fields.get_all(TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes);
    let codings =
        values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    // Elements of a list may be empty (RFC 9110, section 5.6.1).
    let mut codings = codings.filter(|coding| !coding.is_empty());
    let (first, second) = (codings.next(), codings.next());
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if first.is_none_or(is_chunked) && second.is_none() {
        return Ok(());
    }
    let is_known = first.into_iter().chain(second).chain(codings).all(is_chunked);
    Err(Problem::TransferCoding { is_known })
}

/// Refuses a request whose body was not read.
pub(in crate::http) async fn refuse(request: Request, problem: Problem) -> Response {
    let body_waits = request.headers().contains_key(EXPECT) && !request.body().is_end_stream();
    if body_waits {
        return closing(request.version(), problem.response());
    }
    discard(request.into_body()).await;
    problem.response()
}

/// The last answer on its connection. Whether the client goes on to send the body that it announced would
/// decide what the server reads next (RFC 9110, section 10.1.1).
fn closing(version: Version, mut answer: Response) -> Response {
    // HTTP/2 has no such field: its bodies end with their streams.
    if version <= Version::HTTP_11 {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

async fn discard(body: Body) {
    let mut body = Limited::new(body, DISCARD_BYTES_MAX);
    let all = async { while let Some(Ok(_)) = body.frame().await {} };
    // The request is refused whether or not this ends in time.
    let _ = timeout(DISCARD_TIMEOUT, all).await;
}

/// Reads a body as a JSON object, whatever its media type. `expected` describes the right form.
///
/// # Errors
///
/// [`Problem::MalformedBody`] if the body is not JSON, [`Problem::InvalidBody`] if it has another form.
pub(in crate::http) fn object<T: DeserializeOwned>(
    body: &[u8],
    expected: &'static str,
) -> Result<T, Problem> {
    // Serde would also read an array as a struct, by the order of its fields.
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
