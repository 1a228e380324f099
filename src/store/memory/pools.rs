//! The pools of the store, by name and by id.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use crossbeam_utils::atomic::AtomicCell;
use parking_lot::{Mutex, RwLock};

use super::options::Options;
use super::queue::Waiters;
use crate::engine::{self, OwnOptions, Pool, Size, ValueBytes};
use crate::error::Error;
use crate::key::Ttl;
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
    keys: Pool,
    pub(super) waiters: Waiters,
    /// When the sweep looks at the pool by itself, in milliseconds; 0 while it does.
    pub(super) wakes_ms: AtomicU64,
    /// Whether the sweep was asked to look at it, and has not begun to.
    pub(super) is_rung: AtomicBool,
    is_deleted: AtomicBool,
}

impl PoolState {
    fn new(
        id: PoolId,
        name: PoolName,
        settings: Settings,
        size: Size,
        own: OwnOptions,
        waiters: Waiters,
    ) -> Arc<Self> {
        let keys = Pool::with_journal(of_keys(settings), size, ()).with_own(own);
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

    pub(super) fn keys(&self) -> &Pool {
        &self.keys
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.is_deleted.load(SeqCst)
    }

    /// O(1); O(s + d log n) for s shards and d due entries if the cool-down after a lapse changes.
    fn set(&self, settings: Settings, now: Timestamp) {
        let _changing = self.changing.lock();
        self.settings.store(settings);
        self.keys.configure(of_keys(settings), now);
    }
}

/// The part of the settings that is for the engine.
fn of_keys(settings: Settings) -> engine::Settings {
    let key_ttl_ms = settings.key_ttl_ms.unwrap_or(Ttl::NEVER_MS);
    engine::Settings {
        ttl: Ttl { key_ttl_ms, lease_ttl_ms: settings.lease_ttl_ms },
        keys_max: settings.keys_max,
        lapse_cooldown_ms: settings.lapse_cooldown_ms,
    }
}

/// All pools.
pub(super) struct Pools {
    default: Arc<PoolState>,
    options: Options,
    /// The secret by which values are found, how many bytes those of all pools have, and how many labels a pool may.
    own: OwnOptions,
    /// How many clients wait in all pools.
    waiting: Arc<AtomicUsize>,
    version: AtomicU64,
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    by_name: BTreeMap<PoolName, Arc<PoolState>>,
    by_place: Vec<Option<Arc<PoolState>>>,
    next_serial: u32,
}

impl Pools {
    pub(super) fn new(options: Options) -> Self {
        let waiting = Arc::<AtomicUsize>::default();
        let value_bytes = Arc::new(ValueBytes::new(options.value_bytes_max));
        let own = OwnOptions { secret: rand::random(), value_bytes, ..OwnOptions::default() };
        let name: PoolName = PoolName::DEFAULT.parse().expect("it is a name");
        let waiters = Waiters::new(options.waiters_max, Arc::clone(&waiting));
        let default = PoolState::new(
            PoolId::DEFAULT,
            name.clone(),
            options.settings,
            Size::Fixed(options.shards),
            own.clone(),
            waiters,
        );
        let table = Table {
            by_name: [(name, Arc::clone(&default))].into(),
            by_place: vec![Some(Arc::clone(&default))],
            next_serial: 1,
        };
        let (version, table) = (AtomicU64::new(0), RwLock::new(table));
        Self { default, options, own, waiting, version, table }
    }

    /// How many bytes the values of all pools have, and how many they may have. O(1).
    pub(super) fn value_bytes(&self) -> &ValueBytes {
        &self.own.value_bytes
    }

    pub(super) fn default(&self) -> &Arc<PoolState> {
        &self.default
    }

    pub(super) fn default_settings(&self) -> Settings {
        self.options.settings
    }

    /// O(1).
    pub(super) fn get(&self, pool: PoolId) -> Option<Arc<PoolState>> {
        let table = self.table.read();
        table.by_place.get(pool.place as usize)?.clone().filter(|known| known.id == pool)
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
            pool.set(settings, now);
            return Ok((false, pool));
        }
        if table.by_name.len() >= self.options.pools_max {
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
        let waiters = Waiters::new(self.options.waiters_max, Arc::clone(&self.waiting));
        let (size, own) = (Size::growing(Options::SHARDS), self.own.clone());
        let pool = PoolState::new(id, name.clone(), settings, size, own, waiters);
        table.by_place[place] = Some(Arc::clone(&pool));
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
        pool.is_deleted.store(true, SeqCst);
        self.version.fetch_add(1, Release);
        Ok(pool)
    }
}
