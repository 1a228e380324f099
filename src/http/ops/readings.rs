//! The state of the server, as metrics, probes and the dashboard show it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::SystemTime;

use crate::error::Error;
use crate::http::api::Api;
use crate::http::audit::AuditLog;
use crate::http::auth::Access;
use crate::http::meter::Metrics;
use crate::http::net::{Permits, Tls};
use crate::pool::PoolId;
use crate::store::{IndexSizes, Stats, Store};

/// The state of a server apart from its store.
pub(in crate::http) struct Status {
    pub(in crate::http) metrics: Arc<Metrics>,
    pub(in crate::http) access: Access,
    pub(in crate::http) connections: Permits,
    /// Connections of the address for operators, which so can connect however many clients there are.
    pub(in crate::http) admin_connections: Arc<Permits>,
    pub(in crate::http) viewers: Permits,
    is_ready: AtomicBool,
    log_dropped: Arc<AtomicU64>,
    audit_dropped: Arc<AtomicU64>,
    tls: Option<Tls>,
}

/// The values of about one moment.
pub(in crate::http) struct Reading {
    /// The counts of the store, unless it does not answer.
    pub(in crate::http) stats: Option<Stats>,
    /// The store is being restored, which is no trouble.
    pub(in crate::http) is_starting: bool,
    /// How large the indexes are, if the store has any.
    pub(in crate::http) index_sizes: Option<IndexSizes>,
    /// How far the sweep is behind, if the store has one.
    pub(in crate::http) sweep_lag_ms: Option<u64>,
    /// The number of open connections, and the limit.
    pub(in crate::http) connections: (usize, usize),
    pub(in crate::http) admin_connections: (usize, usize),
    /// Connections that were closed because their addresses had as many as they may.
    pub(in crate::http) connections_refused: u64,
    pub(in crate::http) viewers: usize,
    pub(in crate::http) is_ready: bool,
    /// Lines of the log that were dropped.
    pub(in crate::http) log_dropped: u64,
    /// Lines of the audit log that were lost.
    pub(in crate::http) audit_dropped: u64,
    /// When the certificate of the server expires, if it has one.
    pub(in crate::http) certificate_expires_at: Option<SystemTime>,
}

impl Status {
    /// Open dashboards at once.
    const VIEWERS_MAX: usize = 100;
    /// Connections to the address for operators at once.
    const ADMIN_CONNECTIONS_MAX: usize = 1000;

    pub(in crate::http) fn new(
        connections: Permits,
        access: Access,
        log_dropped: Arc<AtomicU64>,
        audit: Option<&AuditLog>,
        tls: Option<Tls>,
    ) -> Self {
        let is_audited = audit.is_some();
        Self {
            metrics: Arc::default(),
            access,
            connections: connections.audited(is_audited),
            admin_connections: Arc::new(
                Permits::new(Self::ADMIN_CONNECTIONS_MAX).audited(is_audited),
            ),
            viewers: Permits::new(Self::VIEWERS_MAX),
            is_ready: AtomicBool::new(true),
            log_dropped,
            audit_dropped: audit.map(AuditLog::dropped).unwrap_or_default(),
            tls,
        }
    }

    /// Makes `/readyz` answer that the server is stopping.
    pub(in crate::http) fn set_stopping(&self) {
        self.is_ready.store(false, SeqCst);
    }

    pub(in crate::http) fn is_ready(&self) -> bool {
        self.is_ready.load(SeqCst)
    }

    /// Reads all values. O(s) for s shards.
    pub(in crate::http) async fn read<S: Store>(&self, api: &Api<S>) -> Reading {
        let stats = api.store.stats_of(PoolId::DEFAULT).await;
        Reading {
            is_starting: stats == Err(Error::Starting),
            stats: stats.ok(),
            index_sizes: api.index_sizes(PoolId::DEFAULT),
            sweep_lag_ms: api.diagnose.as_ref().map(|store| store.sweep_lag_ms()),
            connections: (self.connections.taken(), self.connections.max()),
            admin_connections: (self.admin_connections.taken(), self.admin_connections.max()),
            connections_refused: self.connections.refused(),
            viewers: self.viewers.taken(),
            is_ready: self.is_ready(),
            log_dropped: self.log_dropped.load(Relaxed),
            audit_dropped: self.audit_dropped.load(Relaxed),
            certificate_expires_at: self.tls.as_ref().and_then(Tls::expires_at),
        }
    }
}

/// Resident memory of the process in bytes, if the system provides it.
pub(in crate::http) fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
