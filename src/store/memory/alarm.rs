//! What wakes the sweep.

use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::pools::PoolState;
use crate::time::Timestamp;

/// Wakes the sweep when there is work before the time that it sleeps until.
#[derive(Default)]
pub(super) struct Alarm {
    /// The pools that it is to look at.
    rung: Mutex<Vec<Arc<PoolState>>>,
    pub(super) bell: Notify,
}

impl Alarm {
    /// Makes the sweep look at a pool. O(1).
    pub(super) fn ring(&self, pool: &Arc<PoolState>) {
        if !pool.is_rung.swap(true, SeqCst) {
            self.rung.lock().push(Arc::clone(pool));
        }
        self.bell.notify_one();
    }

    /// Makes the sweep look at a pool if it would otherwise do so only after `deadline`. O(1).
    pub(super) fn note_deadline(&self, pool: &Arc<PoolState>, deadline: Timestamp) {
        if deadline.as_ms() < pool.wakes_ms.load(SeqCst) {
            self.ring(pool);
        }
    }

    /// Takes out the pools that the sweep is to look at. O(1).
    pub(super) fn take_rung(&self) -> Vec<Arc<PoolState>> {
        let rung = take(&mut *self.rung.lock());
        for pool in &rung {
            pool.is_rung.store(false, SeqCst);
        }
        rung
    }
}
