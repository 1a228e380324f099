//! The parts of a store in memory.

use std::sync::Arc;

use parking_lot::Mutex;

use super::alarm::Alarm;
use super::creation::Creations;
use super::options::Options;
use super::pools::Pools;
use super::requests::Requests;
use crate::error::Error;
use crate::journal::Journal;
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
    /// Where changes are noted, if they are to survive the process.
    pub(super) journal: Option<Journal>,
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
        Self::with_pools(Pools::new(options), clock, None)
    }

    pub(super) fn with_pools(pools: Pools, clock: C, journal: Option<Journal>) -> Self {
        let (alarm, requests, creations, given_up) = Default::default();
        let shared = Shared { pools, clock, journal, alarm, requests, creations, given_up };
        Self { shared: Arc::new(shared) }
    }

    /// The default pool, for tests to look at.
    #[cfg(test)]
    pub(crate) fn pool(&self) -> &super::pools::Keys {
        self.shared.pools.default().keys()
    }
}

impl<C> Shared<C> {
    /// Refuses a change if the disk has no room for it. O(1).
    ///
    /// # Errors
    ///
    /// [`Error::StorageFull`]
    pub(super) fn check_room(&self) -> Result<(), Error> {
        if self.is_full() { Err(Error::StorageFull) } else { Ok(()) }
    }

    /// Whether the disk has no room for changes. O(1).
    pub(super) fn is_full(&self) -> bool {
        self.journal.as_ref().is_some_and(Journal::is_full)
    }
}
