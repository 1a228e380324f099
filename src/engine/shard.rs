//! What a pool keeps for each shard of its records: the latest time seen there, counters, how long keys cool
//! down after leases that have lapsed, and what keys have of their own.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, MutexGuard};

use super::lapse::LapseCooldown;
use super::own::Own;
use crate::time::Timestamp;

/// What has happened to keys.
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

impl Event {
    pub(super) const COUNT: usize = Self::CoolDownEnd as usize + 1;
}

/// How often each [`Event`] has happened.
pub(super) type Counts = [u64; Event::COUNT];

/// The state of one shard beside its records.
///
/// It is read and written only under the guard of a record of the shard, or under the shard's lock. So it
/// always agrees with the records, and plain loads and stores of the atomics are enough.
#[derive(Default)]
pub(super) struct Shard {
    seen_ms: AtomicU64,
    counts: [AtomicU64; Event::COUNT],
    /// A [`LapseCooldown`].
    lapse_changed_ms: AtomicU64,
    lapse_ms: AtomicU32,
    lapse_before_ms: AtomicU32,
    /// See [`Shard::floor`].
    floor: AtomicU64,
    /// What keys of the shard have of their own, if any has something.
    own: Mutex<Option<Box<Own>>>,
}

impl Shard {
    /// How long keys cool down after leases that have lapsed.
    pub(super) fn lapse(&self) -> LapseCooldown {
        LapseCooldown {
            ms: self.lapse_ms.load(Relaxed),
            before_ms: self.lapse_before_ms.load(Relaxed),
            changed_at: Timestamp::from_ms(self.lapse_changed_ms.load(Relaxed)),
        }
    }

    /// Lets keys cool down for `ms` milliseconds after leases that lapse later than `now`, and than what the
    /// shard has seen.
    pub(super) fn change_lapse(&self, ms: u32, now: Timestamp) {
        self.set_lapse(self.lapse().changed_to(ms, self.observe(now)));
    }

    /// The first generation that changes of keys may give. It is even.
    pub(super) fn floor(&self) -> u64 {
        self.floor.load(Relaxed)
    }

    /// Changes the first generation that changes of keys may give.
    pub(super) fn raise_floor(&self, floor: u64) {
        self.floor.store(floor, Relaxed);
    }

    /// Lets keys cool down like that after leases that have lapsed.
    pub(super) fn set_lapse(&self, lapse: LapseCooldown) {
        self.lapse_ms.store(lapse.ms, Relaxed);
        self.lapse_before_ms.store(lapse.before_ms, Relaxed);
        self.lapse_changed_ms.store(lapse.changed_at.as_ms(), Relaxed);
    }

    /// The time of an operation that was called with `now`: never before that of an earlier operation on this
    /// shard.
    ///
    /// A thread may be delayed between reading a clock and taking the guard. Without this it could revive
    /// what another thread has already shown as over.
    pub(super) fn observe(&self, now: Timestamp) -> Timestamp {
        let seen = Timestamp::from_ms(self.seen_ms.load(Relaxed));
        if now > seen {
            self.seen_ms.store(now.as_ms(), Relaxed);
        }
        now.max(seen)
    }

    /// What keys of the shard have of their own.
    pub(super) fn own(&self) -> MutexGuard<'_, Option<Box<Own>>> {
        self.own.lock()
    }

    pub(super) fn count(&self, event: Event) {
        let count = &self.counts[event as usize];
        count.store(count.load(Relaxed) + 1, Relaxed);
    }

    /// Takes back a count.
    pub(super) fn uncount(&self, event: Event) {
        let count = &self.counts[event as usize];
        count.store(count.load(Relaxed) - 1, Relaxed);
    }

    /// Adds the counts of this shard to `sums`.
    pub(super) fn add_to(&self, sums: &mut Counts) {
        for (sum, count) in sums.iter_mut().zip(&self.counts) {
            *sum += count.load(Relaxed);
        }
    }
}
