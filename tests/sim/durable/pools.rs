//! The pools on the disk, and what they should be after a crash.

use std::collections::BTreeMap;
use std::sync::Arc;

use token_orchestrator::engine::{
    After, Entry, Journal as PoolChanges, Pool, Restoring, Size, WalkCursor,
};
use token_orchestrator::journal::{
    Begun, DataKey, Durability, Journal, OpenError, PoolJournal, Restorer, Source, Tuning, open,
};
use token_orchestrator::key::KeyInfo;
use token_orchestrator::pool::{PoolName, Settings};
use token_orchestrator::time::{ClockAnchor, Timestamp};

use super::super::disk::SimDisk;
use super::super::same;
use super::steps::{Options, pool_name, settings};

/// So many segments and snapshots come and go.
pub(in crate::sim) const SEGMENT_BYTES: u64 = 6 * 1024;
pub(in crate::sim) const SNAPSHOT_AFTER_BYTES: u64 = 8 * 1024;
/// What has happened, in order.
#[derive(Clone, Debug)]
pub(in crate::sim) enum Event {
    Entry(u32, Entry),
    Pool(u32, PoolName, Settings, Timestamp),
    PoolGone(u32),
}

pub(in crate::sim) type Events = Arc<std::sync::Mutex<Vec<Event>>>;

/// Notes changes on the disk, and for the test.
pub(in crate::sim) struct Both(pub(super) PoolJournal, pub(super) Events, pub(super) u32);

impl PoolChanges for Both {
    fn append(&self, entry: impl FnOnce() -> Entry) {
        let entry = entry();
        self.1.lock().unwrap().push(Event::Entry(self.2, entry.clone()));
        self.0.append(|| entry);
    }
}

pub(in crate::sim) struct OnePool {
    pub(super) name: PoolName,
    pub(in crate::sim) settings: Settings,
    pub(super) since: Option<Timestamp>,
    pub(in crate::sim) keys: Pool<Both>,
}

/// All pools, by number.
pub(in crate::sim) type Pools = BTreeMap<u32, OnePool>;

pub(in crate::sim) fn data_key(options: &Options) -> Option<DataKey> {
    options.sealed.then(|| DataKey::new([7; 32]))
}

type Started = (Pools, u32, Journal, Begun, Option<u64>);

/// Starts, and checks the pools.
pub(in crate::sim) fn start(
    options: &Options,
    disk: &SimDisk,
    events: &Events,
    now: Timestamp,
) -> Result<Started, String> {
    let started = start_unchecked(options, disk, events, now)?;
    started.0.values().for_each(|pool| pool.keys.check_invariants());
    Ok(started)
}

pub(in crate::sim) fn start_unchecked(
    options: &Options,
    disk: &SimDisk,
    events: &Events,
    now: Timestamp,
) -> Result<Started, String> {
    let describe = |error: OpenError| format!("it cannot be opened: {error}");
    let journal = Journal::new();
    let (of_pools, for_pools) = (journal.clone(), Arc::clone(events));
    let make = move |number, settings: Settings| {
        let both = Both(of_pools.of_pool(number), Arc::clone(&for_pools), number);
        Pool::with_journal(settings.into(), Size::growing(4), both)
    };
    let mut restorer = Restorer::new(make, settings(0), Box::new(|_, _| {}));
    let key = data_key(options);
    let opened = open(Arc::new(disk.clone()), key, &|_| None, &mut restorer).map_err(describe)?;
    let found = opened.found.as_ref().map(|found| found.sequence);
    if let Some(found) = &opened.found {
        restorer.raise_generations(found.floor);
    }
    let (found_pools, noted, next_number) = restorer.into_pools();
    let mut pools = Pools::new();
    for (number, pool) in found_pools {
        let keys = pool.keys.finish(now);
        pools.insert(
            number,
            OnePool { name: pool.name, settings: pool.settings, since: pool.since, keys },
        );
    }
    let durability =
        if options.every_second { Durability::EverySecond } else { Durability::Commit };
    let tuning = Tuning {
        durability,
        segment_bytes: SEGMENT_BYTES,
        snapshot_after_bytes: SNAPSHOT_AFTER_BYTES,
    };
    let begun = opened
        .begin(&journal, tuning, noted, ClockAnchor::default(), now)
        .map_err(|error| format!("it cannot begin: {error}"))?;
    Ok((pools, next_number, journal, begun, found))
}

/// Pools as a snapshot sees them.
pub(in crate::sim) struct Walk<'a>(pub(super) &'a Pools, pub(super) Timestamp);

// One thread uses them.
impl Source for Walk<'_> {
    fn walk(
        &self,
        pool: u32,
        cursor: WalkCursor,
        each: &mut dyn FnMut(Entry),
    ) -> Option<WalkCursor> {
        self.0.get(&pool)?.keys.walk_whole(cursor, 4, self.1, each)
    }

    fn now(&self) -> Timestamp {
        self.1
    }

    fn has_room(&self) {}
}

pub(in crate::sim) type Expected = BTreeMap<u32, (PoolName, Settings, Pool)>;

/// The pools after these events, as they are at `now`.
pub(in crate::sim) fn replay(events: &[Event], now: Timestamp) -> Expected {
    let mut pools = BTreeMap::new();
    let make = |settings: Settings| {
        Restoring::new(Pool::with_journal(settings.into(), Size::growing(4), ()))
    };
    pools.insert(0, (pool_name(0), settings(0), make(settings(0))));
    for event in events {
        match event {
            Event::Pool(number, name, settings, at) => {
                let known = pools.entry(*number);
                let (_, now, keys) =
                    known.or_insert_with(|| (name.clone(), *settings, make(*settings)));
                *now = *settings;
                keys.configure((*settings).into(), *at);
            }
            Event::PoolGone(number) => drop(pools.remove(number)),
            Event::Entry(number, entry) => {
                if let Some((_, _, keys)) = pools.get(number) {
                    let is_known = keys.apply(entry);
                    assert!(is_known || matches!(entry.after, After::Gone), "{entry:?}");
                }
            }
        }
    }
    let finish = |(number, (name, settings, keys)): (u32, (PoolName, Settings, Restoring))| {
        (number, (name, settings, keys.finish(now)))
    };
    pools.into_iter().map(finish).collect()
}

pub(in crate::sim) fn compare(
    pools: &Pools,
    expected: &Expected,
    now: Timestamp,
) -> Result<(), String> {
    let names = |pool: &OnePool| (pool.name.clone(), pool.settings);
    let found: Vec<_> = pools.iter().map(|(number, pool)| (*number, names(pool))).collect();
    let wanted: Vec<_> = expected
        .iter()
        .map(|(number, (name, settings, _))| (*number, (name.clone(), *settings)))
        .collect();
    same(&found, &wanted)?;
    for (number, pool) in pools {
        let (.., wanted) = &expected[number];
        let (mut ids, mut wanted_ids) = (pool.keys.ids(), wanted.ids());
        ids.sort();
        wanted_ids.sort();
        same(&ids, &wanted_ids)?;
        for id in &ids {
            // After a loss, generations leave some out: but not those of leases that go on.
            let of_lease = |info: KeyInfo| KeyInfo { generation: info.generation % 2, ..info };
            let at = |pool_get: Result<KeyInfo, _>| pool_get.map(of_lease);
            same(&at(pool.keys.get(id, now)), &at(wanted.get(id, now)))?;
            same(&pool.keys.value_of(id, now), &wanted.value_of(id, now))?;
        }
    }
    Ok(())
}
