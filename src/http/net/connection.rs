//! Serving a connection: with TLS or without, by HTTP/1.1 or HTTP/2.

use std::io::Cursor;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::handshake::{Secured, handshake};
use super::head::{head_bytes, head_too_large};
use super::peer::{Output, Peer};
use super::tls::Tls;
use crate::http::hot::Other;
use crate::http::wire::HEAD_BYTES_MAX;

/// Requests at once on a connection of HTTP/2; the least that RFC 9113, section 6.5.2, recommends.
const STREAMS_MAX: u32 = 100;

/// What all connections share.
pub(in crate::http) struct Server {
    router: Router,
    hyper: Builder<TokioExecutor>,
    /// For connections that have spoken HTTP/1 before.
    http1: Builder<TokioExecutor>,
    /// For those that have agreed on it.
    http2: Builder<TokioExecutor>,
    head_timeout: Duration,
    tls: Option<Tls>,
}

fn hyper(head_timeout: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // No `pipeline_flush`: it holds an answer back while part of the next request is there, and the
    // answer to a malformed one for ever. The hot path collects answers itself.
    // A client may close its half once it has asked, as on the hot path.
    builder
        .http1()
        .half_close(true)
        .max_buf_size(HEAD_BYTES_MAX)
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout);
    // What each stream may hold for nothing counts for so many at once.
    builder.http2().max_concurrent_streams(STREAMS_MAX);
    // Clients that have gone are noticed by a ping that is not answered.
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(head_timeout);
    builder
}

impl Server {
    /// What serves connections with `router`, and speaks TLS only if there is a `tls`.
    pub(in crate::http) fn new(router: Router, head_timeout: Duration, tls: Option<Tls>) -> Self {
        let hyper = hyper(head_timeout);
        let (http1, http2) = (hyper.clone().http1_only(), hyper.clone().http2_only());
        Self { router, hyper, http1, http2, head_timeout, tls }
    }

    /// Has a task serve a connection.
    pub(super) fn spawn(
        self: &Arc<Self>,
        tasks: &mut JoinSet<()>,
        other: Other,
        stopped: watch::Receiver<()>,
    ) {
        let server = Arc::clone(self);
        match self.tls.clone() {
            Some(tls) => tasks.spawn(server.secured(tls, other, stopped)),
            None => tasks.spawn(server.connection(other, stopped)),
        };
    }

    /// Serves a connection to its end; after `stopped` has changed, to that of its requests.
    async fn connection(self: Arc<Self>, other: Other, stopped: watch::Receiver<()>) {
        let Other { stream, read, is_new, place: _place } = other;
        let Some(peer) = peer(stream) else { return };
        let hyper = if is_new { &self.hyper } else { &self.http1 };
        let output = Output::new(peer.clone(), self.head_timeout);
        let stream = tokio::io::join(Cursor::new(read).chain(peer.clone()), output);
        self.speak(hyper, stream, peer, stopped).await;
    }

    /// The same over TLS. It ends at once if `stopped` changes before a request can have come.
    async fn secured(self: Arc<Self>, tls: Tls, other: Other, mut stopped: watch::Receiver<()>) {
        let Other { stream, place: _place, .. } = other;
        let Some(peer) = peer(stream) else { return };
        let output = Output::new(peer.clone(), self.head_timeout);
        let stream = tokio::io::join(peer.clone(), output);
        let agreed = tokio::select! {
            biased;
            agreed = timeout(self.head_timeout, handshake(&tls, stream)) => agreed,
            _ = stopped.changed() => return,
        };
        let Secured { stream, read, is_http2 } = match agreed {
            Ok(Ok(secured)) => secured,
            Ok(Err(error)) => return debug!("a handshake failed: {error}"),
            Err(_) => return debug!("a handshake took too long"),
        };
        let hyper = if is_http2 { &self.http2 } else { &self.http1 };
        let (input, output) = tokio::io::split(stream);
        let stream = tokio::io::join(Cursor::new(read).chain(input), output);
        // Apart, so that who only begins a handshake holds no memory for what comes after it.
        Box::pin(self.speak(hyper, stream, peer, stopped)).await;
    }

    /// Speaks HTTP.
    async fn speak(
        &self,
        hyper: &Builder<TokioExecutor>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        mut stopped: watch::Receiver<()>,
    ) {
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(|mut request: Request<Incoming>| {
            let is_large = head_bytes(&request) > HEAD_BYTES_MAX;
            request.extensions_mut().insert(peer.client());
            let answer = (!is_large).then(|| router.call(request));
            async {
                match answer {
                    Some(answer) => answer.await,
                    None => Ok(head_too_large()),
                }
            }
        });
        let mut connection = pin!(hyper.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            // Told to stop before it has looked at what was read, it would drop that unanswered.
            biased;
            ended = &mut connection => ended,
            _ = stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!("a connection failed: {error}");
        }
    }
}

/// The client of a connection, unless the system cannot wait for what it sends.
fn peer(stream: std::net::TcpStream) -> Option<Peer> {
    let stream = TcpStream::from_std(stream);
    stream
        .map(Peer::new)
        .inspect_err(|error| debug!("a connection cannot be waited for: {error}"))
        .ok()
}
