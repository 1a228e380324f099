//! Serving a connection with hyper: with or without TLS, over HTTP/1.1 or HTTP/2.

use std::convert::Infallible;
use std::io;
use std::mem::take;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

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
use tokio::io::{AsyncReadExt, join};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::activity::{Activity, AnswerBody};
use super::handshake::{Secured, handshake};
use super::head::{head_bytes, head_too_large};
use super::http1::{Http1, speak};
use super::line::{Line, Socket};
use super::peer::{Output, Peer};
use super::prefixed::Prefixed;
use super::tls::Tls;
use crate::http::api::{Client, Place, Timeouts};
use crate::http::hot::{Mailbox, Session, SessionOwner, Transfer, has_input, is_hot};
use crate::http::wire::{HEAD_BYTES_MAX, HTTP2_PREFACE};

/// Requests at once on an HTTP/2 connection: the smallest limit that RFC 9113, section 6.5.2, recommends.
const STREAMS_MAX: u32 = 100;

/// How often an HTTP/2 connection is looked at in a timeout. So it ends at most a quarter too late.
const SLICES: u32 = 8;

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
    tls: Option<Tls>,
    /// Changes when the server is about to stop.
    draining: watch::Receiver<()>,
}

impl<H: Handler> Server<H> {
    /// A server whose requests `handler` answers. With `tls`, it speaks TLS only.
    pub(in crate::http) fn new(
        handler: H,
        timeouts: Timeouts,
        tls: Option<Tls>,
        draining: watch::Receiver<()>,
    ) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        // Bounds the memory that the streams of a connection use without taking permits.
        http2.max_concurrent_streams(STREAMS_MAX);
        // A client that has gone does not answer a ping.
        http2.timer(TokioTimer::new()).keep_alive_interval(timeouts.head);
        let http1 = Http1::new(timeouts.head);
        Self { handler: Arc::new(handler), http1, http2, timeouts, tls, draining }
    }

    /// Spawns a task that serves a connection. `sessions` takes the session of its TLS when that has ended.
    pub(super) fn spawn(
        self: &Arc<Self>,
        tasks: &mut JoinSet<()>,
        connection: Transfer,
        stopped: watch::Receiver<()>,
        sessions: &SessionOwner,
    ) {
        let server = Arc::clone(self);
        match self.tls.clone().filter(|_| connection.session.is_none()) {
            Some(tls) => tasks.spawn(server.secured(tls, connection, stopped, sessions.clone())),
            None => tasks.spawn(server.connection(connection, stopped)),
        };
    }

    /// Serves a connection whose protocol is to be found out.
    async fn connection(self: Arc<Self>, connection: Transfer, mut stopped: watch::Receiver<()>) {
        let Some(mut client) = Connected::new(connection) else { return };
        if client.is_new {
            match self.speaks_http2(&mut client, &mut stopped).await {
                None => return,
                Some(true) => return Box::pin(self.speak_http2(client)).await,
                Some(false) => {}
            }
        }
        Box::pin(self.speak_http1(client, stopped)).await;
    }

    /// Whether a client without TLS speaks HTTP/2, once its first bytes show it. `None` if it is to be given up.
    async fn speaks_http2(
        &self,
        client: &mut Connected,
        stopped: &mut watch::Receiver<()>,
    ) -> Option<bool> {
        let mut read = Vec::from(take(&mut client.read));
        let peer = &mut client.peer;
        let first_bytes = async {
            if read.is_empty() && timeout(self.timeouts.idle, peer.sends()).await.is_err() {
                return None;
            }
            let is_http2 = timeout(self.timeouts.head, is_http2(peer, &mut read));
            Some(is_http2.await.is_ok_and(|is_http2| is_http2.unwrap_or(false)))
        };
        let is_http2 = tokio::select! {
            biased;
            is_http2 = first_bytes => is_http2?,
            _ = stopped.changed() => {
                // What has arrived by now is answered. The next to ask must see the change as well.
                stopped.mark_changed();
                if !client.peer.read_now(&mut read) {
                    return None;
                }
                read.starts_with(HTTP2_PREFACE)
            }
        };
        client.read = read.into();
        Some(is_http2)
    }

    /// Shakes hands. Then HTTP/1.1 goes to the hot path, if the connection has a home there. If `stopped` changes
    /// before that, the connection ends at once.
    async fn secured(
        self: Arc<Self>,
        tls: Tls,
        connection: Transfer,
        mut stopped: watch::Receiver<()>,
        owner: SessionOwner,
    ) {
        let Some(mut client) = Connected::new(connection) else { return };
        let (socket, _) = self.socket(&client.peer);
        let agreed = tokio::select! {
            biased;
            agreed = timeout(self.timeouts.head, handshake(&tls, socket, owner)) => agreed,
            _ = stopped.changed() => return,
        };
        let Secured { mut session, read, is_http2 } = match agreed {
            Ok(Ok(secured)) => secured,
            Ok(Err(error)) => return debug!("a handshake failed: {error}"),
            Err(_) => return debug!("a handshake took too long"),
        };
        let has_input = has_input(&mut session);
        (client.session, client.read, client.is_new) = (Some(session), read.into(), false);
        if is_http2 {
            return Box::pin(self.speak_http2(client)).await;
        }
        let Err(Some(client)) = client.go_home() else { return };
        // Hyper would give it only the time for a head. A request that came with the end of the handshake is there,
        // and the socket has nothing more to tell.
        if has_input || self.comes_back(&client.peer, &mut stopped).await {
            Box::pin(self.speak_http1(client, stopped)).await;
        }
    }

    /// Speaks HTTP/1.1 to the end of the connection, or until it can go back to the hot path. After `stopped` has
    /// changed, only the requests in flight are still answered.
    async fn speak_http1(&self, mut client: Connected, mut stopped: watch::Receiver<()>) {
        client.is_new = false;
        loop {
            let (socket, activity) = self.socket(&client.peer);
            let line = Line::new(socket, client.session.take());
            let stream = Prefixed { read: take(&mut client.read), stream: line };
            let answer = |request| {
                answer(&self.handler, client.peer.client(false), request).map(|mut response| {
                    if self.is_draining() {
                        let close = HeaderValue::from_static("close");
                        response.headers_mut().insert(CONNECTION, close);
                    }
                    response
                })
            };
            // Hot requests matter only to a connection that can go back.
            let has_home = client.home.is_some();
            let is_hot = |request: &Request<_>| has_home && is_hot(request);
            let speaks = speak(&self.http1, stream, &activity, is_hot, &mut stopped, answer);
            let Some(Prefixed { read, stream }) = Box::pin(speaks).await else { return };
            (client.read, client.session) = (read, stream.into_session());
            if client.read.len() > HEAD_BYTES_MAX {
                // The hot path has no room for so much.
                continue;
            }
            client = match client.go_home() {
                // Nobody is at home, because the server stops, so what has arrived by now is answered here.
                Err(Some(client)) if has_home => client,
                Err(Some(client)) if self.comes_back(&client.peer, &mut stopped).await => client,
                _ => return,
            };
        }
    }

    /// The socket of a client as hyper uses it, and what it does.
    fn socket(&self, peer: &Peer) -> (Socket, Arc<Activity>) {
        let activity = Arc::<Activity>::default();
        let output = Output::new(peer.clone(), self.timeouts.head, Arc::clone(&activity));
        (join(peer.clone(), output), activity)
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
        let idles = unchanged_for(self.timeouts.idle, || activity.all_ended());
        tokio::select! {
            _ = draining.changed() => {}
            () = idles => {}
        }
    }

    /// Speaks HTTP/2 to the end of the connection.
    async fn speak_http2(&self, Connected { peer, session, read, place: _place, .. }: Connected) {
        let (socket, activity) = self.socket(&peer);
        let (handler, counted) = (Arc::clone(&self.handler), Arc::clone(&activity));
        let service = service_fn(move |request| {
            let in_flight = counted.begin();
            let counted = Arc::clone(&counted);
            answer(&handler, peer.client(true), request).map(move |response| {
                counted.note_answered();
                Ok::<_, Infallible>(response.map(|body| AnswerBody { body, request: in_flight }))
            })
        });
        let stream = TokioIo::new(Prefixed { read, stream: Line::new(socket, session) });
        let mut connection = pin!(self.http2.serve_connection(stream, service));
        // A client need not let the server send what it has asked for.
        let mut stalls = pin!(unchanged_for(self.timeouts.head, || activity.taken_while_waiting()));
        let ended = tokio::select! {
            // Hyper first: if told to stop before it has looked at what was read, it would drop that.
            biased;
            ended = &mut connection => ended,
            () = &mut stalls => return debug!("a client has taken no answer for too long"),
            () = self.drains_or_idles(&activity) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = stalls => return,
                }
            }
        };
        if let Err(error) = ended {
            debug!("a connection failed: {error}");
        }
    }
}

/// Waits until `state` has been there, and the same, for a timeout, or up to a quarter longer.
async fn unchanged_for<T: PartialEq>(timeout: Duration, state: impl Fn() -> Option<T>) {
    let (mut seen, mut slices) = (None, 0);
    while slices <= SLICES {
        sleep(timeout / SLICES).await;
        let now = state();
        slices = if now.is_some() && now == seen { slices + 1 } else { 0 };
        seen = now;
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

/// A client, and what belongs to its connection.
struct Connected {
    peer: Peer,
    session: Option<Session>,
    /// What was read from it but not answered yet.
    read: Bytes,
    is_new: bool,
    place: Place,
    home: Option<Arc<Mailbox>>,
}

impl Connected {
    /// `None` if the runtime cannot wait for what the client sends.
    fn new(connection: Transfer) -> Option<Self> {
        let Transfer { stream, session, read, is_new, place, home } = connection;
        let stream = TcpStream::from_std(stream)
            .inspect_err(|error| debug!("a connection cannot be registered with epoll: {error}"))
            .ok()?;
        let peer = Peer::new(stream, place.turns());
        Some(Self { peer, session, read: read.into(), is_new, place, home })
    }

    /// Goes to its thread of the hot path, if it has one. `Err(None)` if it cannot be told what to do with it.
    fn go_home(mut self) -> Result<(), Option<Self>> {
        let Some(thread) = self.home.take() else { return Err(Some(self)) };
        let Self { peer, session, read, is_new, place, .. } = self;
        let stream = peer.into_socket().ok_or(None)?;
        let read = read.into();
        let Err(connection) =
            thread.add(Transfer { stream, session, read, is_new, place, home: None })
        else {
            return Ok(());
        };
        let mut read = Vec::new();
        let client = Self::new(connection).ok_or(None)?;
        let has_come = !client.read.is_empty() || client.session.is_some();
        if client.session.is_none() && client.peer.read_now(&mut read) {
            let read = [&client.read[..], &read[..]].concat().into();
            return Err(Some(Self { read, ..client }));
        }
        Err(has_come.then_some(client))
    }
}
