//! Counts: what a pool holds, and what has happened in it.

use std::sync::atomic::Ordering::Relaxed;

use crossbeam_utils::CachePadded;

use super::Pool;
use super::handle::Handle;
use super::sync::{AtomicU64, unless_checked};

/// Counts at about one moment. Dead keys count until [`Pool::expire`] has removed them, and so
/// does a lease or a cool-down whose time is over until somebody has noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Keys.
    pub keys: u64,
    /// Keys that are free.
    pub free: u64,
    /// Keys that are leased.
    pub leased: u64,
    /// Keys that were released and rest.
    pub cooling: u64,
    /// Places in the free vectors: one for each free key, and the stale ones.
    pub hints: u64,
    /// Hints at keys that died or were rested while they were free, and that were not yet removed.
    pub stale_hints: u64,
    /// Entries in the index of lives.
    pub life_entries: u64,
    /// Entries in the index of holds: leases and cool-downs.
    pub hold_entries: u64,
    /// What has happened since the pool was made.
    pub totals: Totals,
}

/// How often things have happened.
///
/// At every moment `created` is the sum of `expired`, `deleted` and the keys there are; `leases` that of
/// `releases`, `lease_timeouts`, `leases_lost` and the keys that are leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Keys created.
    pub created: u64,
    /// Leases given.
    pub leases: u64,
    /// Leases given back.
    pub releases: u64,
    /// Leases that ran out.
    pub lease_timeouts: u64,
    /// Leases that ended because their key died or was deleted.
    pub leases_lost: u64,
    /// Keys that died.
    pub expired: u64,
    /// Keys deleted.
    pub deleted: u64,
    /// Requests that were refused because their lease was over: see [`crate::key::Fence`].
    pub stale_refusals: u64,
}

/// What is counted.
#[derive(Clone, Copy)]
pub(super) enum Event {
    Created,
    Leased,
    Released,
    LeaseTimeout,
    LeaseLost,
    Expired,
    Deleted,
    StaleRefusal,
    CoolDown,
    CoolDownEnd,
}

/// Counters in stripes, so that threads seldom write the same line.
pub(super) struct Counters {
    stripes: Box<[CachePadded<[AtomicU64; Self::EVENTS]>]>,
}

impl Counters {
    const EVENTS: usize = Event::CoolDownEnd as usize + 1;
    const STRIPES: usize = unless_checked(64);

    pub(super) fn new() -> Self {
        Self { stripes: (0..Self::STRIPES).map(|_| CachePadded::default()).collect() }
    }

    /// Counts what happened to `key`. O(1).
    pub(super) fn add(&self, key: Handle, event: Event) {
        self.stripes[key.stripe(Self::STRIPES)][event as usize].fetch_add(1, Relaxed);
    }

    fn sum(&self, event: Event) -> u64 {
        self.stripes.iter().map(|stripe| stripe[event as usize].load(Relaxed)).sum()
    }

    /// The totals, and how many keys are cooling.
    fn totals(&self) -> (Totals, u64) {
        // Ends first, so that none is counted without its beginning.
        let [releases, lease_timeouts, leases_lost, expired, deleted, rested] = [
            Event::Released,
            Event::LeaseTimeout,
            Event::LeaseLost,
            Event::Expired,
            Event::Deleted,
            Event::CoolDownEnd,
        ]
        .map(|event| self.sum(event));
        let cooling = self.sum(Event::CoolDown).saturating_sub(rested);
        let (leases, created) = (self.sum(Event::Leased), self.sum(Event::Created));
        let stale_refusals = self.sum(Event::StaleRefusal);
        let totals = Totals {
            created,
            leases,
            releases,
            lease_timeouts,
            leases_lost,
            expired,
            deleted,
            stale_refusals,
        };
        (totals, cooling)
    }
}

impl Totals {
    fn keys(&self) -> u64 {
        self.created.saturating_sub(self.expired + self.deleted)
    }

    fn leased(&self) -> u64 {
        self.leases.saturating_sub(self.releases + self.lease_timeouts + self.leases_lost)
    }
}

impl Pool {
    /// Counts without looking at any key. O(s) for s shards.
    pub fn stats(&self) -> Stats {
        let (totals, cooling) = self.counters.totals();
        let (keys, leased) = (totals.keys(), totals.leased());
        Stats {
            keys,
            free: keys.saturating_sub(leased + cooling),
            leased,
            cooling,
            hints: self.free.len(),
            stale_hints: self.free.stale(),
            life_entries: self.lives.len() as u64,
            hold_entries: self.holds.len() as u64,
            totals,
        }
    }
}
