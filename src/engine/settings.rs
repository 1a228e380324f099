//! What an operator may change of a pool while it runs.

use std::sync::atomic::Ordering::Relaxed;
// They order nothing, so the model checker need not see them.
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};

use crate::key::Ttl;
use crate::pool;
use crate::time::Timestamp;

/// What can be changed of a pool while it runs: see [`super::Pool::configure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long keys live. How long leases last if nobody says so is for the pool's store to apply.
    pub ttl: Ttl,
    /// The most keys there may be at once.
    pub keys_max: usize,
    /// How long a key cools down after a lease that ran out, neither renewed nor released, in milliseconds; 0
    /// for not at all.
    pub lapse_cooldown_ms: u32,
}

impl Settings {
    /// So many keys at most, and no cool-down after a lease that ran out. O(1).
    #[must_use]
    pub fn new(ttl: Ttl, keys_max: usize) -> Self {
        Self { ttl, keys_max, lapse_cooldown_ms: 0 }
    }
}

/// The part of a pool's settings that is for the engine.
impl From<pool::Settings> for Settings {
    fn from(settings: pool::Settings) -> Self {
        let key_ttl_ms = settings.key_ttl_ms.unwrap_or(Ttl::NEVER_MS);
        Self {
            ttl: Ttl { key_ttl_ms, lease_ttl_ms: settings.lease_ttl_ms },
            keys_max: settings.keys_max,
            lapse_cooldown_ms: settings.lapse_cooldown_ms,
        }
    }
}

/// The settings of a pool, for all threads, but for the cool-down, which is kept with the shards.
pub(super) struct Live {
    key_ttl_ms: AtomicU64,
    lease_ttl_ms: AtomicU32,
    keys_max: AtomicUsize,
}

impl Live {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            key_ttl_ms: AtomicU64::new(settings.ttl.key_ttl_ms),
            lease_ttl_ms: AtomicU32::new(settings.ttl.lease_ttl_ms),
            keys_max: AtomicUsize::new(settings.keys_max),
        }
    }

    pub(super) fn set(&self, settings: Settings) {
        self.key_ttl_ms.store(settings.ttl.key_ttl_ms, Relaxed);
        self.lease_ttl_ms.store(settings.ttl.lease_ttl_ms, Relaxed);
        self.keys_max.store(settings.keys_max, Relaxed);
    }

    pub(super) fn ttl(&self) -> Ttl {
        Ttl {
            key_ttl_ms: self.key_ttl_ms.load(Relaxed),
            lease_ttl_ms: self.lease_ttl_ms.load(Relaxed),
        }
    }

    pub(super) fn life_ends(&self, now: Timestamp) -> Timestamp {
        self.ttl().life_ends(now)
    }

    pub(super) fn keys_max(&self) -> usize {
        self.keys_max.load(Relaxed)
    }
}
