//! The parts of a store in memory.

use std::sync::Arc;

use parking_lot::Mutex;

use super::alarm::Alarm;
use super::creation::Creations;
use super::options::Options;
use super::pools::Pools;
use super::requests::Requests;
use crate::key::Lease;
use crate::time::Clock;

/// A [`Store`](crate::store::Store) in memory. Clones share their keys. It needs [`Memory::sweep`] to run.
#[derive(Clone)]
pub struct Memory<C> {
    pub(super) shared: Arc<Shared<C>>,
}

pub(super) struct Shared<C> {
    pub(super) pools: Pools,
    pub(super) clock: C,
    /// What wakes the sweep.
    pub(super) alarm: Alarm,
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
    /// As [`Pool::new`](crate::engine::Pool::new) does.
    #[must_use]
    pub fn new(options: Options, clock: C) -> Self {
        let pools = Pools::new(options);
        let (alarm, requests, creations, given_up) = Default::default();
        Self { shared: Arc::new(Shared { pools, clock, alarm, requests, creations, given_up }) }
    }

    /// The default pool, for tests to look at.
    #[cfg(test)]
    pub(crate) fn pool(&self) -> &crate::engine::Pool {
        self.shared.pools.default().keys()
    }
}
