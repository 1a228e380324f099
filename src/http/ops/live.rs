//! `/dashboard`: a page that shows the server live, and the events that it reads.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::{StreamExt, stream};
use ring::digest::{SHA256, digest};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::timeout;

use super::readings::Status;
use super::samples::Samples;
use super::state::Ops;
use crate::http::wire::{Problem, respond};
use crate::store::Store;

/// How much of the history is sent at a time, in bytes.
const PIECE_BYTES: usize = 4096;
/// How long a viewer may take to receive a piece.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(30);

const PAGE: &str = include_str!("dashboard.html");

/// `GET /dashboard`: the page. It contains no data.
pub(in crate::http) fn page(policy: HeaderValue) -> Response {
    let page = Bytes::from_static(PAGE.as_bytes());
    let mut response = respond(StatusCode::OK, "text/html; charset=utf-8", page.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// The content security policy of the page: it may run its own script and send requests to this server.
pub(in crate::http) fn policy() -> HeaderValue {
    let hash = |element: &str| {
        let begin = PAGE.find(&format!("<{element}>")).map(|at| at + element.len() + 2);
        let end = PAGE.find(&format!("</{element}>"));
        let text = begin.zip(end).map_or("", |(begin, end)| &PAGE[begin..end]);
        BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()))
    };
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         img-src data:; \
         require-trusted-types-for 'script'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    );
    HeaderValue::try_from(policy).expect("it is ASCII")
}

/// `GET /dashboard/events`: the samples that the page shows, as server-sent events: those of the last
/// minutes, and then one each second until the server stops.
pub(in crate::http) async fn events<S: Store>(State(ops): State<Ops<S>>) -> Response {
    let Some(permit) = ops.status.viewers.try_take() else {
        return Problem::TooManyViewers.response();
    };
    // A task of its own, because a body is not polled while the client does not read.
    let (pieces, mut given) = mpsc::channel(1);
    tokio::spawn(feed(ops.status, ops.samples, ops.api.stopped, pieces, permit));
    let events = stream::poll_fn(move |cx| given.poll_recv(cx)).map(Ok::<_, Infallible>);
    let mut response = respond(StatusCode::OK, "text/event-stream", Body::from_stream(events));
    // Else nginx would collect events for a while.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Sends samples to a viewer until it hangs up, or receives nothing for too long, or the server stops.
async fn feed(
    status: Arc<Status>,
    samples: Arc<Samples>,
    mut stopped: watch::Receiver<()>,
    pieces: mpsc::Sender<Bytes>,
    _permit: OwnedSemaphorePermit,
) {
    let joined = status.access.generation();
    let (first, mut latest) = samples.join();
    let feed = async {
        // Copies, so that a client that stops reading costs no more than a piece.
        for piece in first.as_bytes().chunks(PIECE_BYTES) {
            give(&pieces, piece).await?;
        }
        drop(first);
        loop {
            latest.changed().await.ok()?;
            // After a reload of the tokens the viewer has to authenticate again.
            if status.access.generation() != joined {
                return None::<Infallible>;
            }
            let sample = latest.borrow_and_update().clone();
            give(&pieces, &sample).await?;
        }
    };
    tokio::select! {
        biased;
        _ = stopped.changed() => {}
        () = pieces.closed() => {}
        _ = feed => {}
    }
}

async fn give(pieces: &mpsc::Sender<Bytes>, piece: &[u8]) -> Option<()> {
    let given = timeout(RECEIVE_TIMEOUT, pieces.send(Bytes::copy_from_slice(piece))).await;
    given.ok()?.ok()
}
