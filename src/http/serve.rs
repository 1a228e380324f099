//! The composition of the HTTP server: store, listeners, hot path, router and drain.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::api::{Api, Timeouts};
use super::audit::AuditLog;
use super::auth::Access;
use super::hot::{self, Mailbox};
use super::net::{self, Drain, Heartbeat, Permits, Pulse, Server, Takers, Threads, Tls, Workers};
use super::ops::{Ops, Samples, Status};
use super::router::{Gate, Scope};
use super::wire::Budget;
use crate::store::{Diagnose, Store};

/// The sockets that [`serve`] accepts connections from.
pub struct Listeners {
    /// For clients that lease keys.
    pub main: TcpListener,
    /// For operators. It serves all routes, and the main one then serves the API alone.
    pub admin: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    /// One listener for clients and operators.
    fn from(main: TcpListener) -> Self {
        Self { main, admin: None }
    }
}

/// Options of [`serve`].
#[derive(Clone)]
pub struct ServeOptions {
    /// How many connections there may be at once. More wait to be accepted.
    pub connections_max: usize,
    /// How many connections one address may have at once, and how many of its requests may wait for a key, if that
    /// is limited. More are closed.
    pub connections_per_peer_max: Option<usize>,
    /// How long a client may do nothing.
    pub timeouts: Timeouts,
    /// How long requests in flight may take once the drain delay is over.
    pub drain_timeout: Duration,
    /// How long connections are still accepted after the shutdown has begun, while `/readyz` answers 503.
    pub drain_delay: Duration,
    /// The tokens, and what they allow.
    pub access: Access,
    /// The certificate and its key. With them, the server speaks TLS only.
    pub tls: Option<Tls>,
    /// The diagnostics of the store, if it has any: for `/stats`, `/metrics` and the dashboard.
    pub diagnose: Option<Arc<dyn Diagnose>>,
    /// How many lines of the log were dropped, for `/metrics`.
    pub log_dropped: Arc<AtomicU64>,
    /// The audit log, if there is one.
    pub audit: Option<AuditLog>,
    /// What to do from time to time, as long as all threads that serve connections make progress.
    pub heartbeat: Option<Heartbeat>,
}

impl ServeOptions {
    /// The default for `connections_max`. A connection needs a file descriptor, and a few kilobytes in the
    /// kernel.
    pub const CONNECTIONS_MAX: usize = 50_000;
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            connections_max: Self::CONNECTIONS_MAX,
            connections_per_peer_max: None,
            timeouts: Timeouts::default(),
            drain_timeout: Duration::from_secs(10),
            drain_delay: Duration::ZERO,
            access: Access::open(),
            tls: None,
            diagnose: None,
            log_dropped: Arc::default(),
            audit: None,
            heartbeat: None,
        }
    }
}

/// Serves `store` over HTTP/1.1 and HTTP/2 (chosen by ALPN with TLS, else by prior knowledge) until
/// `shutdown` is ready. After the drain delay it accepts no more connections, and returns when all requests
/// in flight are answered or the drain timeout is over. Until then the address for operators is served.
///
/// # Errors
///
/// If the system has no more file descriptors or threads.
pub async fn serve<S: Store>(
    listeners: impl Into<Listeners>,
    store: Arc<S>,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let Listeners { main, admin } = listeners.into();
    let timeouts = options.timeouts;
    let connections = Permits::of_peers(options.connections_max, options.connections_per_peer_max);
    let status = Arc::new(Status::new(
        connections,
        options.access.clone(),
        options.log_dropped,
        options.audit.as_ref(),
        options.tls.clone(),
    ));
    let samples = Arc::<Samples>::default();
    let (drain, draining) = watch::channel(());
    let (stop, stopped) = watch::channel(());
    let (end, ended) = watch::channel(());
    let server = |draining: &watch::Receiver<()>, stopped: &watch::Receiver<()>, scope| {
        let (store, stopped) = (Arc::clone(&store), stopped.clone());
        let diagnose = options.diagnose.clone();
        // Clients that do not take their answers must not keep operators from theirs.
        let (budget, is_audited) = (Budget::default(), options.audit.is_some());
        let api = Api { store, stopped, budget, diagnose, is_audited };
        let (status, samples) = (Arc::clone(&status), Arc::clone(&samples));
        let gate =
            Gate::new(Ops { api: api.clone(), status, samples }, options.audit.clone(), scope);
        let (tls, draining) = (options.tls.clone(), draining.clone());
        (api, Arc::new(Server::new(gate, timeouts, tls, draining)))
    };
    let scope = if admin.is_some() { Scope::Api } else { Scope::All };
    let count = Handle::current().metrics().num_workers();
    let (api, main_server) = server(&draining, &stopped, scope);
    let (workers, handovers) = Workers::start(&main_server, count, &stopped)?;
    let mut threads = Threads::default();
    let shared = hot::Shared {
        store: Arc::clone(&store),
        access: options.access.clone(),
        budget: api.budget.clone(),
        timeouts,
        audit: options.audit.clone(),
    };
    let mut for_handshakes = Vec::new();
    for handover in handovers {
        let mailbox = Arc::new(Mailbox::new()?);
        threads.push(Arc::clone(&mailbox));
        for_handshakes.push((handover.clone(), Some(Arc::clone(&mailbox))));
        hot::start(mailbox, handover, shared.clone(), status.metrics.of_thread())?;
    }
    // The hot path speaks TLS, but it shakes no hands: that takes long.
    let takers = if options.tls.is_some() {
        Takers::Workers(for_handshakes)
    } else {
        // They would keep the workers from their end.
        drop(for_handshakes);
        Takers::Hot(threads.mailboxes())
    };
    drop(shared);
    // Its tasks end when this function returns, or when its future is dropped.
    let mut background = JoinSet::new();
    background.spawn(Arc::clone(&samples).sample(api, Arc::clone(&status)));
    let mut operators = None;
    if let Some(admin) = admin {
        // It ends last, so that operators can watch the server while it drains.
        let (workers, handovers) =
            Workers::start(&server(&ended, &ended, Scope::All).1, 1, &ended)?;
        operators = Some(workers);
        let takers = handovers.into_iter().map(|handover| (handover, None)).collect();
        let (permits, mut ended) = (Arc::clone(&status.admin_connections), ended);
        background.spawn(async move {
            tokio::select! {
                () = net::accept(admin, &permits, Takers::Workers(takers)) => {}
                _ = ended.changed() => {}
            }
        });
    }
    let shutdown = async {
        shutdown.await;
        status.set_stopping();
        // From now on clients are told to connect elsewhere.
        drain.send_replace(());
        threads.drain();
        sleep(options.drain_delay).await;
    };
    // In the same task as what accepts connections: if that hangs, there is no beat either.
    let pulse = Pulse::of(&threads, operators.iter().chain([&workers]));
    let mut beating = pin!(pulse.beat(options.heartbeat));
    tokio::select! {
        () = net::accept(main, &status.connections, takers) => {}
        () = shutdown => {}
        never = &mut beating => match never {},
    }
    let drain = Drain { stop, end, threads, workers, operators };
    tokio::select! {
        () = drain.run(options.drain_timeout) => {}
        never = beating => match never {},
    }
    Ok(())
}
