//! Pools that are being restored from a directory.

use std::collections::BTreeMap;

use super::buffers::Pools;
use super::record::Record;
use super::recovery::{Replay, Unknown};
use crate::engine::{After, Entry, Journal, Pool, Restoring};
use crate::pool::{PoolName, Settings};
use crate::time::Timestamp;

/// A pool that is being restored.
pub(crate) struct RestoringPool<J: Journal> {
    pub(crate) name: PoolName,
    pub(crate) settings: Settings,
    /// Since when it has these settings; `None` if no record says so.
    pub(crate) since: Option<Timestamp>,
    pub(crate) keys: Restoring<J>,
}

/// Pools that are being restored.
pub(crate) struct Restorer<J: Journal, M> {
    /// Makes an empty pool with a number and settings.
    make: M,
    pools: BTreeMap<u32, RestoringPool<J>>,
    /// Changes of settings that come before the other records of their frame, though some of the keys in it have changed
    /// earlier. A pool only remembers its last change, so it gets them when it has those keys.
    changes: Vec<(u32, Settings, Timestamp)>,
    /// No pool has had a number from this on.
    next_number: u32,
    floor: u64,
    /// How many records of new keys there may be until dead keys are looked for.
    left: usize,
    report: Box<dyn FnMut(u64, u64)>,
}

impl<J: Journal, M: FnMut(u32, Settings) -> Pool<J>> Restorer<J, M> {
    /// How long dead keys are kept: a thread may be late with an entry, but not as late as that.
    const SLACK_MS: u64 = 10 * 60 * 1000;
    /// Dead keys are looked for once there are so many new ones, or as many as there were.
    const NEW_MIN: usize = 1 << 20;

    /// The default pool, with these settings unless a record says otherwise. `report` is told how far reading has come, in
    /// bytes, of how many.
    pub(crate) fn new(mut make: M, settings: Settings, report: Box<dyn FnMut(u64, u64)>) -> Self {
        let name = PoolName::DEFAULT.parse().expect("it is a name");
        let keys = Restoring::new(make(0, settings));
        let default = RestoringPool { name, settings, since: None, keys };
        let pools = [(0, default)].into();
        let (changes, left) = (Vec::new(), Self::NEW_MIN);
        Self { make, pools, changes, next_number: 1, floor: 0, left, report }
    }

    /// Lets no key have a generation below `floor` from its next change on.
    pub(crate) fn raise_generations(&mut self, floor: u64) {
        self.floor = floor;
        self.pools.values().for_each(|pool| pool.keys.raise_generations(floor));
    }

    /// The pools by number, what is noted of them, and from where on no pool has had a number.
    pub(crate) fn into_pools(mut self) -> (BTreeMap<u32, RestoringPool<J>>, Pools, u32) {
        self.end_frame();
        let noted = |(number, pool): (&u32, &RestoringPool<J>)| {
            Some((*number, (pool.name.clone(), pool.settings, pool.since?)))
        };
        let noted = self.pools.iter().filter_map(noted).collect();
        (self.pools, noted, self.next_number)
    }

    fn configure(&mut self, number: u32, name: PoolName, settings: Settings, at: Timestamp) {
        self.next_number = self.next_number.max(number.saturating_add(1));
        // Of the default pool, a snapshot says the settings since the last time that they were set. What its leases lapse into
        // may have been the same before.
        let is_new = |pool: &RestoringPool<J>| pool.since.is_none() && pool.keys.is_empty();
        if self.pools.get(&number).is_some_and(|pool| !is_new(pool)) {
            self.changes.push((number, settings, at));
            return;
        }
        let keys = Restoring::new((self.make)(number, settings));
        keys.raise_generations(self.floor);
        self.pools.insert(number, RestoringPool { name, settings, since: Some(at), keys });
    }

    fn end_frame(&mut self) {
        for (number, settings, at) in self.changes.drain(..) {
            // It may have been deleted in the same frame.
            if let Some(pool) = self.pools.get_mut(&number) {
                pool.keys.configure(settings.into(), at);
                (pool.settings, pool.since) = (settings, Some(at));
            }
        }
    }
}

impl<J: Journal, M: FnMut(u32, Settings) -> Pool<J>> Replay for Restorer<J, M> {
    fn record(&mut self, record: Record) -> Result<(), Unknown> {
        match record {
            Record::Pool(number, name, settings, at) => self.configure(number, name, settings, at),
            Record::PoolGone(number) => drop(self.pools.remove(&number)),
            Record::Key(number, entry) => {
                if matches!(entry.after, After::Whole { .. }) {
                    self.left = self.left.saturating_sub(1);
                }
                // The pool may have been deleted by then, with all its keys.
                let is_known = self.pools.get(&number).is_none_or(|pool| pool.keys.apply(&entry));
                if let (false, Entry { id, after: After::State(state) }) = (is_known, entry) {
                    return Err(Unknown { id, life_ends: state.life_ends });
                }
            }
        }
        Ok(())
    }

    fn prefetch(&self, records: &[Record]) {
        let key = |record: &Record| match record {
            Record::Key(number, entry) => Some((*number, entry.id)),
            Record::Pool(..) | Record::PoolGone(_) => None,
        };
        let keys: Vec<_> = records.iter().filter_map(key).collect();
        for of_pool in keys.chunk_by(|(a, _), (b, _)| a == b) {
            if let Some(pool) = self.pools.get(&of_pool[0].0) {
                pool.keys.prefetch(of_pool.iter().map(|(_, id)| id));
            }
        }
    }

    fn time(&mut self, at: Timestamp, floor: u64) {
        self.end_frame();
        if floor > self.floor {
            self.raise_generations(floor);
        }
        if self.left == 0 {
            let since = Timestamp::from_ms(at.as_ms().saturating_sub(Self::SLACK_MS));
            self.pools.values().for_each(|pool| pool.keys.forget_dead(since));
            let living = self.pools.values().map(|pool| pool.keys.len()).sum();
            self.left = Self::NEW_MIN.max(living);
        }
    }

    fn progress(&mut self, read: u64, all: u64) {
        (self.report)(read, all);
    }
}
