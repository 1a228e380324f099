//! Takes the records that are whole, and counts what has to be dropped of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::engine::{After, Entry};
use crate::journal::bytes::Reader;
use crate::journal::record::{self, Record};
use crate::journal::recovery::Replay;
use crate::key::{KeyId, Quota};
use crate::pool::{PoolName, Settings};
use crate::time::Timestamp;

/// Takes records.
pub(super) struct Taker<'r> {
    replay: &'r mut dyn Replay,
    /// Quotas have no limit here, only their names.
    quotas: RefCell<HashMap<String, Arc<Quota>>>,
    /// The largest generation that was read.
    pub(super) generation: u64,
    /// Keys that have changed and are not there, and have not gone or died.
    pub(super) unknown: HashSet<KeyId>,
    /// When the snapshot ended: keys that had died by then need not be there.
    pub(super) dead_by: Timestamp,
    /// Whether the records of some pools may be lost, so that keys are there whose pool is not.
    pub(super) may_miss_pools: bool,
    /// How many keys the records say all about.
    pub(super) whole: u64,
    /// The names of pools.
    names: BTreeMap<u32, PoolName>,
    gone: BTreeSet<u32>,
    /// Pools whose records are lost.
    nameless: BTreeSet<u32>,
}

impl<'r> Taker<'r> {
    pub(super) fn new(replay: &'r mut dyn Replay) -> Self {
        let default = PoolName::DEFAULT.parse().expect("it is a name");
        Self {
            replay,
            quotas: RefCell::default(),
            generation: 0,
            unknown: HashSet::new(),
            dead_by: Timestamp::default(),
            may_miss_pools: false,
            whole: 0,
            names: [(0, default)].into(),
            gone: BTreeSet::new(),
            nameless: BTreeSet::new(),
        }
    }

    /// The quota of this name: what is written again must name it.
    fn quota(&self, name: &str) -> Option<Arc<Quota>> {
        if name.is_empty() {
            return None;
        }
        let mut quotas = self.quotas.borrow_mut();
        let quota = quotas
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(Quota::new(usize::MAX).named(name)));
        Some(Arc::clone(quota))
    }

    /// All records, or `None` if one of them cannot be read. Notes their generations: also of those that are dropped later.
    pub(super) fn decode(&mut self, mut bytes: Reader<'_>) -> Option<Vec<Record>> {
        let mut records = Vec::new();
        while !bytes.is_at_end() {
            records.push(record::read(&mut bytes, &|name| self.quota(name)).ok()?);
        }
        let generation = |record: &Record| match record {
            Record::Key(
                _,
                Entry { after: After::Whole { state, .. } | After::State(state), .. },
            ) => state.generation,
            _ => 0,
        };
        let largest = records.iter().map(generation).max().unwrap_or(0);
        self.generation = self.generation.max(largest);
        Some(records)
    }

    /// What follows was written at `at` or later: see [`Replay::time`].
    pub(super) fn time(&mut self, at: Timestamp, floor: u64) {
        self.replay.time(at, floor);
    }

    /// Takes records. O(r) for r records.
    pub(super) fn take(&mut self, records: Vec<Record>) {
        self.replay.prefetch(&records);
        for record in records {
            self.note(&record);
            if let Err(unknown) = self.replay.record(record)
                && unknown.life_ends > self.dead_by
            {
                self.unknown.insert(unknown.id);
            }
        }
    }

    fn note(&mut self, record: &Record) {
        match record {
            Record::Pool(number, name, ..) => {
                self.names.insert(*number, name.clone());
                self.gone.remove(number);
            }
            Record::PoolGone(number) => {
                self.names.remove(number);
                self.nameless.remove(number);
                self.gone.insert(*number);
            }
            Record::Key(number, Entry { id, after }) => {
                let is_there = self.names.contains_key(number)
                    || self.nameless.contains(number)
                    || self.gone.contains(number);
                match after {
                    After::Whole { .. } => {
                        self.whole += 1;
                        if !is_there && self.may_miss_pools {
                            self.make_pool(*number);
                        }
                    }
                    After::State(_) if !is_there && self.may_miss_pools => {
                        self.unknown.insert(*id);
                    }
                    After::State(_) => {}
                    After::Gone => drop(self.unknown.remove(id)),
                }
            }
        }
    }

    /// Makes a pool for keys whose own pool has lost its record. It gets its name in the end.
    fn make_pool(&mut self, number: u32) {
        self.nameless.insert(number);
        let pool = Record::Pool(number, numbered(number, ""), Settings::default(), self.dead_by);
        self.replay.record(pool).expect("it is no key");
    }

    /// The names of pools whose records are lost, by number: one that no other pool has.
    pub(super) fn into_names(self) -> (BTreeMap<u32, PoolName>, Vec<String>) {
        let (mut names, mut made) = (self.names, Vec::new());
        for number in self.nameless {
            if names.contains_key(&number) {
                // A later record has said its name.
                continue;
            }
            let mut name = numbered(number, "");
            for again in 2.. {
                if names.values().all(|other| *other != name) {
                    break;
                }
                name = numbered(number, &format!("-{again}"));
            }
            made.push(name.to_string());
            names.insert(number, name);
        }
        (names, made)
    }
}

fn numbered(number: u32, end: &str) -> PoolName {
    format!("lost-{number}{end}").parse().expect("it is a name")
}
