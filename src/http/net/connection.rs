//! Serving a connection with hyper: with or without TLS, over HTTP/1.1 or HTTP/2.

use std::convert::Infallible;
use std::io::{self, Cursor};
use std::pin::pin;
use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::{Either, ready};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, join};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::activity::{Activity, AnswerBody};
use super::handshake::{Secured, handshake};
use super::head::{head_bytes, head_too_large};
use super::http1::{Halves, Http1, speak};
use super::peer::{Output, Peer};
use super::tls::Tls;
use crate::http::api::{Client, Limits, Place, Timeouts};
use crate::http::hot::{Transfer, is_hot};
use crate::http::wire::{HEAD_BYTES_MAX, HTTP2_PREFACE};

/// Requests at once on an HTTP/2 connection: the smallest limit that RFC 9113, section 6.5.2, recommends.
const STREAMS_MAX: u32 = 100;

/// How often an HTTP/2 connection is looked at in one idle timeout. So it ends at most a quarter too late.
const IDLE_SLICES: u32 = 8;

/// Answers requests.
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
    http1: Http1,
    http2: http2::Builder<TokioExecutor>,
    timeouts: Timeouts,
    limits: Limits,
    tls: Option<Tls>,
    /// Changes when the server is about to stop.
    draining: watch::Receiver<()>,
}

impl<H: Handler> Server<H> {
    /// A server whose requests `handler` answers. With `tls`, it speaks TLS only.
    pub(in crate::http) fn new(
        handler: H,
        timeouts: Timeouts,
        limits: Limits,
        tls: Option<Tls>,
        draining: watch::Receiver<()>,
    ) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        // Bounds the memory that the streams of a connection use without taking permits.
        http2.max_concurrent_streams(STREAMS_MAX);
        // A client that has gone does not answer a ping.
        http2.timer(TokioTimer::new()).keep_alive_interval(timeouts.head);
        let http1 = Http1::new(timeouts.head);
        Self { handler: Arc::new(handler), http1, http2, timeouts, limits, tls, draining }
    }

    /// Spawns a task that serves a connection.
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

    /// Serves a connection without TLS, to its end or until its client rests and it can go back to the hot
    /// path. After `stopped` has changed, only the requests in flight are still answered.
    async fn connection(self: Arc<Self>, connection: Transfer, mut stopped: watch::Receiver<()>) {
        let Transfer { stream, mut read, is_new, mut place, mut home } = connection;
        let Some(mut peer) = peer(stream, &place) else { return };
        let is_http2 = is_new && {
            let is_http2 = async {
                if read.is_empty() && timeout(self.timeouts.idle, peer.sends()).await.is_err() {
                    return None;
                }
                let is_http2 = timeout(self.timeouts.head, is_http2(&mut peer, &mut read));
                Some(is_http2.await.is_ok_and(|is_http2| is_http2.unwrap_or(false)))
            };
            tokio::select! {
                biased;
                is_http2 = is_http2 => {
                    let Some(is_http2) = is_http2 else { return };
                    is_http2
                }
                _ = stopped.changed() => {
                    // What has arrived by now is answered. The next to ask must see the change as well.
                    stopped.mark_changed();
                    if !peer.read_now(&mut read) {
                        return;
                    }
                    read.starts_with(HTTP2_PREFACE)
                }
            }
        };
        let mut read = Bytes::from(read);
        loop {
            let activity = Arc::<Activity>::default();
            let output = Output::new(peer.clone(), self.timeouts.head, Arc::clone(&activity));
            let halves = Halves { input: peer.clone(), output, read };
            if is_http2 {
                return Box::pin(self.speak_http2(halves, &activity, peer)).await;
            }
            // Hot requests matter only to a connection that can go back.
            let is_hot = |request: &Request<_>| home.is_some() && is_hot(request, &self.limits);
            let speaks = self.speak_http1(halves, &activity, is_hot, &peer, &mut stopped);
            let rested = Box::pin(speaks).await;
            let Some(rest) = rested.map(|halves| halves.read) else { return };
            read = rest;
            let Some(thread) = home.take() else {
                if self.comes_back(&peer, &mut stopped).await {
                    continue;
                }
                return;
            };
            let Some(stream) = peer.into_socket() else { return };
            let rests = Transfer { stream, read: read.into(), is_new: false, place, home: None };
            let Err(mut connection) = thread.add(rests) else { return };
            // The server stops and the thread has ended, so what has arrived by now is answered here.
            let Some(same) = self::peer(connection.stream, &connection.place) else { return };
            if !same.read_now(&mut connection.read) {
                return;
            }
            (peer, read, place) = (same, connection.read.into(), connection.place);
        }
    }

    /// Serves a connection over TLS to its end. If `stopped` changes during the handshake, it ends at once.
    async fn secured(
        self: Arc<Self>,
        tls: Tls,
        connection: Transfer,
        mut stopped: watch::Receiver<()>,
    ) {
        let Transfer { stream, place, .. } = connection;
        let Some(peer) = peer(stream, &place) else { return };
        let activity = Arc::<Activity>::default();
        let output = Output::new(peer.clone(), self.timeouts.head, Arc::clone(&activity));
        let stream = join(peer.clone(), output);
        let agreed = tokio::select! {
            biased;
            agreed = timeout(self.timeouts.head, handshake(&tls, stream)) => agreed,
            _ = stopped.changed() => return,
        };
        let Secured { mut stream, mut read, is_http2 } = match agreed {
            Ok(Ok(secured)) => secured,
            Ok(Err(error)) => return debug!("a handshake failed: {error}"),
            Err(_) => return debug!("a handshake took too long"),
        };
        if !is_http2 {
            // Hyper would give it only the time for a head.
            let first = timeout(self.timeouts.idle, stream.read_buf(&mut read));
            let length = tokio::select! {
                biased;
                first = first => first.ok().and_then(Result::ok),
                _ = stopped.changed() => return,
            };
            if length.is_none_or(|length| length == 0) {
                return;
            }
        }
        let (input, output) = tokio::io::split(stream);
        let mut halves = Halves { input, output, read: read.into() };
        if is_http2 {
            return Box::pin(self.speak_http2(halves, &activity, peer)).await;
        }
        loop {
            let speaks = self.speak_http1(halves, &activity, |_: &_| false, &peer, &mut stopped);
            let rested = Box::pin(speaks).await;
            let Some(rested) = rested else { return };
            halves = rested;
            if !self.comes_back(&peer, &mut stopped).await {
                return;
            }
        }
    }

    /// Waits until a client that rests sends more. False if it has to end: its time is up, or the server
    /// stops.
    async fn comes_back(&self, peer: &Peer, stopped: &mut watch::Receiver<()>) -> bool {
        tokio::select! {
            biased;
            sends = timeout(self.timeouts.idle, peer.sends()) => sends.is_ok(),
            _ = stopped.changed() => false,
        }
    }

    /// Whether the server is about to stop.
    fn is_draining(&self) -> bool {
        self.draining.has_changed().unwrap_or(true)
    }

    /// Waits until the server is about to stop, or the client has sent no request for the idle timeout. A client
    /// that only answers pings is idle.
    async fn drains_or_idles(&self, activity: &Activity) {
        let mut draining = self.draining.clone();
        let idles = async {
            let (mut seen, mut idle_slices) = (None, 0);
            while idle_slices <= IDLE_SLICES {
                sleep(self.timeouts.idle / IDLE_SLICES).await;
                let ended = activity.all_ended();
                idle_slices = if ended.is_some() && ended == seen { idle_slices + 1 } else { 0 };
                seen = ended;
            }
        };
        tokio::select! {
            _ = draining.changed() => {}
            () = idles => {}
        }
    }

    async fn speak_http1<R, W>(
        &self,
        halves: Halves<R, W>,
        activity: &Arc<Activity>,
        is_hot: impl Fn(&Request<Incoming>) -> bool,
        peer: &Peer,
        stopped: &mut watch::Receiver<()>,
    ) -> Option<Halves<R, W>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let answer = |request| {
            answer(&self.handler, peer.client(false), request).map(|mut response| {
                if self.is_draining() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            })
        };
        speak(&self.http1, halves, activity, is_hot, stopped, answer).await
    }

    async fn speak_http2<R, W>(
        &self,
        Halves { input, output, read }: Halves<R, W>,
        activity: &Arc<Activity>,
        peer: Peer,
    ) where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (handler, counted) = (Arc::clone(&self.handler), Arc::clone(activity));
        let service = service_fn(move |request| {
            let in_flight = counted.begin();
            answer(&handler, peer.client(true), request).map(|response| {
                Ok::<_, Infallible>(response.map(|body| AnswerBody { body, _request: in_flight }))
            })
        });
        let stream = TokioIo::new(join(Cursor::new(read).chain(input), output));
        let mut connection = pin!(self.http2.serve_connection(stream, service));
        let ended = tokio::select! {
            // Hyper first: if told to stop before it has looked at what was read, it would drop that.
            biased;
            ended = &mut connection => ended,
            () = self.drains_or_idles(activity) => {
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

/// Whether a client speaks HTTP/2. Reads until its first bytes show it.
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

/// The client of a connection, once the runtime waits for what it sends; `None` if that fails.
fn peer(stream: std::net::TcpStream, place: &Place) -> Option<Peer> {
    let stream = TcpStream::from_std(stream);
    stream
        .map(|stream| Peer::new(stream, place.turns()))
        .inspect_err(|error| debug!("a connection cannot be registered with epoll: {error}"))
        .ok()
}
