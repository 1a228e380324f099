//! The parts of a store in memory.

use std::sync::Arc;

use parking_lot::Mutex;

use super::alarm::Alarm;
use super::creation::Creations;
use super::queue::Waiters;
use super::requests::Requests;
use crate::engine::Pool;
use crate::key::{Lease, Ttl};
use crate::time::Clock;

/// Options of [`Memory::new`].
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long keys live and leases last.
    pub ttl: Ttl,
    /// The most keys there may be at once.
    pub keys_max: usize,
    /// The number of shards, a power of two from 2 to 4096.
    pub shards: usize,
    /// The most clients that may wait for a key at once.
    pub waiters_max: usize,
}

impl Options {
    /// Enough that threads seldom meet in one, and few enough that a walk over them is short.
    pub const SHARDS: usize = 256;
    /// So many keys take about 1.3 GB.
    pub const KEYS_MAX: usize = 10_000_000;
    /// So many clients take about 2 MB over HTTP/1.1, with TLS or without, and 40 MB over HTTP/2, beside their
    /// connections. The memory is given back when they have gone.
    pub const WAITERS_MAX: usize = 10_000;
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ttl: Ttl::default(),
            keys_max: Self::KEYS_MAX,
            shards: Self::SHARDS,
            waiters_max: Self::WAITERS_MAX,
        }
    }
}

/// A [`Store`](crate::store::Store) in memory. Clones share their keys. It needs [`Memory::sweep`] to run.
#[derive(Clone)]
pub struct Memory<C> {
    pub(super) shared: Arc<Shared<C>>,
}

pub(super) struct Shared<C> {
    pub(super) pool: Pool,
    pub(super) clock: C,
    /// What wakes the sweep.
    pub(super) alarm: Alarm,
    pub(super) waiters: Waiters,
    /// Leases whose requests have keys.
    pub(super) requests: Requests,
    /// Creations of many keys, for the sweep to carry out.
    pub(super) creations: Mutex<Creations>,
    /// Leases that no client has received, for the sweep to take back.
    pub(super) given_up: Mutex<Vec<Lease>>,
}

impl<C: Clock> Memory<C> {
    /// An empty store. It starts no task: run [`Memory::sweep`]. O(s) for s shards.
    ///
    /// # Panics
    ///
    /// As [`Pool::new`] does.
    #[must_use]
    pub fn new(options: Options, clock: C) -> Self {
        let pool = Pool::new(options.ttl, options.keys_max, options.shards);
        let waiters = Waiters::new(options.waiters_max);
        let requests = Requests::new(options.ttl.key_ttl_ms);
        let (alarm, creations, given_up) = Default::default();
        let shared = Shared { pool, clock, alarm, waiters, requests, creations, given_up };
        Self { shared: Arc::new(shared) }
    }

    /// The pool, for tests to look at.
    #[cfg(test)]
    pub(crate) fn pool(&self) -> &Pool {
        &self.shared.pool
    }
}
