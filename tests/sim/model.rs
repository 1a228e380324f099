//! The obvious pool: a map, and scans through all of it.

use std::collections::BTreeMap;

use token_orchestrator::error::Error;
use token_orchestrator::key::{KeyId, KeyInfo, Lease, Ttl};
use token_orchestrator::time::Timestamp;

pub(crate) struct Model {
    ttl: Ttl,
    keys_max: usize,
    /// Keys that are dead stay until they are removed, as in the pool.
    keys: BTreeMap<KeyId, KeyInfo>,
}

impl Model {
    pub(crate) fn new(ttl: Ttl, keys_max: usize) -> Self {
        Self { ttl, keys_max, keys: BTreeMap::new() }
    }

    pub(crate) fn room(&self) -> usize {
        self.keys_max - self.keys.len()
    }

    pub(crate) fn create(&mut self, id: KeyId, now: Timestamp) {
        let life_ends = now.plus_ms(self.ttl.key_ttl_ms);
        self.keys.insert(id, KeyInfo { created_at: now, life_ends, lease: None });
    }

    /// A key as it is at `now`.
    pub(crate) fn get(&self, id: &KeyId, now: Timestamp) -> Result<KeyInfo, Error> {
        let info = self.keys.get(id).filter(|info| info.life_ends > now).ok_or(Error::NotFound)?;
        Ok(KeyInfo { lease: info.lease.filter(|lease| lease.until > now), ..*info })
    }

    pub(crate) fn free(&self, now: Timestamp) -> Vec<KeyId> {
        let is_free = |id: &&KeyId| self.get(id, now).is_ok_and(|info| info.lease.is_none());
        self.keys.keys().filter(is_free).copied().collect()
    }

    /// Notes a lease that the pool gave.
    pub(crate) fn lease(&mut self, lease: Lease) {
        self.keys.get_mut(&lease.id).expect("a key of the model").lease = Some(lease);
    }

    pub(crate) fn release(&mut self, id: &KeyId, now: Timestamp) -> Result<(), Error> {
        self.change(id, now, |info| info.lease = None)
    }

    pub(crate) fn keep_alive(&mut self, id: &KeyId, now: Timestamp) -> Result<(), Error> {
        let end = now.plus_ms(self.ttl.key_ttl_ms);
        self.change(id, now, |info| info.life_ends = end)
    }

    pub(crate) fn delete(&mut self, id: &KeyId, now: Timestamp) -> Result<(), Error> {
        self.get(id, now)?;
        self.keys.remove(id);
        Ok(())
    }

    /// Forgets the dead keys that the pool has removed.
    pub(crate) fn bury(&mut self, now: Timestamp, kept: &[KeyId]) {
        self.keys.retain(|id, info| info.life_ends > now || kept.contains(id));
    }

    pub(crate) fn ids(&self) -> Vec<KeyId> {
        self.keys.keys().copied().collect()
    }

    /// All times at which something ends.
    pub(crate) fn deadlines(&self) -> Vec<Timestamp> {
        let ends = |info: &KeyInfo| [Some(info.life_ends), info.lease.map(|lease| lease.until)];
        self.keys.values().flat_map(ends).flatten().collect()
    }

    fn change(
        &mut self,
        id: &KeyId,
        now: Timestamp,
        change: impl FnOnce(&mut KeyInfo),
    ) -> Result<(), Error> {
        self.get(id, now)?;
        change(self.keys.get_mut(id).expect("it is there"));
        Ok(())
    }
}
