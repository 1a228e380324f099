//! Where everything comes together: the store, what listens, and what serves.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::api::{Api, Limits};
use super::auth::Access;
use super::hot::{self, Mailbox};
use super::net::{self, Drain, Server, Threads, Tls};
use super::ops::{Ops, Samples, Status};
use super::router::{Scope, router};
use super::wire::Budget;
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
    let ServeOptions { head_timeout, limits, .. } = options;
    let status = Arc::new(Status::new(options.connections_max, options.access.clone()));
    let samples = Arc::<Samples>::default();
    let (stop, stopped) = watch::channel(());
    let (end, ended) = watch::channel(());
    let budget = Budget::default();
    let server = |stopped: &watch::Receiver<()>, scope| {
        let (store, stopped) = (Arc::clone(&store), stopped.clone());
        let api = Api { store, limits, stopped, budget: budget.clone() };
        let (status, samples) = (Arc::clone(&status), Arc::clone(&samples));
        let router = router(Ops { api, status, samples }, scope);
        Arc::new(Server::new(router, head_timeout, options.tls.clone()))
    };
    let (handover, others) = mpsc::unbounded_channel();
    let mut threads = Threads::default();
    let shared = hot::Shared {
        store: Arc::clone(&store),
        access: options.access.clone(),
        metrics: Arc::clone(&status.metrics),
        head_timeout,
    };
    // Over TLS, input means nothing to the hot path.
    let workers = Handle::current().metrics().num_workers();
    for _ in 0..if options.tls.is_none() { workers } else { 0 } {
        let mailbox = Arc::new(Mailbox::new()?);
        threads.push(Arc::clone(&mailbox));
        hot::start(mailbox, handover.clone(), shared.clone())?;
    }
    drop(shared);
    // What still runs in here ends when this returns.
    let mut beside = JoinSet::new();
    beside.spawn(Arc::clone(&samples).sample(Arc::clone(&store), Arc::clone(&status)));
    let mut rest = JoinSet::new();
    let scope = if admin.is_some() { Scope::Api } else { Scope::All };
    rest.spawn(net::take_over(server(&stopped, scope), others, stopped));
    let mut operators = JoinSet::new();
    if let Some(admin) = admin {
        // Operators go on watching while requests are finished.
        let permits = Arc::clone(&status.admin_connections);
        operators.spawn(net::accept(server(&ended, Scope::All), admin, permits, ended));
    }
    let shutdown = async {
        shutdown.await;
        status.set_stopping();
        sleep(options.drain_delay).await;
    };
    tokio::select! {
        () = net::hand_out(main, &status.connections, &threads, handover) => {}
        () = shutdown => {}
    }
    Drain { stop, end, threads, rest, operators }.run(options.drain_timeout).await;
    Ok(())
}
