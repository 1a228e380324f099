//! HTTP/1.1, until the client rests or sends what is answered faster elsewhere.
//!
//! An idle connection needs 20 kB and more in hyper, most of it for buffers. So hyper's part is dropped when
//! the client has sent nothing for a while, and made again when more arrives.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::activity::{Activity, AnswerBody};
use super::prefixed::Prefixed;
use crate::http::wire::HEAD_BYTES_MAX;

/// A client rests once it has all its answers and has sent nothing for this long. To drop hyper's part and to
/// make it again costs about as much as a request, so it should not happen after each request.
const REST_AFTER: Duration = Duration::from_secs(1);

/// How HTTP/1.1 is spoken.
pub(super) struct Http1 {
    hyper: Builder,
    rest_after: Duration,
}

impl Http1 {
    /// With this long for the head of a request.
    pub(super) fn new(head_timeout: Duration) -> Self {
        let mut hyper = Builder::new();
        // No `pipeline_flush`: it would hold back an answer while part of the next request is there, and the
        // answer to a malformed request for ever. The hot path collects answers itself.
        // `half_close`: a client may stop sending before it has its answers, as on the hot path. It
        // only does not wait for a key then.
        hyper
            .half_close(true)
            .max_buf_size(HEAD_BYTES_MAX)
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout);
        // For hyper, the time for a head begins with the answer before it.
        Self { hyper, rest_after: REST_AFTER.min(head_timeout / 2) }
    }
}

/// Whether a request was refused for its host or its token. On the hot path the next one would be, too, and
/// come here again.
fn is_refused(status: StatusCode) -> bool {
    use StatusCode as Is;
    matches!(status, Is::BAD_REQUEST | Is::UNAUTHORIZED | Is::FORBIDDEN | Is::MISDIRECTED_REQUEST)
}

/// Speaks HTTP/1.1 until the client rests, or has the answer to a request that `is_hot`, and returns the
/// connection then, or `None` if the connection has ended. After `stopped` has changed, it ends once the request
/// in flight is answered.
pub(super) async fn speak<T, F>(
    Http1 { hyper, rest_after }: &Http1,
    stream: Prefixed<T>,
    activity: &Arc<Activity>,
    is_hot: impl Fn(&Request<Incoming>) -> bool,
    stopped: &mut watch::Receiver<()>,
    answer: impl Fn(Request<Incoming>) -> F,
) -> Option<Prefixed<T>>
where
    T: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Response>,
{
    let service = service_fn(|request| {
        let in_flight = activity.begin();
        let is_hot = is_hot(&request);
        Box::pin(answer(request).map(move |response| {
            activity.set_hot(is_hot && !is_refused(response.status()));
            Ok::<_, Infallible>(response.map(|body| AnswerBody { body, request: in_flight }))
        }))
    });
    let mut connection = hyper.serve_connection(TokioIo::new(stream), service);
    let mut rest = pin!(sleep(*rest_after));
    // A client rests only after a request: until the first one, hyper's timeout applies.
    let (mut resting, mut is_ending) = (activity.all_ended(), false);
    let first = resting;
    loop {
        let ended_or_rests = poll_fn(|cx| {
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(Some(ended));
            }
            // Hyper may have read the next request before it could send an answer, if that came before the end of a
            // body. Once it has sent the answer, it waits for the client, and forgets the request.
            if activity.take_unblocked() {
                cx.waker().wake_by_ref();
            }
            let ended = activity.all_ended();
            if ended != resting {
                resting = ended;
                rest.as_mut().reset(Instant::now() + *rest_after);
            }
            if resting.is_none() || resting == first || is_ending {
                return Poll::Pending;
            }
            if activity.may_go_back() {
                return Poll::Ready(None);
            }
            rest.as_mut().poll(cx).map(|()| None)
        });
        let ended = tokio::select! {
            // Hyper first: if told to stop before it has looked at what was read, it would drop that.
            biased;
            ended = ended_or_rests => ended,
            _ = stopped.changed(), if !is_ending => {
                is_ending = true;
                Pin::new(&mut connection).graceful_shutdown();
                continue;
            }
        };
        if let Some(ended) = ended {
            if let Err(error) = ended {
                debug!("a connection failed: {error}");
            }
            return None;
        }
        // A hot request has no body. So nothing of it is left to read, and hyper has only the next head, if any.
        if !activity.may_go_back() {
            Pin::new(&mut connection).graceful_shutdown();
            let closed = poll_fn(|cx| connection.poll_without_shutdown(cx)).now_or_never();
            if !matches!(closed, Some(Ok(()))) {
                // Hyper still has to read what the client goes on to send. The connection ends after that.
                is_ending = true;
                continue;
            }
        }
        let parts = connection.into_parts();
        let Prefixed { read, stream } = parts.io.into_inner();
        // A copy, because a slice would keep all of hyper's buffer.
        return Some(Prefixed { read: [parts.read_buf, read].concat().into(), stream });
    }
}
