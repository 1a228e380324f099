//! The journal on a disk that fails: after each crash, what is restored is what the acknowledged operations allow.
//!
//! One thread changes pools, commits, writes snapshots and crashes, in random order. What may be restored is known: the
//! state at one of the commits, not before the last one that was acknowledged.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use token_orchestrator::engine::{
    After, Entry, Journal as PoolChanges, NewKey, Pool, Restoring, Size, Terms, WalkCursor,
};
use token_orchestrator::journal::{
    Begun, DataKey, Disk, Durability, Journal, OpenError, PoolJournal, Restorer, Source, Tuning,
    WriteError, open,
};
use token_orchestrator::key::{Fence, Holder, KeyId, KeyInfo, Label, Value};
use token_orchestrator::pool::{PoolName, Settings};
use token_orchestrator::time::{ClockAnchor, Timestamp};

use super::disk::SimDisk;
use super::{Tries, same, try_cases};

/// So many segments and snapshots come and go.
const SEGMENT_BYTES: u64 = 16 * 1024;
const SNAPSHOT_AFTER_BYTES: u64 = 8 * 1024;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Create {
        pool: usize,
        own: bool,
    },
    Lease {
        pool: usize,
        ms: u32,
        held: bool,
    },
    Release {
        key: usize,
        cooldown_ms: u32,
    },
    Renew {
        key: usize,
        ms: u32,
    },
    KeepAlive(usize),
    Delete(usize),
    PutPool {
        name: usize,
        settings: usize,
    },
    DeletePool(usize),
    Advance(u64),
    Expire,
    Commit,
    /// What the system has in memory goes to the disk, as it does from time to time.
    Sync,
    Snapshot,
    /// The power is lost after so many more operations of the disk.
    FailAfter(usize),
    /// Writes and flushes fail from now on, until the process starts again.
    Break,
    /// The disk is full.
    Fill,
    /// It has room again.
    MakeRoom,
    LosePower,
    Kill,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let (pool, key) = (0..4_usize, 0..64_usize);
    prop_oneof![
        8 => (pool.clone(), any::<bool>()).prop_map(|(pool, own)| Step::Create { pool, own }),
        8 => (pool, 1..400_u32, any::<bool>()).prop_map(|(pool, ms, held)| Step::Lease { pool, ms, held }),
        4 => (key.clone(), 0..300_u32).prop_map(|(key, cooldown_ms)| Step::Release { key, cooldown_ms }),
        3 => (key.clone(), 1..400_u32).prop_map(|(key, ms)| Step::Renew { key, ms }),
        3 => key.clone().prop_map(Step::KeepAlive),
        2 => key.prop_map(Step::Delete),
        2 => (0..3_usize, 0..4_usize).prop_map(|(name, settings)| Step::PutPool { name, settings }),
        1 => (0..3_usize).prop_map(Step::DeletePool),
        4 => (1..200_u64).prop_map(Step::Advance),
        2 => Just(Step::Expire),
        14 => Just(Step::Commit),
        2 => Just(Step::Sync),
        1 => Just(Step::Snapshot),
        2 => (0..40_usize).prop_map(Step::FailAfter),
        1 => Just(Step::Break),
        1 => Just(Step::Fill),
        2 => Just(Step::MakeRoom),
        1 => Just(Step::LosePower),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
    ]
}

#[derive(Clone, Debug)]
pub(super) struct Options {
    every_second: bool,
    sealed: bool,
    seed: u64,
}

fn worlds() -> impl Strategy<Value = (Options, Vec<Step>)> {
    let options = (any::<bool>(), any::<bool>(), any::<u64>())
        .prop_map(|(every_second, sealed, seed)| Options { every_second, sealed, seed });
    (options, prop::collection::vec(step(), 1..160))
}

fn settings(number: usize) -> Settings {
    let settings = Settings { lease_ttl_ms: 100, ..Settings::default() };
    match number {
        0 => Settings { key_ttl_ms: Some(500), ..settings },
        1 => Settings { key_ttl_ms: None, lapse_cooldown_ms: 150, ..settings },
        2 => Settings { key_ttl_ms: Some(2000), lapse_cooldown_ms: 70, ..settings },
        _ => Settings { key_ttl_ms: Some(900), ..settings },
    }
}

/// What has happened, in order.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Entry(u32, Entry),
    Pool(u32, PoolName, Settings, Timestamp),
    PoolGone(u32),
}

pub(super) type Events = Arc<std::sync::Mutex<Vec<Event>>>;

/// Notes changes on the disk, and for the test.
pub(super) struct Both(PoolJournal, Events, u32);

impl PoolChanges for Both {
    fn append(&self, entry: impl FnOnce() -> Entry) {
        let entry = entry();
        self.1.lock().unwrap().push(Event::Entry(self.2, entry.clone()));
        self.0.append(|| entry);
    }
}

pub(super) struct OnePool {
    name: PoolName,
    settings: Settings,
    since: Option<Timestamp>,
    keys: Pool<Both>,
}

/// All pools, by number.
pub(super) type Pools = BTreeMap<u32, OnePool>;

pub(super) struct World {
    pub(super) options: Options,
    rng: StdRng,
    pub(super) disk: SimDisk,
    pub(super) events: Events,
    journal: Journal,
    begun: Begun,
    pools: Pools,
    next_number: u32,
    now: Timestamp,
    keys: Vec<(u32, KeyId)>,
    /// How many events each frame ends with. Of those that were written since the last start, or the last one before.
    frames: BTreeMap<u64, usize>,
    /// The last frame that answers were given for, and that is on disk for certain.
    acknowledged: u64,
    /// Leases that were acknowledged: none is given twice.
    given: BTreeSet<(KeyId, u64)>,
    /// Leases since the last commit.
    fresh: Vec<(KeyId, u64)>,
    snapshots: Cell<usize>,
}

pub(super) fn options(every_second: bool, sealed: bool, seed: u64) -> Options {
    Options { every_second, sealed, seed }
}

fn data_key(options: &Options) -> Option<DataKey> {
    options.sealed.then(|| DataKey::new([7; 32]))
}

pub(super) fn start(
    options: &Options,
    disk: &SimDisk,
    events: &Events,
    now: Timestamp,
) -> Result<(Pools, u32, Journal, Begun, Option<u64>), String> {
    let describe = |error: OpenError| format!("it cannot be opened: {error}");
    let journal = Journal::new();
    let (of_pools, for_pools) = (journal.clone(), Arc::clone(events));
    let make = move |number, settings: Settings| {
        let both = Both(of_pools.of_pool(number), Arc::clone(&for_pools), number);
        Pool::with_journal(settings.into(), Size::growing(4), both)
    };
    let mut restorer = Restorer::new(make, settings(0), Box::new(|_, _| {}));
    let key = data_key(options);
    let opened =
        open(&journal, Arc::new(disk.clone()), key, &|_| None, &mut restorer).map_err(describe)?;
    let found = opened.found.as_ref().map(|found| found.sequence);
    if let Some(found) = &opened.found {
        restorer.raise_generations(found.floor);
    }
    let (found_pools, next_number) = restorer.into_pools();
    let mut pools = Pools::new();
    for (number, pool) in found_pools {
        let keys = pool.keys.finish(now);
        keys.check_invariants();
        pools.insert(
            number,
            OnePool { name: pool.name, settings: pool.settings, since: pool.since, keys },
        );
    }
    let noted = pools.iter().filter_map(|(number, pool)| {
        Some((*number, (pool.name.clone(), pool.settings, pool.since?)))
    });
    let durability =
        if options.every_second { Durability::EverySecond } else { Durability::Commit };
    let tuning = Tuning {
        durability,
        segment_bytes: SEGMENT_BYTES,
        snapshot_after_bytes: SNAPSHOT_AFTER_BYTES,
    };
    let begun = opened
        .begin(&journal, tuning, noted.collect(), ClockAnchor::default(), now)
        .map_err(|error| format!("it cannot begin: {error}"))?;
    Ok((pools, next_number, journal, begun, found))
}

/// Pools as a snapshot sees them.
struct Walk<'a>(&'a Pools, Timestamp);

// One thread uses them.
impl Source for Walk<'_> {
    fn walk(
        &self,
        pool: u32,
        cursor: WalkCursor,
        records: &mut Vec<u8>,
    ) -> (usize, Option<WalkCursor>) {
        let Some(pool_state) = self.0.get(&pool) else { return (0, None) };
        let mut count = 0;
        let next = pool_state.keys.walk_whole(cursor, 4, self.1, |entry| {
            token_orchestrator::journal::write_key(records, pool, &entry);
            count += 1;
        });
        (count, next)
    }

    fn now(&self) -> Timestamp {
        self.1
    }

    fn has_room(&self) {}
}

impl World {
    pub(super) fn new(options: &Options) -> Result<Self, String> {
        let disk = SimDisk::new(options.seed);
        let events = Events::default();
        let now = Timestamp::from_ms(1000);
        let (pools, next_number, journal, begun, found) = start(options, &disk, &events, now)?;
        same(&found, &None)?;
        Ok(Self {
            options: options.clone(),
            rng: StdRng::seed_from_u64(options.seed),
            disk,
            events,
            journal,
            begun,
            pools,
            next_number,
            now,
            keys: Vec::new(),
            frames: [(0, 0), (1, 0)].into(),
            acknowledged: 1,
            given: BTreeSet::new(),
            fresh: Vec::new(),
            snapshots: Cell::new(0),
        })
    }

    /// The last frame that is committed.
    pub(super) fn committed(&self) -> u64 {
        self.journal.committed()
    }

    /// The names of the files that have something.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.disk.list().unwrap();
        names.into_iter().filter(|name| !name.contains('.')).collect()
    }

    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    fn pool(&self, nth: usize) -> (u32, &OnePool) {
        let (number, pool) = self.pools.iter().nth(nth % self.pools.len()).expect("there is one");
        (*number, pool)
    }

    fn key(&self, nth: usize) -> Option<(&OnePool, KeyId)> {
        let (pool, id) = self.keys.get(nth % self.keys.len().max(1))?;
        Some((self.pools.get(pool)?, *id))
    }

    pub(super) fn take(&mut self, step: &Step) -> Result<(), String> {
        let now = self.now;
        match step {
            Step::Create { pool, own } => {
                let value =
                    Value::new(&format!("secret {}", self.rng.random_range(0..20))).unwrap();
                let id = KeyId::from_random_bytes(self.rng.random());
                let (number, pool) = self.pool(*pool);
                let mut room = pool.keys.reserve(1, now).map_err(|error| error.to_string())?;
                let labels = [Label::new("plan", "pro").unwrap()];
                let new = NewKey { value: Some(&value), labels: &labels };
                let new = if *own { new } else { NewKey::default() };
                let _ =
                    room.create_with(room.fit(id), now, new).map_err(|error| error.to_string())?;
                drop(room);
                self.keys.push((number, id));
            }
            Step::Lease { pool, ms, held } => {
                let holder = Holder::new("worker-7", None);
                let mut rng = StdRng::seed_from_u64(self.rng.random());
                let terms =
                    Terms { lease_ms: *ms, label: None, holder: holder.as_ref().filter(|_| *held) };
                let leased = self.pool(*pool).1.keys.lease(now, terms, &mut rng);
                if let Ok(leased) = leased {
                    self.fresh.push((leased.id, leased.generation));
                    same(&self.given.contains(&(leased.id, leased.generation)), &false)
                        .map_err(|_| format!("{:?} was given twice", leased.lease))?;
                }
            }
            Step::Release { key, cooldown_ms } => {
                if let Some((pool, id)) = self.key(*key) {
                    let _ = pool.keys.release(&id, now, Fence::Any, *cooldown_ms);
                }
            }
            Step::Renew { key, ms } => {
                if let Some((pool, id)) = self.key(*key) {
                    let _ = pool.keys.renew(&id, now, Fence::Any, *ms);
                }
            }
            Step::KeepAlive(key) => {
                if let Some((pool, id)) = self.key(*key) {
                    let _ = pool.keys.keep_alive(&id, now);
                }
            }
            Step::Delete(key) => {
                if let Some((pool, id)) = self.key(*key) {
                    let _ = pool.keys.delete(&id, now, Fence::Any);
                }
            }
            Step::PutPool { name, settings: number } => self.put_pool(*name, settings(*number)),
            Step::DeletePool(name) => {
                let name = pool_name(*name);
                let number = self.pools.iter().find(|(_, pool)| pool.name == name).map(|(n, _)| *n);
                if let Some(number) = number.filter(|number| *number != 0) {
                    self.pools.remove(&number);
                    self.note(Event::PoolGone(number));
                    self.journal.note_pool_gone(number);
                }
            }
            Step::Advance(ms) => self.now = now.plus_ms(*ms),
            Step::Expire => {
                self.pools.values().for_each(|pool| {
                    let _ = pool.keys.expire(now, 64);
                });
            }
            Step::Commit => return self.commit(false),
            Step::Sync => return self.sync(),
            Step::Snapshot => return self.commit(true),
            Step::FailAfter(operations) => self.disk.fail_after(*operations),
            Step::Break => self.disk.fail(),
            Step::Fill => self.disk.set_room(self.disk.used()),
            Step::MakeRoom => self.disk.set_room(usize::MAX),
            Step::LosePower => return self.crash(true),
            Step::Kill => return self.crash(false),
            Step::Close => return self.close(),
        }
        Ok(())
    }

    fn put_pool(&mut self, name: usize, settings: Settings) {
        let (now, name) = (self.now, pool_name(name));
        let known = self.pools.iter_mut().find(|(_, pool)| pool.name == name);
        let number = if let Some((number, pool)) = known {
            pool.keys.configure(settings.into(), now);
            (pool.settings, pool.since) = (settings, Some(now));
            *number
        } else {
            let number = self.next_number;
            self.next_number += 1;
            let both = Both(self.journal.of_pool(number), Arc::clone(&self.events), number);
            let keys = Pool::with_journal(settings.into(), Size::growing(4), both);
            let pool = OnePool { name: name.clone(), settings, since: Some(now), keys };
            self.pools.insert(number, pool);
            number
        };
        self.note(Event::Pool(number, name.clone(), settings, now));
        self.journal.note_pool(number, &name, settings, now);
    }

    /// Commits, and writes a snapshot if that is wanted.
    fn commit(&mut self, wants_snapshot: bool) -> Result<(), String> {
        // In the server a thread of its own makes segments.
        let prepared = self.begun.committer.spares.prepare();
        let frame = self.journal.filling();
        self.frames.insert(frame, self.events.lock().unwrap().len());
        let outcome = self.begun.committer.commit(self.now, wants_snapshot);
        self.acknowledge();
        let started = match (prepared, outcome) {
            (Ok(()), Ok(started)) => started,
            _ if self.disk.is_off() => return self.crash(true),
            // The process ends. Memory may have what the disk does not.
            (_, Err(WriteError::Disk(_))) if self.disk.is_broken() => return self.crash(false),
            (Err(_), _) | (_, Err(WriteError::NoRoom))
                if self.disk.is_broken() || self.disk.is_full() =>
            {
                return Ok(());
            }
            (prepared, outcome) => return Err(format!("{prepared:?} {:?}", outcome.err())),
        };
        let Some(started) = started else { return Ok(()) };
        // Changes go on while it is written.
        let (mut calls, mut is_broken) = (0, false);
        let journal = self.journal.clone();
        let spares = Arc::clone(&self.begun.committer.spares);
        let walk = Walk(&self.pools, self.now);
        let pools = &self.pools;
        let now = self.now;
        let committer = &mut self.begun.committer;
        let (frames, events) = (&mut self.frames, &self.events);
        let rng = &mut self.rng;
        let outcome =
            self.begun.snapshots.write(&started, &walk, &journal, &spares, |pause: Duration| {
                calls += 1;
                if rng.random_ratio(1, 3) || pause == Duration::from_millis(1) {
                    let pool =
                        pools.values().nth(rng.random_range(0..pools.len())).expect("there is one");
                    let mut of_lease = StdRng::seed_from_u64(rng.random());
                    let _ = pool.keys.lease(now, 50, &mut of_lease);
                }
                if rng.random_ratio(1, 4) || pause == Duration::from_millis(1) {
                    let _ = committer.spares.prepare();
                    frames.insert(journal.filling(), events.lock().unwrap().len());
                    is_broken |=
                        committer.commit(now, false).is_err() || committer.sync_all().is_err();
                }
                calls < 2000 && !is_broken
            });
        self.acknowledge();
        match outcome {
            _ if self.disk.is_off() => self.crash(true),
            // It is tried again later.
            _ if is_broken && self.disk.is_broken() => self.crash(false),
            Err(_) if self.disk.is_broken() || self.disk.is_full() => Ok(()),
            Ok(_) => {
                self.snapshots.set(self.snapshots.get() + 1);
                Ok(())
            }
            Err(error) => Err(format!("a snapshot: {error}")),
        }
    }

    /// Notes what is acknowledged for certain by now.
    fn acknowledge(&mut self) {
        let committed = self.journal.committed();
        let durable = if self.options.every_second { self.journal.durable() } else { committed };
        self.acknowledged = self.acknowledged.max(durable);
        if self.journal.is_committed(self.journal.last()) {
            self.given.extend(self.fresh.drain(..));
        }
    }

    fn sync(&mut self) -> Result<(), String> {
        match self.begun.committer.sync_all() {
            Ok(()) => {
                self.acknowledge();
                Ok(())
            }
            Err(_) if self.disk.is_off() => self.crash(true),
            Err(_) if self.disk.is_broken() => self.crash(false),
            Err(error) => Err(format!("{error:?}")),
        }
    }

    fn close(&mut self) -> Result<(), String> {
        let _ = self.begun.committer.spares.prepare();
        let frame = self.journal.filling();
        let count = self.events.lock().unwrap().len();
        self.frames.extend([(frame, count), (frame + 1, count)]);
        match self.begun.committer.close(self.now) {
            Ok(()) => {
                self.acknowledged = self.journal.committed();
                self.given.extend(self.fresh.drain(..));
                self.crash(true)
            }
            Err(_) if self.disk.is_off() => self.crash(true),
            Err(_) if self.disk.is_broken() => self.crash(false),
            Err(WriteError::NoRoom) => self.crash(true),
            Err(error) => Err(format!("{error:?}")),
        }
    }

    /// The process ends, perhaps with the power, and starts again.
    fn crash(&mut self, is_power: bool) -> Result<(), String> {
        self.disk.set_room(usize::MAX);
        // What was answered is what was published, whether or not it is on disk.
        let acknowledged = if is_power {
            self.disk.lose_power();
            self.acknowledged
        } else {
            self.disk.kill();
            self.journal.committed()
        };
        self.fresh.clear();
        self.now = self.now.plus_ms(self.rng.random_range(0..300));
        let before = self.events.lock().unwrap().clone();
        let (pools, next_number, journal, begun, found) =
            start(&self.options, &self.disk, &self.events, self.now)?;
        let found = found.ok_or("nothing was found")?;
        if found < acknowledged {
            return Err(format!(
                "frame {acknowledged} was acknowledged, and {found} is the last one"
            ));
        }
        let count = *self.frames.get(&found).ok_or(format!("frame {found} was never written"))?;
        let expected = replay(&before[..count], self.now);
        compare(&pools, &expected, self.now)?;
        self.events.lock().unwrap().truncate(count);
        let first = journal.committed();
        self.frames = [(found, count), (first, count)].into();
        self.acknowledged = first;
        (self.pools, self.journal, self.begun) = (pools, journal, begun);
        self.next_number = self.next_number.max(next_number);
        Ok(())
    }
}

fn pool_name(number: usize) -> PoolName {
    ["default", "a", "b"][number].parse().unwrap()
}

type Expected = BTreeMap<u32, (PoolName, Settings, Pool)>;

/// The pools after these events, as they are at `now`.
fn replay(events: &[Event], now: Timestamp) -> Expected {
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

fn compare(pools: &Pools, expected: &Expected, now: Timestamp) -> Result<(), String> {
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

fn run((options, steps): &(Options, Vec<Step>), count: &Cell<usize>) -> Result<(), String> {
    let mut world = World::new(options)?;
    for (number, step) in steps.iter().enumerate() {
        world.take(step).map_err(|what| format!("step {number}, {step:?}: {what}"))?;
    }
    world.crash(true).map_err(|what| format!("at the end: {what}"))?;
    count.set(count.get() + world.snapshots.get());
    Ok(())
}

/// Returns how many snapshots were written.
pub(crate) fn attack(tries: Tries) -> Result<usize, String> {
    let count = Cell::new(0);
    try_cases(tries, &worlds(), |(_, steps)| steps.len(), |case| run(case, &count))?;
    Ok(count.get())
}

#[test]
fn what_was_acknowledged_survives_each_crash() {
    let cases = super::cases() / 10;
    let snapshots =
        attack(Tries::new(super::seed(), cases)).unwrap_or_else(|report| panic!("{report}"));
    assert!(snapshots > usize::try_from(cases).unwrap() / 10, "only {snapshots} snapshots");
}
