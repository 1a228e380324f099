//! A server whose store is not open yet.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::warn;

use crate::http::{self, Listeners, ServeOptions};
use crate::store::Starting;

/// After how long clients are told that the server is about to start: most directories are read sooner.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long those that are told so may take to send their request and to read the answer, once the server could begin.
const FAREWELL: Duration = Duration::from_secs(1);

/// Waits for `opening`. If it takes a while, requests are refused with 503 meanwhile.
pub(super) async fn while_starting<T>(
    opening: impl Future<Output = T>,
    (listeners, options): (&mut Listeners, ServeOptions),
) -> io::Result<T> {
    let mut opening = pin!(opening);
    tokio::select! {
        opened = &mut opening => return Ok(opened),
        () = sleep(PATIENCE) => {}
    }
    let copy = Listeners {
        main: copy_of(&mut listeners.main)?,
        admin: listeners.admin.as_mut().map(copy_of).transpose()?,
    };
    let (started, is_started) = oneshot::channel::<()>();
    let shutdown = async move { drop(is_started.await) };
    let options = ServeOptions { drain_delay: Duration::ZERO, drain_timeout: FAREWELL, ..options };
    let refusing = tokio::spawn(async move {
        let store = Arc::new(Starting);
        if let Err(error) = http::serve(copy, store, options, shutdown).await {
            warn!("clients are not told that the server is starting: {error}");
        }
    });
    let opened = opening.await;
    drop(started);
    // Who connects from now on is not refused any more.
    let _ = refusing.await;
    Ok(opened)
}

/// Another listener on the same socket.
fn copy_of(listener: &mut TcpListener) -> io::Result<TcpListener> {
    let copy = rustix::io::dup(&*listener)?;
    TcpListener::from_std(copy.into())
}
