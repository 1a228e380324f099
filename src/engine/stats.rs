//! Counts of what a pool holds.

use std::sync::atomic::Ordering::Relaxed;

use super::Pool;

/// Counts at about one moment. Dead keys count until [`Pool::expire`] has removed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Keys, free and leased, and those that are about to be created.
    pub keys: u64,
    /// Keys that are free.
    pub free: u64,
    /// Hints at free keys that have died and were not yet removed.
    pub stale_hints: u64,
    /// Entries in the index of lives.
    pub life_entries: u64,
    /// Entries in the index of leases.
    pub lease_entries: u64,
}

impl Pool {
    /// Counts without looking at any key. O(s) for s shards.
    pub fn stats(&self) -> Stats {
        let (hints, stale_hints) = self.free.counts();
        Stats {
            keys: self.keys.load(Relaxed) as u64,
            free: hints.saturating_sub(stale_hints),
            stale_hints,
            life_entries: self.lives.len() as u64,
            lease_entries: self.leases.len() as u64,
        }
    }
}
