//! From a socket to a request: accepting, keeping within limits, and ending well.

use std::io::{self, Cursor};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::accept::Acceptor;
use super::access::Access;
use super::budget::Budget;
use super::hot::{Mailbox, Other};
use super::live::Live;
use super::peer::{Output, Peer};
use super::secure::{Secured, greet};
use super::status::Status;
use super::tls::Tls;
use super::{Api, HEAD_BYTES_MAX, Limits, Scope, hot, router};
use crate::store::Store;

/// Where [`serve`] is asked.
pub struct Listeners {
    /// By those who lease keys.
    pub main: TcpListener,
    /// By operators. With it the main one knows the API alone, and this one everything.
    pub admin: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    /// One for all.
    fn from(main: TcpListener) -> Self {
        Self { main, admin: None }
    }
}

/// How [`serve`] serves.
#[derive(Clone)]
pub struct ServeOptions {
    /// Connections at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// How long a client may take for the head of a request.
    pub head_timeout: Duration,
    /// How long requests in flight may take after the shutdown began.
    pub drain_timeout: Duration,
    /// How long after the shutdown began probes are told so before no more connections are accepted.
    pub drain_delay: Duration,
    /// Who may do what.
    pub access: Access,
    /// What requests may ask for.
    pub limits: Limits,
    /// Speaks TLS only, with this certificate.
    pub tls: Option<Tls>,
}

impl ServeOptions {
    /// Enough for most; each needs a file, and a few kilobytes in the kernel.
    pub const CONNECTIONS_MAX: usize = 50_000;
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            connections_max: Self::CONNECTIONS_MAX,
            head_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
            drain_delay: Duration::ZERO,
            access: Access::open(),
            limits: Limits::default(),
            tls: None,
        }
    }
}

/// Requests at once on a connection of HTTP/2; the least that RFC 9113, section 6.5.2, recommends.
const STREAMS_MAX: u32 = 100;

/// How long those who watch may take once all others are done.
const ADMIN_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves `store` with HTTP/1.1 and HTTP/2 (prior knowledge) until `shutdown` is ready. After the
/// drain delay it accepts no more, and returns when all requests in flight are answered or the drain
/// timeout is over. Operators are heard to the end.
///
/// # Errors
///
/// If the system lacks what it needs to begin.
pub async fn serve<S: Store>(
    listeners: impl Into<Listeners>,
    store: Arc<S>,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let Listeners { main, admin } = listeners.into();
    let status = Arc::new(Status::new(options.connections_max, options.access.clone()));
    let (stop, stopped) = watch::channel(());
    let (end, ended) = watch::channel(());
    let (limits, budget) = (options.limits, Budget::default());
    let (for_api, for_hot) = (Arc::clone(&store), Arc::clone(&store));
    let api = Api { store: for_api, limits, stopped, budget, status: Arc::clone(&status) };
    let scope = if admin.is_some() { Scope::Api } else { Scope::All };
    let server = Arc::new(Server::new(router(api.clone(), scope), &options));
    let (handover, others) = mpsc::unbounded_channel();
    let mut threads = Threads(Vec::new());
    let (shared_status, head_timeout) = (Arc::clone(&status), options.head_timeout);
    let shared = hot::Shared { store: for_hot, status: shared_status, head_timeout };
    // Over TLS, input means nothing to the hot path.
    let workers = Handle::current().metrics().num_workers();
    for _ in 0..if options.tls.is_none() { workers } else { 0 } {
        let mailbox = Arc::new(Mailbox::new()?);
        threads.0.push(Arc::clone(&mailbox));
        hot::start(mailbox, handover.clone(), shared.clone())?;
    }
    drop(shared);
    // What still runs in here ends when this returns.
    let mut beside = JoinSet::new();
    beside.spawn(Live::sample(store, Arc::clone(&status)));
    let mut rest = JoinSet::new();
    rest.spawn(server.connections(others, api.stopped.clone()));
    let mut operators = JoinSet::new();
    if let Some(admin) = admin {
        // Operators go on watching while requests are finished.
        let api = Api { stopped: ended.clone(), ..api };
        let server = Arc::new(Server::new(router(api, Scope::All), &options));
        operators.spawn(server.accept(admin, Arc::clone(&status), ended));
    }
    let shutdown = async {
        shutdown.await;
        status.set_stopping();
        sleep(options.drain_delay).await;
    };
    tokio::select! {
        () = hand_out(main, &status, &threads, handover) => {}
        () = shutdown => {}
    }
    stop.send_replace(());
    threads.0.iter().for_each(|mailbox| mailbox.stop());
    if timeout(options.drain_timeout, rest.join_next()).await.is_err() {
        info!("requests were still in flight after {:?}; they are cut off", options.drain_timeout);
        rest.shutdown().await;
    }
    end.send_replace(());
    // Whoever does not take its answers now is cut off.
    let _ = timeout(ADMIN_DRAIN_TIMEOUT, operators.join_next()).await;
    Ok(())
}

/// Gives the connections that come to the threads, in turn; without any, all to `others`.
async fn hand_out(
    listener: TcpListener,
    status: &Status,
    threads: &Threads,
    others: mpsc::UnboundedSender<Other>,
) {
    let mut acceptor = Acceptor::new(listener);
    let mut next = threads.0.iter().cycle();
    loop {
        let (stream, place) = acceptor.next(&status.connections).await;
        match next.next() {
            Some(thread) => thread.add(stream, place),
            None => drop(others.send(Other::new(stream, place))),
        }
    }
}

/// The threads of the hot path, by what reaches them. They end with this.
struct Threads(Vec<Arc<Mailbox>>);

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.iter().for_each(|mailbox| mailbox.cut_off());
    }
}

/// What all connections share.
struct Server {
    router: Router,
    hyper: Builder<TokioExecutor>,
    /// For connections that have spoken HTTP/1 before.
    http1: Builder<TokioExecutor>,
    /// For those that have agreed on it.
    http2: Builder<TokioExecutor>,
    head_timeout: Duration,
    tls: Option<Tls>,
}

fn hyper(options: &ServeOptions) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // No `pipeline_flush`: it holds an answer back while part of the next request is there, and the
    // answer to a malformed one for ever. The hot path collects answers itself.
    // A client may close its half once it has asked, as on the hot path.
    builder
        .http1()
        .half_close(true)
        .max_buf_size(HEAD_BYTES_MAX)
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_timeout);
    // What each stream may hold for nothing counts for so many at once.
    builder.http2().max_concurrent_streams(STREAMS_MAX);
    // Clients that have gone are noticed by a ping that is not answered.
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(options.head_timeout);
    builder
}

impl Server {
    fn new(router: Router, options: &ServeOptions) -> Self {
        let (hyper, tls) = (hyper(options), options.tls.clone());
        let (http1, http2) = (hyper.clone().http1_only(), hyper.clone().http2_only());
        Self { router, hyper, http1, http2, head_timeout: options.head_timeout, tls }
    }

    /// Accepts connections and serves them, until `ended` has changed and all have ended.
    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        status: Arc<Status>,
        mut ended: watch::Receiver<()>,
    ) {
        let mut acceptor = Acceptor::new(listener);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                (stream, place) = acceptor.next(&status.admin_connections) => {
                    self.spawn(&mut connections, Other::new(stream, place), ended.clone());
                }
                Some(_) = connections.join_next() => {}
                _ = ended.changed() => break,
            }
        }
        drop(acceptor);
        while connections.join_next().await.is_some() {}
    }

    /// Serves the connections that come, until no more can come and all have ended.
    async fn connections(
        self: Arc<Self>,
        mut others: mpsc::UnboundedReceiver<Other>,
        stopped: watch::Receiver<()>,
    ) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                other = others.recv() => {
                    let Some(other) = other else { break };
                    self.spawn(&mut connections, other, stopped.clone());
                }
                // What it needed is freed at once.
                Some(_) = connections.join_next() => {}
            }
        }
        while connections.join_next().await.is_some() {}
    }

    /// Has a task serve a connection.
    fn spawn(
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
        let greeted = tokio::select! {
            biased;
            greeted = timeout(self.head_timeout, greet(&tls, stream)) => greeted,
            _ = stopped.changed() => return,
        };
        let Secured { stream, read, is_http2 } = match greeted {
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
            request.extensions_mut().insert(peer.clone());
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

/// The length of a head, as it is usually written. Hyper reads one that comes at once up to about
/// twice what it waits for.
fn head_bytes(request: &Request<Incoming>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    request.method().as_str().len() + target + "  HTTP/1.1\r\n\r\n".len() + fields.sum::<usize>()
}

/// As hyper refuses a longer one.
fn head_too_large() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The client of a connection, unless the system cannot wait for what it sends.
fn peer(stream: std::net::TcpStream) -> Option<Peer> {
    let stream = TcpStream::from_std(stream);
    stream
        .map(Peer::new)
        .inspect_err(|error| debug!("a connection cannot be waited for: {error}"))
        .ok()
}
