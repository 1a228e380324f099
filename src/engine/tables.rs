//! The tables of records: one, or two of a pool that began small.

use super::guarded::{Guarded, Look};
use super::halves::{Halves, Size};
use super::lapse::LapseCooldown;
use super::record::Record;
use super::records::Records;
use super::shard::Shard;
use super::short_id::{Sharding, ShortId};
use super::sync::Mutex;
use crate::time::Timestamp;

pub(super) struct Tables {
    halves: Halves<Records>,
    /// What all shards have. Its lock is held while it is changed and while a table is made.
    common: Mutex<Common>,
}

/// What all shards have.
struct Common {
    /// A table that is made later has it as well, as its keys may be restored ones.
    lapse: LapseCooldown,
    /// See [`Shard::floor`].
    floor: u64,
}

impl Common {
    fn table(&self, sharding: Sharding) -> Records {
        let table = Records::new(sharding);
        table.each_shard(|shard| {
            shard.set_lapse(self.lapse);
            shard.raise_floor(self.floor);
        });
        table
    }
}

impl Tables {
    pub(super) fn new(size: Size, lapse_cooldown_ms: u32) -> Self {
        let common = Common { lapse: LapseCooldown::new(lapse_cooldown_ms), floor: 0 };
        let halves = Halves::new(size, |sharding| common.table(sharding));
        Self { halves, common: Mutex::new(common) }
    }

    /// Calls `act` with a record under its guard, if there is one. O(1).
    pub(super) fn with<T>(
        &self,
        key: ShortId,
        now: Timestamp,
        act: impl FnOnce(&mut Guarded<'_>) -> T,
    ) -> Option<T> {
        self.halves.of(key)?.with(key, now, act)
    }

    /// Prefetches what look-ups of these keys read, and waits for nothing. O(k) for k keys.
    pub(super) fn prefetch(&self, keys: impl Iterator<Item = ShortId> + Clone) {
        match self.halves.small_and_large() {
            (Some(small), Some(large)) => {
                small.prefetch(keys.clone().filter(|key| !key.is_large()));
                large.prefetch(keys.filter(|key| key.is_large()));
            }
            // It does no harm to look for what is not there.
            (Some(one), None) | (None, Some(one)) => one.prefetch(keys),
            (None, None) => {}
        }
    }

    /// See [`Records::add`]. O(1) amortised.
    pub(super) fn add(
        &self,
        key: ShortId,
        now: Timestamp,
        claim: impl FnOnce() -> bool,
        make: impl FnOnce(Timestamp) -> Record,
        then: impl FnOnce(&mut Guarded<'_>),
    ) -> bool {
        let table = self.halves.of(key).unwrap_or_else(|| {
            let common = self.common.lock();
            self.halves.make(key, |sharding| common.table(sharding))
        });
        table.add(key, now, claim, make, then)
    }

    /// Removes a record if it is there and `is_removed`, which runs under the guard, says so. O(1).
    pub(super) fn remove_if(
        &self,
        key: ShortId,
        now: Timestamp,
        is_removed: impl FnOnce(&mut Guarded<'_>) -> bool,
    ) -> bool {
        self.halves.of(key).is_some_and(|table| table.remove_if(key, now, is_removed))
    }

    /// Gives memory back if less than a quarter of the shard's table is used. O(1), amortised over the removed
    /// keys.
    pub(super) fn shrink_shard_of(&self, key: ShortId) {
        if let Some(table) = self.halves.of(key) {
            table.shrink_shard_of(key);
        }
    }

    /// How many shards there may be.
    pub(super) fn shard_count(&self) -> usize {
        self.halves.shard_count(Records::shard_count)
    }

    /// See [`Records::look_at_bucket`]. O(1).
    pub(super) fn look_at_bucket(
        &self,
        shard: usize,
        place: u64,
        now: Timestamp,
        look: impl FnMut(Look<'_>),
    ) -> Option<u64> {
        let (table, shard) = self.halves.shard(shard);
        table?.look_at_bucket(shard, place, now, look)
    }

    /// Calls `look` with each shard under its lock. O(s) for s shards.
    pub(super) fn each_shard(&self, mut look: impl FnMut(&Shard)) {
        self.halves.each().for_each(|table| table.each_shard(&mut look));
    }

    /// Calls `look` with each record. O(n).
    pub(super) fn for_each(&self, mut look: impl FnMut(ShortId, &Record)) {
        self.halves.each().for_each(|table| table.for_each(&mut look));
    }

    /// How long keys cool down after leases that have lapsed.
    pub(super) fn lapse_cooldown_ms(&self) -> u32 {
        self.common.lock().lapse.ms
    }

    /// Lets changes of keys give no generation below `floor`. O(s) for s shards.
    pub(super) fn raise_floor(&self, floor: u64) {
        let mut common = self.common.lock();
        self.each_shard(|shard| shard.raise_floor(floor));
        common.floor = floor;
    }

    /// Changes that for leases that lapse after `now`, unless it is the same. `settle` handles first what has
    /// lapsed by now. O(s) for s shards, and what `settle` takes.
    pub(super) fn change_lapse(&self, ms: u32, now: Timestamp, settle: impl FnOnce()) {
        let mut common = self.common.lock();
        if common.lapse.ms != ms {
            settle();
            self.each_shard(|shard| shard.change_lapse(ms, now));
            common.lapse = common.lapse.changed_to(ms, now);
        }
    }
}

#[cfg(test)]
impl Tables {
    pub(super) fn len(&self) -> usize {
        self.halves.each().map(Records::len).sum()
    }

    /// Whether the small and the large table were ever needed.
    #[cfg(not(loom))]
    pub(super) fn made(&self) -> [bool; 2] {
        let (small, large) = self.halves.small_and_large();
        [small.is_some(), large.is_some()]
    }

    #[cfg(not(loom))]
    pub(super) fn capacity(&self) -> usize {
        self.halves.each().map(Records::capacity).sum()
    }
}
