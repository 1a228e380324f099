//! The table of records as the model checker sees it: a map behind a lock for each shard. That
//! these shut others out is taken for granted of the real table: `dashmap` is not under test here.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use loom::sync::MutexGuard;

use super::handle::{Handle, Sharding};
use super::record::Record;
use super::sync::Mutex;

type Map = HashMap<Handle, Record, Sharding>;

pub(super) struct Records {
    sharding: Sharding,
    shards: Vec<Mutex<Map>>,
}

struct Guard<'a> {
    map: MutexGuard<'a, Map>,
    key: Handle,
}

impl Deref for Guard<'_> {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.map[&self.key]
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut Record {
        self.map.get_mut(&self.key).expect("it was there, and is locked")
    }
}

impl Records {
    pub(super) fn new(sharding: Sharding) -> Self {
        let shard = |_| Mutex::new(HashMap::with_hasher(sharding));
        Self { sharding, shards: (0..sharding.count()).map(shard).collect() }
    }

    fn shard_of(&self, key: Handle) -> MutexGuard<'_, Map> {
        self.shards[self.sharding.shard_of(key)].lock()
    }

    pub(super) fn get(&self, key: Handle) -> Option<impl Deref<Target = Record>> {
        self.get_mut(key)
    }

    pub(super) fn get_mut(&self, key: Handle) -> Option<impl DerefMut<Target = Record>> {
        let map = self.shard_of(key);
        map.contains_key(&key).then_some(Guard { map, key })
    }

    #[expect(clippy::unused_self, reason = "the real one has memory to ask for")]
    pub(super) fn prefetch(&self, _: impl Iterator<Item = Handle> + Clone) {}

    pub(super) fn add(
        &self,
        key: Handle,
        make: impl FnOnce() -> Record,
        then: impl FnOnce(&Record),
    ) -> bool {
        let mut map = self.shard_of(key);
        let is_new = !map.contains_key(&key);
        if is_new {
            then(map.entry(key).or_insert(make()));
        }
        is_new
    }

    pub(super) fn remove_if(
        &self,
        key: Handle,
        dies: impl FnOnce(&mut Record) -> bool,
    ) -> Option<Record> {
        let mut map = self.shard_of(key);
        if dies(map.get_mut(&key)?) { map.remove(&key) } else { None }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    pub(super) fn for_each(&self, mut look: impl FnMut(Handle, &Record)) {
        for shard in &self.shards {
            shard.lock().iter().for_each(|(key, record)| look(*key, record));
        }
    }

    /// Its memory is not under test.
    #[expect(clippy::unused_self, reason = "the real one needs it")]
    pub(super) fn shrink_shard_of(&self, _: Handle) {}
}
