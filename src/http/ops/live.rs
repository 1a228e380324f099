//! The events that the dashboard reads.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use futures_util::{StreamExt, stream};
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
