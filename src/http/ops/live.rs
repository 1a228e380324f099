//! The events that the dashboard reads.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use super::samples::View;
use super::state::Ops;
use crate::error::Error;
use crate::http::api::watched_pool;
use crate::http::auth::authorization;
use crate::http::route::Need;
use crate::http::wire::{Problem, respond};
use crate::pool::{PoolId, PoolName};
use crate::store::{Store, committed};

/// How much of the history is sent at a time, in bytes.
const PIECE_BYTES: usize = 4096;
/// How long a viewer may take to receive a piece.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// `GET /dashboard/events`: the samples that the page shows, as server-sent events: those of the last
/// minutes, and then one each second until the server stops. With `pool`, they are of that pool, until it is deleted;
/// only of the default pool there are earlier ones.
pub(in crate::http) async fn events<S: Store>(
    State(ops): State<Ops<S>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let view = match view(&ops, &uri, &headers) {
        Ok(view) => view,
        Err(problem) => {
            // It may tell that a pool was just deleted.
            committed(&*ops.api.store).await;
            return Err(problem);
        }
    };
    let Some(permit) = ops.status.viewers.try_take() else {
        return Err(Problem::TooManyViewers);
    };
    // A task of its own, because a body is not polled while the client does not read.
    let (pieces, mut given) = mpsc::channel(1);
    tokio::spawn(feed(ops, view, pieces, permit));
    let events = stream::poll_fn(move |cx| given.poll_recv(cx)).map(Ok::<_, Infallible>);
    let mut response = respond(StatusCode::OK, "text/event-stream", Body::from_stream(events));
    // Else nginx would collect events for a while.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// What the viewer asks for, as far as its token allows: one that is for some pools sees nothing of the others, and so
/// no numbers of the whole server either.
fn view<S: Store>(ops: &Ops<S>, uri: &Uri, headers: &HeaderMap) -> Result<View, Problem> {
    let name = watched_pool(uri)?;
    let pool = ops.api.store.find_pool(name.as_deref().unwrap_or(PoolName::DEFAULT));
    let pool = pool.ok_or(Problem::NoSuchPool)?;
    let access = &ops.status.access;
    let of_all = access.check(authorization(headers), Need::Count, None, &mut None);
    Ok(match of_all {
        Ok(()) if pool == PoolId::DEFAULT => View::Default,
        all => View::Pool { pool, with_server: all.is_ok() },
    })
}

/// Sends samples to a viewer until it hangs up, or receives nothing for too long, or its pool is deleted, or the server
/// stops.
async fn feed<S: Store>(
    ops: Ops<S>,
    view: View,
    pieces: mpsc::Sender<Bytes>,
    _permit: OwnedSemaphorePermit,
) {
    let Ops { api, status, samples } = ops;
    let mut stopped = api.stopped.clone();
    let joined = status.access.generation();
    let (first, mut latest) = samples.join(view);
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
            let moment = latest.borrow_and_update().clone();
            match moment.event(view, &api).await {
                Ok(sample) => give(&pieces, &sample).await?,
                Err(Error::NoSuchPool) => return None,
                // While the store does not answer, the page shows a gap.
                Err(_) => {}
            }
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
