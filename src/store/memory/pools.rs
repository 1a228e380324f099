//! The pools of the store, by name and by id.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use crossbeam_utils::atomic::AtomicCell;
use parking_lot::{Mutex, RwLock};

use super::options::Options;
use super::queue::Waiters;
use crate::engine::{OwnOptions, Pool, Reservation, Size, ValueBytes};
use crate::error::Error;
use crate::journal::{Journal, PoolJournal};
use crate::pool::{PoolId, PoolName, Settings};
use crate::store::port::Listed;
use crate::time::Timestamp;

/// A pool, and what belongs to it.
pub(super) struct PoolState {
    pub(super) id: PoolId,
    pub(super) name: PoolName,
    settings: AtomicCell<Settings>,
    /// Held while the settings are changed.
    changing: Mutex<()>,
    keys: Keys,
    pub(super) waiters: Waiters,
    /// When the sweep looks at the pool by itself, in milliseconds; 0 while it does.
    pub(super) wakes_ms: AtomicU64,
    /// Whether the sweep was asked to look at it, and has not begun to.
    pub(super) is_rung: AtomicBool,
    is_deleted: AtomicBool,
}

/// The keys of a pool of the store.
pub(super) type Keys = Pool<PoolJournal>;

/// Room for keys in it.
pub(super) type Room<'a> = Reservation<'a, PoolJournal>;

impl PoolState {
    fn new(
        id: PoolId,
        name: PoolName,
        settings: Settings,
        keys: Keys,
        waiters: Waiters,
    ) -> Arc<Self> {
        let (settings, wakes_ms) = (AtomicCell::new(settings), AtomicU64::new(u64::MAX));
        let (changing, is_rung, is_deleted) = Default::default();
        Arc::new(Self {
            id,
            name,
            settings,
            changing,
            keys,
            waiters,
            wakes_ms,
            is_rung,
            is_deleted,
        })
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings.load()
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.is_deleted.load(SeqCst)
    }

    /// O(1); O(s + d log n) for s shards and d due entries if the cool-down after a lapse changes.
    fn set(&self, settings: Settings, now: Timestamp, journal: Option<&Journal>) {
        let _changing = self.changing.lock();
        self.settings.store(settings);
        self.keys.configure(settings.into(), now);
        if let Some(journal) = journal {
            journal.note_pool(self.id.serial, &self.name, settings, now);
        }
    }
}

/// All pools.
pub(super) struct Pools {
    default: Arc<PoolState>,
    common: Common,
    /// How many clients wait in all pools.
    waiting: Arc<AtomicUsize>,
    version: AtomicU64,
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    by_name: BTreeMap<PoolName, Arc<PoolState>>,
    by_place: Vec<Option<Arc<PoolState>>>,
    /// The places of pools by their serials.
    places: HashMap<u32, u32>,
    next_serial: u32,
}

/// What the pools of a store share.
pub(super) struct Common {
    pub(super) options: Options,
    /// The secret by which values are found, how many bytes those of all pools have, and how many labels a pool may.
    own: OwnOptions,
    pub(super) journal: Option<Journal>,
}

impl Common {
    pub(super) fn new(options: Options, journal: Option<Journal>) -> Self {
        let value_bytes = Arc::new(ValueBytes::new(options.value_bytes_max));
        let own = OwnOptions { secret: rand::random(), value_bytes, ..OwnOptions::default() };
        Self { options, own, journal }
    }

    /// The keys of an empty pool, whose changes are noted under this number.
    pub(super) fn keys(&self, number: u32, settings: Settings) -> Keys {
        let journal = self.journal.as_ref().map(|journal| journal.of_pool(number));
        let is_default = number == PoolId::DEFAULT.serial;
        let shards = self.options.shards;
        let size = if is_default { Size::Fixed(shards) } else { Size::growing(Options::SHARDS) };
        Pool::with_journal(settings.into(), size, journal.unwrap_or_default())
            .with_own(self.own.clone())
    }
}

/// A pool that was there before the store began.
pub(super) struct Restored {
    pub(super) number: u32,
    pub(super) name: PoolName,
    pub(super) settings: Settings,
    pub(super) keys: Keys,
}

impl Pools {
    /// The default pool alone.
    pub(super) fn new(options: Options) -> Self {
        let common = Common::new(options, None);
        let (number, settings) = (PoolId::DEFAULT.serial, options.settings);
        let name = PoolName::default();
        let keys = common.keys(number, settings);
        Self::restored(common, vec![Restored { number, name, settings, keys }], 1)
    }

    /// Pools that were there before, of which the first one is the default pool. Others get numbers from `next_serial` on.
    /// There may be more of them than new ones may be created.
    pub(super) fn restored(common: Common, pools: Vec<Restored>, next_serial: u32) -> Self {
        let waiting = Arc::<AtomicUsize>::default();
        let waiters_max = common.options.waiters_max;
        let mut table = Table { next_serial, ..Table::default() };
        for (place, Restored { number: serial, name, settings, keys }) in (0..).zip(pools) {
            let id = PoolId { place, serial };
            let waiters = Waiters::new(waiters_max, Arc::clone(&waiting));
            let pool = PoolState::new(id, name.clone(), settings, keys, waiters);
            table.by_place.push(Some(Arc::clone(&pool)));
            table.places.insert(serial, place);
            table.by_name.insert(name, pool);
        }
        let default = table.by_place.first().cloned().flatten().expect("the default pool is there");
        let (version, table) = (AtomicU64::new(0), RwLock::new(table));
        Self { default, common, waiting, version, table }
    }

    /// How many bytes the values of all pools have, and how many they may have. O(1).
    pub(super) fn value_bytes(&self) -> &ValueBytes {
        &self.common.own.value_bytes
    }

    pub(super) fn default(&self) -> &Arc<PoolState> {
        &self.default
    }

    pub(super) fn default_settings(&self) -> Settings {
        self.common.options.settings
    }

    /// O(1).
    pub(super) fn get(&self, pool: PoolId) -> Option<Arc<PoolState>> {
        let table = self.table.read();
        table.by_place.get(pool.place as usize)?.clone().filter(|known| known.id == pool)
    }

    /// The pool with this serial. O(1).
    pub(super) fn with_serial(&self, serial: u32) -> Option<Arc<PoolState>> {
        let table = self.table.read();
        let place = *table.places.get(&serial)?;
        table.by_place.get(place as usize)?.clone()
    }

    /// O(log p) for p pools.
    pub(super) fn find(&self, name: &str) -> Option<PoolId> {
        if name == PoolName::DEFAULT {
            return Some(PoolId::DEFAULT);
        }
        self.table.read().by_name.get(name).map(|pool| pool.id)
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    /// O(limit + log p) for p pools.
    pub(super) fn list(&self, after: Option<&str>, limit: usize) -> Vec<Listed> {
        let table = self.table.read();
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = table.by_name.range::<str, _>((begin, Bound::Unbounded));
        let listed =
            |(_, pool): (_, &Arc<PoolState>)| Listed { id: pool.id, name: pool.name.clone() };
        behind.take(limit).map(listed).collect()
    }

    /// All pools. O(p).
    pub(super) fn all(&self) -> Vec<Arc<PoolState>> {
        self.table.read().by_name.values().cloned().collect()
    }

    /// Creates a pool, or changes the settings of one. With whether it is new. O(p) for p pools.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyPools`]
    pub(super) fn put(
        &self,
        name: PoolName,
        settings: Settings,
        now: Timestamp,
    ) -> Result<(bool, Arc<PoolState>), Error> {
        let mut table = self.table.write();
        if let Some(pool) = table.by_name.get(&name).cloned() {
            drop(table);
            pool.set(settings, now, self.common.journal.as_ref());
            return Ok((false, pool));
        }
        if table.by_name.len() >= self.common.options.pools_max {
            return Err(Error::TooManyPools);
        }
        let free = table.by_place.iter().position(Option::is_none);
        let place = free.unwrap_or(table.by_place.len());
        if free.is_none() {
            table.by_place.push(None);
        }
        let serial = table.next_serial;
        table.next_serial = serial.wrapping_add(1);
        let id = PoolId { place: u32::try_from(place).expect("there are fewer pools"), serial };
        let waiters = Waiters::new(self.common.options.waiters_max, Arc::clone(&self.waiting));
        let keys = self.common.keys(serial, settings);
        if let Some(journal) = &self.common.journal {
            // Before a key of it can be.
            journal.note_pool(serial, &name, settings, now);
        }
        let pool = PoolState::new(id, name.clone(), settings, keys, waiters);
        table.by_place[place] = Some(Arc::clone(&pool));
        table.places.insert(serial, id.place);
        table.by_name.insert(name, Arc::clone(&pool));
        self.version.fetch_add(1, Release);
        Ok((true, pool))
    }

    /// Takes a pool out of the table, if `may_go` says so. O(log p) for p pools.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPool`], [`Error::DefaultPool`], [`Error::PoolNotEmpty`] if it may not go.
    pub(super) fn remove(
        &self,
        name: &str,
        may_go: impl FnOnce(&PoolState) -> bool,
    ) -> Result<Arc<PoolState>, Error> {
        if name == PoolName::DEFAULT {
            return Err(Error::DefaultPool);
        }
        let mut table = self.table.write();
        let pool = table.by_name.get(name).ok_or(Error::NoSuchPool)?;
        if !may_go(pool) {
            return Err(Error::PoolNotEmpty);
        }
        let pool = table.by_name.remove(name).expect("it was there");
        table.by_place[pool.id.place as usize] = None;
        table.places.remove(&pool.id.serial);
        pool.is_deleted.store(true, SeqCst);
        if let Some(journal) = &self.common.journal {
            journal.note_pool_gone(pool.id.serial);
        }
        self.version.fetch_add(1, Release);
        Ok(pool)
    }
}
