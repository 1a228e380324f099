//! From a socket to the router: accepting, keeping within limits, and ending well.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

/// Limits of [`serve`].
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// Connections at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// How long a client may take for the head of a request.
    pub head_timeout: Duration,
    /// How long requests in flight may take after the shutdown began.
    pub drain_timeout: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            connections_max: 50_000,
            head_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// Pause after a failed accept, as when file descriptors have run out: others end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on `listener` with HTTP/1.1 and HTTP/2 (prior knowledge) until `shutdown` is
/// ready. Then it accepts no more, and returns when all requests in flight are answered or the
/// drain timeout is over.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    // One write for all answers to pipelined requests.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(options.head_timeout);
    builder.http1().pipeline_flush(true);
    builder.http2().timer(TokioTimer::new());
    let builder = Arc::new(builder);
    let service = TowerToHyperService::new(router);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(options.connections_max));
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
        };
        let stream = match accepted.and_then(|(stream, _)| prepare(stream)) {
            Ok(stream) => stream,
            Err(error) => {
                if !is_the_clients(&error) {
                    warn!("cannot accept a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        let (builder, service, watcher) =
            (Arc::clone(&builder), service.clone(), graceful.watcher());
        tokio::spawn(async move {
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            if let Err(error) = watcher.watch(connection).await {
                debug!("a connection failed: {error}");
            }
            drop(place);
        });
    }
    drop(listener);
    if timeout(options.drain_timeout, graceful.shutdown()).await.is_err() {
        info!("requests were still in flight after {:?}; they are cut off", options.drain_timeout);
    }
}

fn prepare(stream: TcpStream) -> io::Result<TcpStream> {
    // An answer must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether the connection failed before it was accepted, which is nobody's trouble here.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | InvalidInput | NotConnected)
}
