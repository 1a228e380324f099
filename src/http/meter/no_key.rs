//! Requests for a key that got none, by pool.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::pool::PoolId;

/// The pool in which a request found no key: in an answer of the router, for those that count it.
#[derive(Clone, Copy)]
pub(in crate::http) struct NoKey(pub(in crate::http) PoolId);

/// How many requests found no key, by pool. A pool is known from the first of them on.
#[derive(Default)]
pub(super) struct NoKeys(Mutex<HashMap<PoolId, u64>>);

impl NoKeys {
    /// Counts requests that found no key. O(1).
    pub(super) fn add(&self, pool: PoolId, requests: u64) {
        *self.0.lock().entry(pool).or_default() += requests;
    }

    /// How many there were in a pool. O(1).
    pub(super) fn of(&self, pool: PoolId) -> u64 {
        self.0.lock().get(&pool).copied().unwrap_or(0)
    }

    /// Forgets the pools that are gone. O(p) for p pools.
    pub(super) fn retain(&self, is_there: impl Fn(PoolId) -> bool) {
        let mut counts = self.0.lock();
        counts.retain(|pool, _| is_there(*pool));
        if counts.capacity() > 4 * counts.len() + 16 {
            counts.shrink_to_fit();
        }
    }
}
