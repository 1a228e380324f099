//! A store whose pools are in a data directory as well: see [`crate::journal`].

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::options::Options;
use super::pools::{Common, Pools, Restored};
use super::state::Memory;
use crate::engine::{Entry, Restoring, WalkCursor};
use crate::journal::{
    self, DataKey, Directory, Disk, Durability, Found, Journal, Lock, OpenError, Restorer, Source,
    Threads, Tuning,
};
use crate::key::Quota;
use crate::pool::PoolId;
use crate::time::{Clock, ClockAnchor, Timestamp};

/// Where and how pools survive the process.
#[derive(Clone, Debug)]
pub struct DataDirectory {
    /// The directory, which is made if it is not there.
    pub path: PathBuf,
    /// When answers may leave.
    pub durability: Durability,
    /// What its files are sealed with, if they are.
    pub key: Option<DataKey>,
    /// Keys that have died while no server was running, or would die before so much time has passed since the start, live
    /// so long, in milliseconds; 0 for none.
    pub restart_grace_ms: u32,
}

/// What must be kept as long as the store is used, and closed after that.
pub struct Durable {
    threads: Threads,
    _lock: Lock,
}

impl Durable {
    /// Commits what is left, and ends the threads of the journal. The store must not be used any more.
    pub fn close(self) {
        self.threads.close();
    }
}

/// How the clock of a directory ran, for one that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// How it ran.
    pub anchor: ClockAnchor,
    /// The last time that was written.
    pub seen: Timestamp,
    /// No time before this may come again.
    pub reserved: Timestamp,
}

impl<C: Clock> Memory<C> {
    /// The store that a data directory has, or an empty one in a new directory. `clock` makes the clock: one that goes on
    /// where that of the directory has ended, if it has one. `quotas` are those of tokens, by name. `progress` is told how
    /// many bytes were read, of how many at most, and is dropped when that is done. `failed` is told once if the disk
    /// fails: then nothing is acknowledged any more, and the process should end. O(n) for n keys.
    ///
    /// # Errors
    ///
    /// [`OpenError`]
    pub fn open(
        options: Options,
        directory: &DataDirectory,
        quotas: &HashMap<String, Arc<Quota>>,
        clock: impl FnOnce(Option<ClockState>) -> C,
        progress: Box<dyn FnMut(u64, u64)>,
        failed: impl Fn(&io::Error) + Send + Sync + 'static,
    ) -> Result<(Self, Durable), OpenError> {
        let disk = Directory::make(&directory.path).map_err(in_directory)?;
        let lock = Lock::take(&directory.path)?;
        let start = Instant::now();
        let tuning = Tuning::new(directory.durability);
        let (store, begun, journal) =
            Self::restore(options, Arc::new(disk), directory, tuning, quotas, clock, progress)?;
        let keys =
            store.shared.pools.all().iter().map(|pool| pool.keys().stats().keys).sum::<u64>();
        info!(
            "data directory: {}, {keys} keys, read in {:?}",
            directory.path.display(),
            start.elapsed()
        );
        let source = Arc::new(store.clone());
        let threads =
            Threads::start(begun, journal, source, Arc::new(failed)).map_err(in_directory)?;
        Ok((store, Durable { threads, _lock: lock }))
    }

    /// As [`Memory::open`], but nothing runs yet.
    pub(crate) fn restore(
        options: Options,
        disk: Arc<dyn Disk>,
        directory: &DataDirectory,
        tuning: Tuning,
        quotas: &HashMap<String, Arc<Quota>>,
        clock: impl FnOnce(Option<ClockState>) -> C,
        progress: Box<dyn FnMut(u64, u64)>,
    ) -> Result<(Self, journal::Begun, Journal), OpenError> {
        let quota = |name: &str| quotas.get(name).cloned();
        let journal = Journal::new();
        let common = Common::new(options, Some(journal.clone()));
        let make = |number, settings| common.keys(number, settings);
        let mut restorer = Restorer::new(make, options.settings, progress);
        let key = directory.key.clone();
        let opened = journal::open(disk, key, &quota, &mut restorer)?;
        let found = opened.found.as_ref();
        if let Some(found) = found {
            restorer.raise_generations(found.floor);
        }
        // `progress` goes with it, before anything is logged: it may show a line on the same terminal.
        let (pools, noted, next_number) = restorer.into_pools();
        let clock = clock(found.map(|Found { clock, at, mark, .. }| ClockState {
            anchor: *clock,
            seen: *at,
            reserved: *mark,
        }));
        let now = clock.now();
        let reserved = found.map_or(now, |found| found.mark);
        let grace_ms = u64::from(directory.restart_grace_ms);
        if let Some((file, offset, frames)) = found.and_then(|found| found.torn.as_ref()) {
            info!(
                "data directory: {file} is cut off at byte {offset}, where a frame was being written when the last run \
                 ended; frames that follow it: {frames}"
            );
        }
        let begun =
            opened.begin(&journal, tuning, noted, clock.anchor(), now).map_err(in_directory)?;
        let all = pools.into_iter().map(|(number, pool)| {
            let keys: Restoring<_> = pool.keys;
            if grace_ms > 0 {
                // What may have been shown as dead stays so.
                keys.lengthen_lives(now.min(reserved), now.plus_ms(grace_ms));
            }
            Restored { number, name: pool.name, settings: pool.settings, keys: keys.finish(now) }
        });
        let all = all.collect();
        let pools = Pools::restored(common, all, next_number);
        let store = Self::with_pools(pools, clock, Some(journal.clone()));
        Ok((store, begun, journal))
    }

    /// Asks for a commit of what nobody waits for.
    pub(super) fn commit_soon(&self) {
        self.shared.journal.iter().for_each(Journal::call);
    }
}

fn in_directory(error: io::Error) -> OpenError {
    OpenError::Io { file: String::new(), error }
}

impl<C: Clock> Source for Memory<C> {
    fn walk(
        &self,
        pool: u32,
        cursor: WalkCursor,
        each: &mut dyn FnMut(Entry),
    ) -> Option<WalkCursor> {
        let pool = self.shared.pools.with_serial(pool)?;
        pool.keys().walk_whole(cursor, SNAPSHOT_STEP, self.shared.clock.now(), each)
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn has_room(&self) {
        for pool in self.shared.pools.all() {
            self.shared.alarm.ring(&pool);
        }
    }
}

/// How many keys a snapshot takes at a time: some 100 µs.
const SNAPSHOT_STEP: usize = 256;

/// The default pool is always there.
const _: () = assert!(PoolId::DEFAULT.serial == 0);
