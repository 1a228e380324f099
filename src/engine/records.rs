//! The table of records. Only one thread at a time reads or changes a record.
//!
//! A look-up, too, takes an exclusive lock. To share a lock, a thread must read how many have it before it
//! can count one more. If another thread wrote it last, the processor fetches the cache line twice: to read,
//! then to write. With exclusive locks, two threads that look up one key do half as much again; where keys
//! are spread, they cost 2 to 3 % at most (bench `threads`).

use std::hash::BuildHasher;
use std::slice::from_ref;

use crossbeam_utils::CachePadded;
use dashmap::{DashMap, Entry};
use prefetch_index::prefetch_index;

use super::guarded::{Guarded, Look};
use super::place;
use super::record::Record;
use super::shard::Shard;
use super::short_id::{Sharding, ShortId};
use crate::time::Timestamp;

/// A table with room for no more records than this is not shrunk.
const TABLE_MIN: usize = 64;

pub(super) struct Records {
    sharding: Sharding,
    map: DashMap<ShortId, Record, Sharding>,
    shards: Box<[CachePadded<Shard>]>,
}

/// Prefetches the cache line at any address.
///
/// The standard library has prefetching only as `unsafe` intrinsics, and `unsafe` is forbidden here.
/// The crate `prefetch-index` wraps it safely for the items of a slice, so this addresses the line
/// from a slice without items. On processors for which the crate has no instruction, nothing happens.
/// Prefetching brought pipelined leases from about 0.70 to about 0.79 of the load test's floor.
fn prefetch(address: usize) {
    let nothing: &[u8] = &[];
    prefetch_index(nothing, address.wrapping_sub(nothing.as_ptr().addr()));
}

impl Records {
    pub(super) fn new(sharding: Sharding) -> Self {
        let map = DashMap::with_hasher_and_shard_amount(sharding, sharding.count());
        Self {
            sharding,
            map,
            shards: (0..sharding.count()).map(|_| CachePadded::default()).collect(),
        }
    }

    fn shard_of(&self, key: ShortId) -> &Shard {
        &self.shards[self.sharding.shard_of(key)]
    }

    /// Calls `act` with a record under its guard, if there is one. O(1).
    pub(super) fn with<T>(
        &self,
        key: ShortId,
        now: Timestamp,
        act: impl FnOnce(&mut Guarded<'_>) -> T,
    ) -> Option<T> {
        let mut record = self.map.get_mut(&key)?;
        let shard = self.shard_of(key);
        Some(act(&mut Guarded::new(key, &mut record, shard, shard.observe(now))))
    }

    /// Prefetches what look-ups of these keys read, and waits for nothing. A table that another thread uses
    /// is left out. O(k) for k keys.
    pub(super) fn prefetch(&self, keys: impl Iterator<Item = ShortId> + Clone) {
        let table_of = |key| self.map.shards()[self.sharding.shard_of(key)].try_write();
        for key in keys.clone() {
            let Some(table) = table_of(key) else { continue };
            // After its buckets, `hashbrown` keeps a byte for each. A look-up reads 16 of these first.
            let buckets = table.buckets() as u64;
            let bucket = usize::try_from(self.sharding.hash_one(key) & (buckets - 1)).unwrap_or(0);
            let bytes = table.data_end().addr().get() + bucket;
            prefetch(bytes);
            prefetch(bytes + 15);
        }
        for key in keys {
            let Some(table) = table_of(key) else { continue };
            // Prefetches the buckets that these bytes point to, and reads none.
            let _ = table.find(self.sharding.hash_one(key), |bucket| {
                prefetch_index(from_ref(bucket), 0);
                prefetch_index(from_ref(bucket), 1);
                false
            });
        }
    }

    /// Adds the record that `make` makes for the shard's time, and calls `then` under its guard. False, and
    /// nothing happens, if the key has a record, or if `claim`, under the same guard, says so. O(1) amortised.
    pub(super) fn add(
        &self,
        key: ShortId,
        now: Timestamp,
        claim: impl FnOnce() -> bool,
        make: impl FnOnce(Timestamp) -> Record,
        then: impl FnOnce(&mut Guarded<'_>),
    ) -> bool {
        let Entry::Vacant(vacant) = self.map.entry(key) else { return false };
        if !claim() {
            return false;
        }
        let shard = self.shard_of(key);
        let now = shard.observe(now);
        then(&mut Guarded::new(key, &mut vacant.insert(make(now)), shard, now));
        true
    }

    /// Removes a record if it is there and `is_removed`, which runs under the guard, says so. O(1).
    pub(super) fn remove_if(
        &self,
        key: ShortId,
        now: Timestamp,
        is_removed: impl FnOnce(&mut Guarded<'_>) -> bool,
    ) -> bool {
        let shard = self.shard_of(key);
        let removed = self.map.remove_if_mut(&key, |_, record| {
            is_removed(&mut Guarded::new(key, record, shard, shard.observe(now)))
        });
        removed.is_some()
    }

    /// Calls `look` with each shard under its lock. O(s) for s shards.
    pub(super) fn each_shard(&self, mut look: impl FnMut(&Shard)) {
        for (table, shard) in self.map.shards().iter().zip(&self.shards) {
            let _locked = table.read();
            look(shard);
        }
    }

    pub(super) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Calls `look` with each record that belongs to the bucket of `place` in a shard's table, in no order, and
    /// returns the place where the next bucket begins, or `None` after the last one. O(1).
    ///
    /// `hashbrown` gives the records of a bucket only to `unsafe` code. But it finds all that have the same
    /// hash, and the hashes of a bucket's records differ in no more than the tag that it compares first.
    pub(super) fn look_at_bucket(
        &self,
        shard: usize,
        place: u64,
        now: Timestamp,
        mut look: impl FnMut(Look<'_>),
    ) -> Option<u64> {
        let (table, shard) = (self.map.shards()[shard].write(), &self.shards[shard]);
        if table.is_empty() {
            return None;
        }
        let now = shard.observe(now);
        let mask = table.buckets() as u64 - 1;
        let bucket = place::bucket(place, mask);
        for tag in 0..1 << Sharding::TAG_BITS {
            let hash = tag << (u64::BITS - Sharding::TAG_BITS) | bucket;
            let _ = table.get(hash, |(key, record)| {
                // Beside them it comes across some that belong to other buckets.
                if self.sharding.hash_one(key) & mask == bucket {
                    look(Look::new(*key, record.get(), shard, now));
                }
                false
            });
        }
        place::next_bucket(place, mask)
    }

    /// Calls `look` with each record. O(n).
    pub(super) fn for_each(&self, mut look: impl FnMut(ShortId, &Record)) {
        self.map.iter().for_each(|entry| look(*entry.key(), &entry));
    }

    /// Gives memory back if less than a quarter of the shard's table is used. O(1), amortised over the
    /// removed keys.
    pub(super) fn shrink_shard_of(&self, key: ShortId) {
        let mut table = self.map.shards()[self.sharding.shard_of(key)].write();
        if table.capacity() > TABLE_MIN && table.len() < table.capacity() / 4 {
            let room = table.len() * 2;
            table.shrink_to(room, |(key, _)| self.sharding.hash_one(key));
        }
    }
}

#[cfg(test)]
impl Records {
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.map.capacity()
    }
}
