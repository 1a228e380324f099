//! Limits of how many connections there may be at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::api::{Peers, Place};

/// A limit, and how much of it is taken. A permit is given back when it is dropped.
pub(in crate::http) struct Permits {
    max: usize,
    free: Arc<Semaphore>,
    /// Where each address has a limit as well.
    peers: Option<Arc<Peers>>,
    /// Whether places keep the addresses of their clients, for the audit log.
    keeps_addresses: bool,
    refused: AtomicU64,
}

impl Permits {
    pub(in crate::http) fn new(max: usize) -> Self {
        Self::of_peers(max, None)
    }

    /// At most `per_peer` permits for each address, if there is such a limit.
    pub(in crate::http) fn of_peers(max: usize, per_peer: Option<usize>) -> Self {
        let (free, peers) = (Arc::new(Semaphore::new(max)), per_peer.map(Peers::new));
        Self { max, free, peers, keeps_addresses: false, refused: AtomicU64::default() }
    }

    /// The same, with places that keep the addresses of their clients if there is an audit log.
    pub(in crate::http) fn audited(self, is_audited: bool) -> Self {
        Self { keeps_addresses: is_audited, ..self }
    }

    /// Waits until there is a permit, and takes none.
    pub(in crate::http) async fn wait(&self) {
        let _free = self.free.acquire().await;
    }

    /// A permit, if there is one.
    pub(in crate::http) fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// A place for a connection from this address, if there is one.
    pub(in crate::http) fn try_enter(&self, address: SocketAddr) -> Option<Place> {
        let permit = self.try_take()?;
        let kept = self.keeps_addresses.then_some(address);
        let Some(peers) = &self.peers else { return Some(Place::new(permit, None, kept)) };
        let Some(peer) = peers.enter(address.ip()) else {
            self.refused.fetch_add(1, Relaxed);
            return None;
        };
        Some(Place::new(permit, Some(peer), kept))
    }

    /// How many permits there are, taken or not.
    pub(in crate::http) fn max(&self) -> usize {
        self.max
    }

    /// How many permits are taken.
    pub(in crate::http) fn taken(&self) -> usize {
        self.max.saturating_sub(self.free.available_permits())
    }

    /// How many connections were refused because their addresses had as many as they may.
    pub(in crate::http) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}
