//! Serving a connection: with TLS or without, by HTTP/1.1 or HTTP/2.

use std::convert::Infallible;
use std::io::{self, Cursor};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::{Either, ready};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, join};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::activity::Activity;
use super::handshake::{Secured, handshake};
use super::head::{head_bytes, head_too_large};
use super::http1::{Ways, speak};
use super::peer::{Output, Peer};
use super::tls::Tls;
use crate::http::api::Client;
use crate::http::hot::Transfer;
use crate::http::wire::{HEAD_BYTES_MAX, HTTP2_PREFACE};

/// Requests at once on a connection of HTTP/2; the least that RFC 9113, section 6.5.2, recommends.
const STREAMS_MAX: u32 = 100;

/// What answers requests.
pub(in crate::http) trait Handler: Send + Sync + 'static {
    /// The answer to `request`.
    fn handle(
        self: &Arc<Self>,
        request: Request,
    ) -> impl Future<Output = Response> + Send + use<Self>;
}

/// What all connections share.
pub(in crate::http) struct Server<H> {
    handler: Arc<H>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    head_timeout: Duration,
    tls: Option<Tls>,
}

impl<H: Handler> Server<H> {
    /// What serves connections with `handler`, and speaks TLS only if there is a `tls`.
    pub(in crate::http) fn new(handler: H, head_timeout: Duration, tls: Option<Tls>) -> Self {
        let mut http1 = http1::Builder::new();
        // No `pipeline_flush`: it holds an answer back while part of the next request is there, and the
        // answer to a malformed one for ever. The hot path collects answers itself.
        // A client may close its half once it has asked, as on the hot path.
        http1
            .half_close(true)
            .max_buf_size(HEAD_BYTES_MAX)
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        // What each stream may hold for nothing counts for so many at once.
        http2.max_concurrent_streams(STREAMS_MAX);
        // Clients that have gone are noticed by a ping that is not answered.
        http2.timer(TokioTimer::new()).keep_alive_interval(head_timeout);
        Self { handler: Arc::new(handler), http1, http2, head_timeout, tls }
    }

    /// Has a task serve a connection.
    pub(super) fn spawn(
        self: &Arc<Self>,
        tasks: &mut JoinSet<()>,
        connection: Transfer,
        stopped: watch::Receiver<()>,
    ) {
        let server = Arc::clone(self);
        match self.tls.clone() {
            Some(tls) => tasks.spawn(server.secured(tls, connection, stopped)),
            None => tasks.spawn(server.connection(connection, stopped)),
        };
    }

    /// Serves a connection to its end, or until it rests and goes back to where it came from. After `stopped`
    /// has changed, to the end of its requests.
    async fn connection(self: Arc<Self>, connection: Transfer, mut stopped: watch::Receiver<()>) {
        let Transfer { stream, mut read, is_new, mut permit, mut home } = connection;
        let Some(mut peer) = peer(stream) else { return };
        let is_http2 = is_new && {
            let is_http2 = timeout(self.head_timeout, is_http2(&mut peer, &mut read));
            tokio::select! {
                biased;
                is_http2 = is_http2 => is_http2.is_ok_and(|is_http2| is_http2.unwrap_or(false)),
                _ = stopped.changed() => return,
            }
        };
        let mut read = Bytes::from(read);
        loop {
            let activity = Arc::<Activity>::default();
            let output = Output::new(peer.clone(), self.head_timeout, Arc::clone(&activity));
            let ways = Ways { input: peer.clone(), output, read };
            if is_http2 {
                return Box::pin(self.speak_http2(ways, peer, stopped)).await;
            }
            let rested = Box::pin(self.speak_http1(ways, &activity, &peer, &mut stopped)).await;
            let Some(rest) = rested.map(|ways| ways.read) else { return };
            read = rest;
            let Some(thread) = home.take() else {
                if self.comes_back(&peer, &mut stopped).await {
                    continue;
                }
                return;
            };
            let Some(stream) = peer.into_socket() else { return };
            let rests = Transfer { stream, read: read.into(), is_new: false, permit, home: None };
            let Err(connection) = thread.add(rests) else { return };
            // The server stops, and the thread has ended. What has come by now is answered here.
            let Some(same) = self::peer(connection.stream) else { return };
            (peer, read, permit) = (same, connection.read.into(), connection.permit);
        }
    }

    /// The same over TLS. It ends at once if `stopped` changes before a request can have come.
    async fn secured(
        self: Arc<Self>,
        tls: Tls,
        connection: Transfer,
        mut stopped: watch::Receiver<()>,
    ) {
        let Transfer { stream, permit: _permit, .. } = connection;
        let Some(peer) = peer(stream) else { return };
        let activity = Arc::<Activity>::default();
        let output = Output::new(peer.clone(), self.head_timeout, Arc::clone(&activity));
        let stream = join(peer.clone(), output);
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
        let (input, output) = tokio::io::split(stream);
        let mut ways = Ways { input, output, read: read.into() };
        if is_http2 {
            return Box::pin(self.speak_http2(ways, peer, stopped)).await;
        }
        loop {
            let rested = Box::pin(self.speak_http1(ways, &activity, &peer, &mut stopped)).await;
            let Some(rested) = rested else { return };
            ways = rested;
            if !self.comes_back(&peer, &mut stopped).await {
                return;
            }
        }
    }

    /// Waits for more from a client that rests. False if the connection is to end.
    async fn comes_back(&self, peer: &Peer, stopped: &mut watch::Receiver<()>) -> bool {
        tokio::select! {
            biased;
            sends = timeout(self.head_timeout, peer.sends()) => sends.is_ok(),
            _ = stopped.changed() => false,
        }
    }

    async fn speak_http1<R, W>(
        &self,
        ways: Ways<R, W>,
        activity: &Arc<Activity>,
        peer: &Peer,
        stopped: &mut watch::Receiver<()>,
    ) -> Option<Ways<R, W>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let answer = |request| answer(&self.handler, peer.client(), request);
        speak(&self.http1, ways, activity, stopped, answer).await
    }

    async fn speak_http2<R, W>(
        &self,
        Ways { input, output, read }: Ways<R, W>,
        peer: Peer,
        mut stopped: watch::Receiver<()>,
    ) where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let handler = Arc::clone(&self.handler);
        let service = service_fn(move |request| {
            answer(&handler, peer.client(), request).map(Ok::<_, Infallible>)
        });
        let stream = TokioIo::new(join(Cursor::new(read).chain(input), output));
        let mut connection = pin!(self.http2.serve_connection(stream, service));
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

/// The answer to a request.
fn answer<H: Handler>(
    handler: &Arc<H>,
    client: Client,
    request: Request<Incoming>,
) -> impl Future<Output = Response> + Send + use<H> {
    if head_bytes(&request) > HEAD_BYTES_MAX {
        return Either::Left(ready(head_too_large()));
    }
    let is_empty = request.body().is_end_stream();
    let mut request = request.map(|body| if is_empty { Body::empty() } else { Body::new(body) });
    request.extensions_mut().insert(client);
    Either::Right(handler.handle(request))
}

/// Whether a client speaks HTTP/2. As long as that is open, it reads.
///
/// # Errors
///
/// If the connection fails.
async fn is_http2(peer: &mut Peer, read: &mut Vec<u8>) -> io::Result<bool> {
    while read.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(read) {
        if peer.read_buf(read).await? == 0 {
            break;
        }
    }
    Ok(read.starts_with(HTTP2_PREFACE))
}

/// The client of a connection, unless the system cannot wait for what it sends.
fn peer(stream: std::net::TcpStream) -> Option<Peer> {
    let stream = TcpStream::from_std(stream);
    stream
        .map(Peer::new)
        .inspect_err(|error| debug!("a connection cannot be waited for: {error}"))
        .ok()
}
