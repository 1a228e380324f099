//! One pool of the store, for operations on it.

use std::sync::Arc;

use super::pools::{Keys, PoolState};
use super::requests::Held;
use super::state::Shared;
use crate::engine::Terms;
use crate::error::Error;
use crate::key::{Lease, Leased};
use crate::pool::PoolId;
use crate::store::operation::Leasing;
use crate::store::port::Stats;
use crate::time::{Clock, Timestamp};

/// A pool, and the store that it is in.
pub(super) struct OnePool<'a, C> {
    pub(super) shared: &'a Shared<C>,
    pub(super) pool: &'a Arc<PoolState>,
}

impl<C> Clone for OnePool<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for OnePool<'_, C> {}

impl<'a, C: Clock> OnePool<'a, C> {
    /// How many keys are handled at a time: then an operation leaves the rest to the sweep, and the sweep
    /// lets others run.
    pub(super) const STEP: usize = 64;

    pub(super) fn keys(&self) -> &'a Keys {
        self.pool.keys()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Makes the sweep look at the pool at `deadline` at the latest.
    pub(super) fn note_deadline(&self, deadline: Timestamp) {
        self.shared.alarm.note_deadline(self.pool, deadline);
    }

    /// Makes the sweep look at the pool.
    pub(super) fn ring(&self) {
        self.shared.alarm.ring(self.pool);
    }

    /// How a key is to be leased.
    pub(super) fn terms<'b>(&self, leasing: &'b Leasing) -> Terms<'b> {
        let lease_ms = leasing.lease_ms.unwrap_or_else(|| self.pool.settings().lease_ttl_ms);
        Terms { lease_ms, label: leasing.label.as_ref(), holder: leasing.holder.as_ref() }
    }

    /// A lease as callers know it: the engine does not know which pool it is.
    pub(super) fn named(&self, lease: Lease) -> Lease {
        Lease { pool: self.pool.id, ..lease }
    }

    /// The same for a lease with the value that it gives.
    pub(super) fn named_with_value(&self, leased: Leased) -> Leased {
        Leased { lease: self.named(leased.lease), ..leased }
    }

    /// The lease that a request has got, with the key's value, if it lasts.
    pub(super) fn lasting(&self, held: Held, now: Timestamp) -> Option<Leased> {
        if held.pool != self.pool.id {
            // A pool of the same name that was deleted.
            return None;
        }
        let leased = self.keys().lasting(&held.id, held.generation, now)?;
        Some(self.named_with_value(leased))
    }

    /// When the sweep must look at the pool again.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let end = self.pool.waiters.lock().next_end();
        let due = self.keys().next_deadline();
        [end, due].into_iter().flatten().min()
    }

    /// Ends the wait of a waiter. False if there is no such waiter.
    pub(super) fn cancel(&self, number: u64) -> bool {
        let waiter = self.pool.waiters.remove(number);
        if let Some(waiter) = &waiter {
            self.complete(waiter, Err(Error::EXHAUSTED));
        }
        waiter.is_some()
    }

    /// Removes some of the keys that are dead. False if none is left.
    pub(super) fn remove_dead(&self) -> bool {
        self.keys().expire(self.now(), Self::STEP) > 0
    }

    /// O(s) for s shards.
    pub(super) fn stats(&self) -> Stats {
        let stats = self.keys().stats();
        Stats {
            keys: stats.keys,
            free: stats.free,
            leased: stats.leased,
            cooling: stats.cooling,
            keys_max: self.pool.settings().keys_max as u64,
            waiting: self.pool.waiters.len() as u64,
            leases_after_waiting: self.pool.waiters.granted(),
            totals: stats.totals,
        }
    }
}

impl<C> Shared<C> {
    /// What there is of a pool, for operations on it. O(1).
    pub(super) fn with<T>(&self, pool: PoolId, act: impl FnOnce(OnePool<'_, C>) -> T) -> Option<T> {
        if pool == PoolId::DEFAULT {
            return Some(act(OnePool { shared: self, pool: self.pools.default() }));
        }
        let pool = self.pools.get(pool)?;
        Some(act(OnePool { shared: self, pool: &pool }))
    }
}
