//! The table of records for the model checker: for each shard, a map behind a lock. It assumes that the real
//! table's locks exclude threads in the same way: `dashmap` is not under test.

use std::collections::HashMap;

use ::loom::sync::MutexGuard;

use super::guarded::{Guarded, Look};
use super::record::Record;
use super::shard::Shard;
use super::short_id::{Sharding, ShortId};
use super::sync::Mutex;
use crate::time::Timestamp;

type Map = HashMap<ShortId, Record, Sharding>;

pub(in crate::engine) struct Records {
    sharding: Sharding,
    shards: Vec<Mutex<(Map, Shard)>>,
}

impl Records {
    pub(in crate::engine) fn new(sharding: Sharding) -> Self {
        let shard = |_| Mutex::new((HashMap::with_hasher(sharding), Shard::default()));
        Self { sharding, shards: (0..sharding.count()).map(shard).collect() }
    }

    fn shard_of(&self, key: ShortId) -> MutexGuard<'_, (Map, Shard)> {
        self.shards[self.sharding.shard_of(key)].lock()
    }

    pub(in crate::engine) fn with<T>(
        &self,
        key: ShortId,
        now: Timestamp,
        act: impl FnOnce(&mut Guarded<'_>) -> T,
    ) -> Option<T> {
        let mut locked = self.shard_of(key);
        let (map, shard) = &mut *locked;
        let record = map.get_mut(&key)?;
        Some(act(&mut Guarded::new(key, record, shard, shard.observe(now))))
    }

    #[expect(clippy::unused_self, reason = "the real one has memory to ask for")]
    pub(in crate::engine) fn prefetch(&self, _: impl Iterator<Item = ShortId> + Clone) {}

    pub(in crate::engine) fn add(
        &self,
        key: ShortId,
        now: Timestamp,
        claim: impl FnOnce() -> bool,
        make: impl FnOnce(Timestamp) -> Record,
        then: impl FnOnce(&mut Guarded<'_>),
    ) -> bool {
        let mut locked = self.shard_of(key);
        let (map, shard) = &mut *locked;
        if map.contains_key(&key) || !claim() {
            return false;
        }
        let now = shard.observe(now);
        then(&mut Guarded::new(key, map.entry(key).or_insert(make(now)), shard, now));
        true
    }

    pub(in crate::engine) fn remove_if(
        &self,
        key: ShortId,
        now: Timestamp,
        is_removed: impl FnOnce(&mut Guarded<'_>) -> bool,
    ) -> bool {
        let mut locked = self.shard_of(key);
        let (map, shard) = &mut *locked;
        let Some(record) = map.get_mut(&key) else { return false };
        let is_removed = is_removed(&mut Guarded::new(key, record, shard, shard.observe(now)));
        if is_removed {
            map.remove(&key);
        }
        is_removed
    }

    pub(in crate::engine) fn each_shard(&self, mut look: impl FnMut(&Shard)) {
        self.shards.iter().for_each(|shard| look(&shard.lock().1));
    }

    pub(in crate::engine) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// All records of the shard: as if its table had a single bucket.
    pub(in crate::engine) fn look_at_bucket(
        &self,
        shard: usize,
        _: u64,
        now: Timestamp,
        mut look: impl FnMut(Look<'_>),
    ) -> Option<u64> {
        let locked = self.shards[shard].lock();
        let (map, shard) = &*locked;
        let now = shard.observe(now);
        map.iter().for_each(|(key, record)| look(Look::new(*key, record, shard, now)));
        None
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().0.len()).sum()
    }

    pub(in crate::engine) fn for_each(&self, mut look: impl FnMut(ShortId, &Record)) {
        for shard in &self.shards {
            shard.lock().0.iter().for_each(|(key, record)| look(*key, record));
        }
    }

    /// Its memory is not under test.
    #[expect(clippy::unused_self, reason = "the real one needs it")]
    pub(in crate::engine) fn shrink_shard_of(&self, _: ShortId) {}
}
