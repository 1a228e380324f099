//! What wakes the sweep.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tokio::sync::Notify;

use crate::time::Timestamp;

/// Wakes the sweep when there is work before the deadline that it sleeps until.
#[derive(Default)]
pub(super) struct Alarm {
    /// When the sweep wakes by itself, in milliseconds; 0 while it is awake.
    pub(super) wakes_ms: AtomicU64,
    pub(super) bell: Notify,
}

impl Alarm {
    /// Wakes the sweep.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Wakes the sweep if it would sleep past `deadline`.
    pub(super) fn note_deadline(&self, deadline: Timestamp) {
        if deadline.as_ms() < self.wakes_ms.load(SeqCst) {
            self.ring();
        }
    }
}
