//! The table of records, each of which only one thread changes at a time.
//!
//! Who only looks shuts others out, too. To share a lock, one must read how many have it before one
//! more can be counted. If another thread wrote it last, the processor fetches it twice: to read,
//! then to write. Two threads that look up one key do half as much again since they do not share;
//! where keys are spread it costs 2 to 3 % at most (bench `threads`).

use std::hash::BuildHasher;
use std::ops::{Deref, DerefMut};
use std::slice::from_ref;

use dashmap::{DashMap, Entry};
use prefetch_index::prefetch_index;

use super::handle::{Handle, Sharding};
use super::record::Record;

/// A table for no more records than this is not made smaller.
const TABLE_MIN: usize = 64;

pub(super) struct Records {
    sharding: Sharding,
    map: DashMap<Handle, Record, Sharding>,
}

/// Asks the memory for the cache line at an address, whatever is there. By way of a slice without
/// items, as that is the safe way; nothing happens on processors for which that has none.
fn prefetch(address: usize) {
    let nothing: &[u8] = &[];
    prefetch_index(nothing, address.wrapping_sub(nothing.as_ptr().addr()));
}

impl Records {
    pub(super) fn new(sharding: Sharding) -> Self {
        let map = DashMap::with_hasher_and_shard_amount(sharding, sharding.count());
        Self { sharding, map }
    }

    /// A record, and a guard that keeps it as it is. O(1).
    pub(super) fn get(&self, key: Handle) -> Option<impl Deref<Target = Record>> {
        self.get_mut(key)
    }

    /// A record, and a guard that keeps others from it. O(1).
    pub(super) fn get_mut(&self, key: Handle) -> Option<impl DerefMut<Target = Record>> {
        self.map.get_mut(&key)
    }

    /// Asks the memory for what look-ups of these keys read, and waits for nothing: a table that
    /// another thread is at is left out. O(k) for k keys.
    pub(super) fn prefetch(&self, keys: impl Iterator<Item = Handle> + Clone) {
        let table_of = |key| self.map.shards()[self.sharding.shard_of(key)].try_write();
        for key in keys.clone() {
            let Some(table) = table_of(key) else { continue };
            // Behind its places, `hashbrown` keeps a byte for each: it looks at 16 of these first.
            let places = table.buckets() as u64;
            let place = usize::try_from(self.sharding.hash_one(key) & (places - 1)).unwrap_or(0);
            let bytes = table.data_end().addr().get() + place;
            prefetch(bytes);
            prefetch(bytes + 15);
        }
        for key in keys {
            let Some(table) = table_of(key) else { continue };
            // What these bytes point to is asked for, but not looked at.
            let _ = table.find(self.sharding.hash_one(key), |place| {
                prefetch_index(from_ref(place), 0);
                prefetch_index(from_ref(place), 1);
                false
            });
        }
    }

    /// Adds the record that `make` makes, and calls `then` before others may change it. False, and
    /// nothing happens, if there is one for that key. O(1) amortised.
    pub(super) fn add(
        &self,
        key: Handle,
        make: impl FnOnce() -> Record,
        then: impl FnOnce(&Record),
    ) -> bool {
        let Entry::Vacant(place) = self.map.entry(key) else { return false };
        then(&place.insert(make()));
        true
    }

    /// Removes a record if it is there and `dies` wants it, which may change it if not. O(1).
    pub(super) fn remove_if(
        &self,
        key: Handle,
        dies: impl FnOnce(&mut Record) -> bool,
    ) -> Option<Record> {
        self.map.remove_if_mut(&key, |_, record| dies(record)).map(|(_, record)| record)
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn for_each(&self, mut look: impl FnMut(Handle, &Record)) {
        self.map.iter().for_each(|entry| look(*entry.key(), &entry));
    }

    /// Gives memory back if less than a quarter of a shard's table is used. O(1) amortised over
    /// the keys that were removed since.
    pub(super) fn shrink_shard_of(&self, key: Handle) {
        let mut table = self.map.shards()[self.sharding.shard_of(key)].write();
        if table.capacity() > TABLE_MIN && table.len() < table.capacity() / 4 {
            let room = table.len() * 2;
            table.shrink_to(room, |(key, _)| self.sharding.hash_one(key));
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.map.capacity()
    }
}
