//! A store in an engine that many servers share: Valkey or Redis, a cluster or a single node.
//!
//! A pool has a fixed number of shards, each with a hash tag of its own, so that a cluster spreads them over its nodes. A function in the engine
//! (`lua/`) executes a group of operations on one shard; this module groups them, chooses shards, and lets clients wait.

mod connection;
mod creation;
mod draw;
mod drive;
mod execute;
mod failure;
mod fresh;
mod lane;
mod library;
mod limits;
mod line;
mod link;
mod listen;
mod lists;
mod options;
mod own;
mod pool;
mod pools;
mod quota;
mod quotas;
mod receiver;
mod registry;
mod requests;
mod room;
mod serve;
mod state;
mod wire;

use std::io;
use std::sync::Arc;

use self::execute::CREATION;
use self::failure::UNAVAILABLE;
use self::link::Link;
pub use self::options::RedisOptions;
use self::pool::Pool;
use self::state::Shared;
use super::import::{Imported, OwnKey};
use super::inventory::{Inventory, Wanted};
use super::memory::Options;
use super::operation::{Answer, Operation, Ticket};
use super::port::{Diagnose, Later, Listed, RemoteStats, Stats, Store};
use crate::engine::IndexSizes;
use crate::error::Error;
use crate::journal::JournalStats;
use crate::key::Lease;
use crate::pool::{PoolId, PoolName, Settings};
use crate::time::{Clock, Timestamp};

/// A [`Store`] in Valkey or Redis. Clones share it.
#[derive(Clone)]
pub struct Redis<C> {
    shared: Arc<Shared<C>>,
}

impl<C: Clock> Redis<C> {
    /// Connects to the engine, and creates the default pool or gives it the settings of `options`. Clients wait by `clock`;
    /// all else is by the clocks of the engine.
    ///
    /// # Errors
    ///
    /// If the engine cannot be reached, or does not let the server use it.
    pub async fn open(redis: &RedisOptions, options: Options, clock: C) -> io::Result<Self> {
        let (link, pushes) = Link::open(redis).await?;
        let shared = Shared::new(link, clock, &redis.prefix, options);
        shared.check_format().await?;
        shared.refresh().await.map_err(io::Error::other)?;
        shared.put(PoolName::default(), options.settings).await.map_err(io::Error::other)?;
        tokio::spawn(Arc::clone(&shared).follow());
        tokio::spawn(Arc::clone(&shared).hear(pushes));
        Ok(Self { shared })
    }

    /// How many calls to the engine are under way. O(1).
    #[must_use]
    pub fn calls(&self) -> usize {
        self.shared.link.calls()
    }

    fn get(&self, pool: PoolId) -> Result<Arc<Pool>, Error> {
        self.shared.registry.get(pool).ok_or(Error::NoSuchPool)
    }

    /// Does what takes several steps, and all of them, even if nobody waits for it any more.
    async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.shared.runtime.spawn(work).await.unwrap_or(Err(UNAVAILABLE))
    }
}

impl<C: Clock> Store for Redis<C> {
    fn execute(
        &self,
        operations: &[(PoolId, Operation<'_>)],
        answers: &mut Vec<Answer>,
        later: &Later,
    ) {
        self.shared.execute_all(operations, answers, later);
    }

    fn cancel(&self, ticket: Ticket) {
        if ticket.number & CREATION != 0 {
            self.shared.creations.lock().remove(&ticket.number);
        } else if let Ok(pool) = self.get(ticket.pool)
            && let Some(entry) = pool.line.cancel(ticket.number)
        {
            self.shared.end(&pool, entry, Error::EXHAUSTED);
        }
    }

    fn give_back(&self, leases: Vec<Lease>) {
        for lease in leases {
            if let Ok(pool) = self.get(lease.pool) {
                self.shared.take_back(&pool, &lease);
            }
        }
    }

    async fn stats_of(&self, pool: PoolId) -> Result<Stats, Error> {
        let pool = self.get(pool)?;
        pool.line.rested().await;
        Ok(self.shared.count(&pool).await?.stats)
    }

    async fn inventory(&self, pool: PoolId, wanted: Wanted<'_>) -> Result<Inventory, Error> {
        self.shared.page(&self.get(pool)?, wanted).await
    }

    async fn import(&self, pool: PoolId, keys: &[OwnKey]) -> Result<Imported, Error> {
        let (shared, pool, keys) = (Arc::clone(&self.shared), self.get(pool)?, keys.to_vec());
        self.to_its_end(async move { shared.import_all(&pool, &keys).await }).await
    }

    async fn take_back_from(&self, pool: PoolId, holder: &str) -> Result<u64, Error> {
        self.shared.take_back_all(&self.get(pool)?, holder).await
    }

    fn unix_ms(&self, at: Timestamp) -> u64 {
        Timestamp::EPOCH_UNIX_MS + at.as_ms()
    }

    fn find_pool(&self, name: &str) -> Option<PoolId> {
        self.shared.registry.find(name)
    }

    fn name_of(&self, pool: PoolId) -> Option<PoolName> {
        self.get(pool).ok().map(|pool| pool.name.clone())
    }

    fn pools_version(&self) -> u64 {
        self.shared.registry.version()
    }

    fn settings_of(&self, pool: PoolId) -> Option<Settings> {
        self.get(pool).ok().map(|pool| pool.settings())
    }

    fn default_settings(&self) -> Settings {
        self.shared.options.settings
    }

    async fn put_pool(&self, name: PoolName, settings: Settings) -> Result<bool, Error> {
        let shared = Arc::clone(&self.shared);
        self.to_its_end(async move { shared.put(name, settings).await }).await
    }

    async fn delete_pool(&self, name: &str, with_keys: bool) -> Result<(), Error> {
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        self.to_its_end(async move { shared.delete(&name, with_keys).await }).await
    }

    async fn list_pools(&self, after: Option<&str>, limit: usize) -> Result<Vec<Listed>, Error> {
        self.shared.refresh().await?;
        Ok(self.shared.registry.list(after, limit))
    }
}

impl<C: Clock> Diagnose for Redis<C> {
    /// They are in the engine.
    fn index_sizes(&self, _: PoolId) -> Option<IndexSizes> {
        None
    }

    fn sweep_lag_ms(&self) -> u64 {
        0
    }

    fn value_bytes(&self) -> Option<(u64, u64)> {
        None
    }

    fn journal(&self) -> Option<JournalStats> {
        None
    }

    fn remote(&self) -> Option<RemoteStats> {
        let pools = self.shared.registry.all();
        let silent_shards = pools.iter().map(|pool| pool.down() as u64).sum();
        Some(RemoteStats { silent_shards, ..self.shared.link.stats() })
    }
}
