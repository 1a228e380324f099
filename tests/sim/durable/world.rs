//! The world in which the steps are taken.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use token_orchestrator::engine::{NewKey, Pool, Size, Terms};
use token_orchestrator::journal::{Begun, Disk, Journal, WriteError};
use token_orchestrator::key::{Fence, Holder, KeyId, Label, Value};
use token_orchestrator::pool::Settings;
use token_orchestrator::time::Timestamp;

use super::super::disk::SimDisk;
use super::super::same;
use super::pools::{Both, Event, Events, OnePool, Pools, Walk, compare, replay, start};
use super::steps::{Options, Step, pool_name, settings};

pub(in crate::sim) struct World {
    pub(in crate::sim) options: Options,
    pub(super) rng: StdRng,
    pub(in crate::sim) disk: SimDisk,
    pub(in crate::sim) events: Events,
    pub(super) journal: Journal,
    pub(super) begun: Begun,
    pub(super) pools: Pools,
    pub(super) next_number: u32,
    pub(in crate::sim) now: Timestamp,
    pub(super) keys: Vec<(u32, KeyId)>,
    /// How many events each frame ends with.
    pub(in crate::sim) frames: BTreeMap<u64, usize>,
    /// The last frame when the last snapshot ended: it may have something of each one before.
    pub(in crate::sim) settled: u64,
    /// The last frame that answers were given for, and that is on disk for certain.
    pub(super) acknowledged: u64,
    /// Leases that were acknowledged: none is given twice.
    pub(in crate::sim) given: BTreeSet<(KeyId, u64)>,
    /// Leases since the last commit.
    pub(super) fresh: Vec<(KeyId, u64)>,
    pub(in crate::sim) snapshots: Cell<usize>,
}
impl World {
    pub(in crate::sim) fn new(options: &Options) -> Result<Self, String> {
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
            settled: 0,
            acknowledged: 1,
            given: BTreeSet::new(),
            fresh: Vec::new(),
            snapshots: Cell::new(0),
        })
    }

    /// The last frame that is committed.
    pub(in crate::sim) fn committed(&self) -> u64 {
        self.journal.committed()
    }

    /// The names of the files that have something.
    pub(in crate::sim) fn names(&self) -> Vec<String> {
        let names = self.disk.list().unwrap();
        names.into_iter().filter(|name| !name.contains('.')).collect()
    }

    /// Whether what a disk has is what the frames up to some one have made, and which that is. `frames` are all that were
    /// written.
    pub(in crate::sim) fn check_copy(
        &self,
        disk: &SimDisk,
        frames: &BTreeMap<u64, usize>,
    ) -> Result<u64, String> {
        let (pools, .., found) = start(&self.options, disk, &Events::default(), self.now)?;
        let found = found.ok_or("nothing was found")?;
        let count = *frames.get(&found).ok_or(format!("frame {found} was never written"))?;
        let expected = replay(&self.events.lock().unwrap()[..count], self.now);
        compare(&pools, &expected, self.now).map(|()| found)
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

    pub(in crate::sim) fn take(&mut self, step: &Step) -> Result<(), String> {
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
        let outcome = self.begun.committer.commit(|| self.now, wants_snapshot, &|_| ());
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
        let (rng, keys) = (&mut self.rng, &self.keys);
        let mut added = Vec::new();
        let outcome =
            self.begun.snapshots.write(&started, &walk, &journal, &spares, |pause: Duration| {
                calls += 1;
                if rng.random_ratio(1, 3) || pause == Duration::from_millis(1) {
                    let pool =
                        pools.values().nth(rng.random_range(0..pools.len())).expect("there is one");
                    let mut of_lease = StdRng::seed_from_u64(rng.random());
                    let _ = pool.keys.lease(now, 50, &mut of_lease);
                }
                if rng.random_ratio(1, 3) && !keys.is_empty() {
                    let (number, id) = keys[rng.random_range(0..keys.len())];
                    added.extend(replace(pools, number, &id, now, rng));
                }
                if rng.random_ratio(1, 4) || pause == Duration::from_millis(1) {
                    let _ = committer.spares.prepare();
                    frames.insert(journal.filling(), events.lock().unwrap().len());
                    is_broken |= committer.commit(|| now, false, &|_| ()).is_err()
                        || committer.sync_all().is_err();
                }
                calls < 2000 && !is_broken
            });
        self.keys.append(&mut added);
        // Also if it fails: it may be on the disk.
        self.settled = self.journal.committed();
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
    pub(super) fn crash(&mut self, is_power: bool) -> Result<(), String> {
        self.disk.set_room(usize::MAX);
        let has_failed = self.disk.is_broken();
        let acknowledged = if is_power {
            self.disk.lose_power();
            self.acknowledged
        } else {
            self.disk.kill();
            // What was answered is what was published, whether or not it is on disk: the system has it, unless the disk
            // has refused it.
            if has_failed { self.acknowledged } else { self.journal.committed() }
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
        self.frames.split_off(&(found + 1));
        self.frames.insert(first, count);
        self.acknowledged = first;
        (self.pools, self.journal, self.begun) = (pools, journal, begun);
        self.next_number = self.next_number.max(next_number);
        Ok(())
    }
}

/// Deletes a key, and creates another one with the same value.
fn replace(
    pools: &Pools,
    number: u32,
    id: &KeyId,
    now: Timestamp,
    rng: &mut StdRng,
) -> Option<(u32, KeyId)> {
    let keys = &pools.get(&number)?.keys;
    let value = keys.value_of(id, now);
    keys.delete(id, now, Fence::Any).ok()?;
    let new = NewKey { value: value.as_ref(), labels: &[] };
    let id = KeyId::from_random_bytes(rng.random());
    let mut room = keys.reserve(1, now).ok()?;
    let _ = room.create_with(room.fit(id), now, new).ok()?;
    Some((number, id))
}
