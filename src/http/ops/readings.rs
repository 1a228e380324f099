//! How the server is doing: what its operator sees, whether by metrics, by probes or on the page.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::http::auth::Access;
use crate::http::meter::Metrics;
use crate::http::net::Permits;
use crate::http::route::Route;
use crate::store::{Stats, Store, Vitals};

/// What a server knows of itself beside its store.
pub(in crate::http) struct Status {
    pub(in crate::http) metrics: Arc<Metrics>,
    pub(in crate::http) access: Access,
    pub(in crate::http) connections: Permits,
    /// Those of the second address, so that its clients are heard however many others there are.
    pub(in crate::http) admin_connections: Arc<Permits>,
    pub(in crate::http) viewers: Permits,
    is_ready: AtomicBool,
}

/// What is to be seen at about one moment.
pub(in crate::http) struct Reading {
    pub(in crate::http) stats: Stats,
    pub(in crate::http) vitals: Vitals,
    /// Requests for a key that found none.
    pub(in crate::http) empty: u64,
    /// Taken, and all there are.
    pub(in crate::http) connections: (usize, usize),
    pub(in crate::http) admin_connections: (usize, usize),
    pub(in crate::http) viewers: usize,
    pub(in crate::http) is_ready: bool,
}

impl Status {
    /// Viewers of the page at once.
    const VIEWERS_MAX: usize = 100;
    /// Connections to the second address at once.
    const ADMIN_CONNECTIONS_MAX: usize = 1000;

    pub(in crate::http) fn new(connections_max: usize, access: Access) -> Self {
        Self {
            metrics: Arc::default(),
            access,
            connections: Permits::new(connections_max),
            admin_connections: Arc::new(Permits::new(Self::ADMIN_CONNECTIONS_MAX)),
            viewers: Permits::new(Self::VIEWERS_MAX),
            is_ready: AtomicBool::new(true),
        }
    }

    /// Tells probes that the server is about to stop.
    pub(in crate::http) fn set_stopping(&self) {
        self.is_ready.store(false, SeqCst);
    }

    pub(in crate::http) fn is_ready(&self) -> bool {
        self.is_ready.load(SeqCst)
    }

    /// Looks at everything. O(s) for s shards.
    pub(in crate::http) async fn read<S: Store>(&self, store: &S) -> Reading {
        let empty = [Route::Lease, Route::LeaseOrWait];
        Reading {
            stats: store.stats().await,
            vitals: store.vitals().await,
            empty: empty.into_iter().map(|route| self.metrics.answered(route, 404)).sum(),
            connections: (self.connections.taken(), self.connections.max()),
            admin_connections: (self.admin_connections.taken(), self.admin_connections.max()),
            viewers: self.viewers.taken(),
            is_ready: self.is_ready(),
        }
    }
}

/// Bytes of the process that are resident, if the system tells.
pub(in crate::http) fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
