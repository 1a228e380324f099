//! How the server is doing: what its operator sees, whether by metrics, by probes or on the page.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::access::Access;
use super::error::Problem;
use super::live::Live;
use super::metrics::Metrics;
use super::route::Route;
use super::{Api, json};
use crate::store::{Stats, Store, Vitals};

/// What a server knows of itself beside its store.
pub(super) struct Status {
    pub(super) metrics: Metrics,
    pub(super) live: Live,
    pub(super) access: Access,
    pub(super) connections: Places,
    /// Those of the second address, so that its clients are heard however many others there are.
    pub(super) admin_connections: Places,
    pub(super) viewers: Places,
    is_ready: AtomicBool,
}

/// So many, and no more.
pub(super) struct Places {
    max: usize,
    free: Arc<Semaphore>,
}

impl Places {
    pub(super) fn new(max: usize) -> Self {
        Self { max, free: Arc::new(Semaphore::new(max)) }
    }

    /// Waits until there is a place, and takes none.
    pub(super) async fn wait(&self) {
        let _free = self.free.acquire().await;
    }

    /// A place, if there is one.
    pub(super) fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.max.saturating_sub(self.free.available_permits())
    }
}

/// What is to be seen at about one moment.
pub(super) struct Reading {
    pub(super) stats: Stats,
    pub(super) vitals: Vitals,
    /// Requests for a key that found none.
    pub(super) empty: u64,
    /// Taken, and all there are.
    pub(super) connections: (usize, usize),
    pub(super) admin_connections: (usize, usize),
    pub(super) viewers: usize,
    pub(super) is_ready: bool,
}

impl Status {
    /// Viewers of the page at once.
    const VIEWERS_MAX: usize = 100;
    /// Connections to the second address at once.
    const ADMIN_CONNECTIONS_MAX: usize = 1000;

    pub(super) fn new(connections_max: usize, access: Access) -> Self {
        Self {
            metrics: Metrics::default(),
            live: Live::default(),
            access,
            connections: Places::new(connections_max),
            admin_connections: Places::new(Self::ADMIN_CONNECTIONS_MAX),
            viewers: Places::new(Self::VIEWERS_MAX),
            is_ready: AtomicBool::new(true),
        }
    }

    /// Tells probes that the server is about to stop.
    pub(super) fn set_stopping(&self) {
        self.is_ready.store(false, SeqCst);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(SeqCst)
    }

    /// Looks at everything. O(s) for s shards.
    pub(super) async fn read<S: Store>(&self, store: &S) -> Reading {
        let empty = [Route::Lease, Route::LeaseOrWait];
        Reading {
            stats: store.stats().await,
            vitals: store.vitals().await,
            empty: empty.into_iter().map(|route| self.metrics.answered(route, 404)).sum(),
            connections: (self.connections.taken(), self.connections.max),
            admin_connections: (self.admin_connections.taken(), self.admin_connections.max),
            viewers: self.viewers.taken(),
            is_ready: self.is_ready(),
        }
    }
}

/// Bytes of the process that are resident, if the system tells.
pub(super) fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// `GET /healthz`: whether the server is alive.
pub(super) async fn health() -> Response {
    json(StatusCode::OK, r#"{"status":"alive"}"#)
}

/// `GET /readyz`: whether the server wants requests.
pub(super) async fn ready<S: Store>(State(api): State<Api<S>>) -> Response {
    if api.status.is_ready() {
        json(StatusCode::OK, r#"{"status":"ready"}"#)
    } else {
        Problem::Stopping.response()
    }
}
