//! A store in this process's memory: pools, each with its [`Pool`](crate::engine::Pool) of keys and its queue of
//! waiters, a clock, and one sweep for all of them.

mod alarm;
mod check;
mod create;
mod creation;
mod durable;
mod execute;
mod import;
mod inventory;
mod one_pool;
mod options;
#[cfg(all(test, not(loom)))]
mod own_tests;
mod pools;
mod queue;
mod repair;
mod requests;
mod state;
mod sweep;
#[cfg(all(test, not(loom)))]
mod tests;
mod waiting;

use std::sync::Arc;
use std::task::Waker;

pub use self::check::Checked;
pub use self::durable::{ClockState, DataDirectory, Durable};
use self::one_pool::OnePool;
pub use self::options::Options;
use self::pools::PoolState;
pub use self::repair::repair_directory;
pub use self::state::Memory;
use super::give_way;
use super::import::{Imported, OwnKey};
use super::inventory::{Inventory, Wanted};
use super::operation::{Answer, Operation, Ticket};
use super::port::{CommitPoint, Diagnose, Later, Listed, Stats, Store};
use crate::engine::{HolderCursor, IndexSizes};
use crate::error::Error;
use crate::journal::{Journal, JournalStats};
use crate::key::Lease;
use crate::pool::{PoolId, PoolName, Settings};
use crate::store::committed::committed;
use crate::time::{Clock, Timestamp};

/// How many operations are executed before a commit is asked for. With more, clients that send one request at a time all
/// wait for the same flush; with fewer, each flush has less to write.
const COMMIT_GROUP: usize = 32;

impl<C: Clock> Store for Memory<C> {
    fn execute(
        &self,
        operations: &[(PoolId, Operation<'_>)],
        answers: &mut Vec<Answer>,
        later: &Later,
    ) {
        self.execute_all(operations, answers, later);
    }

    fn cancel(&self, ticket: Ticket) {
        let is_waiter = self.shared.with(ticket.pool, |pool| pool.cancel(ticket.number));
        if is_waiter != Some(true) {
            self.shared.creations.lock().forget(ticket);
        }
    }

    fn give_back(&self, mut leases: Vec<Lease>) {
        if leases.len() <= OnePool::<C>::STEP {
            self.take_back(&leases);
            return self.commit_soon();
        }
        // The sweep takes them back, a step at a time.
        self.shared.given_up.lock().append(&mut leases);
        self.shared.alarm.bell.notify_one();
    }

    fn uncommitted(&self) -> Option<CommitPoint> {
        let journal = self.shared.journal.as_ref()?;
        journal.uncommitted(self.shared.clock.now()).map(CommitPoint)
    }

    fn is_committed(&self, CommitPoint(frame): CommitPoint) -> bool {
        self.shared.journal.as_ref().is_none_or(|journal| journal.is_committed(frame))
    }

    fn wake_when_committed(&self, CommitPoint(frame): CommitPoint, waker: &Waker) {
        match &self.shared.journal {
            Some(journal) => journal.wake_when_committed(frame, waker),
            None => waker.wake_by_ref(),
        }
    }

    fn commit_group(&self) -> usize {
        if self.shared.journal.is_some() { COMMIT_GROUP } else { usize::MAX }
    }

    async fn stats_of(&self, pool: PoolId) -> Result<Stats, Error> {
        let stats = self.shared.with(pool, |pool| pool.stats()).ok_or(Error::NoSuchPool);
        committed(self).await;
        stats
    }

    async fn inventory(&self, pool: PoolId, wanted: Wanted<'_>) -> Result<Inventory, Error> {
        let page = self.page_of(pool, wanted).await;
        committed(self).await;
        page
    }

    async fn import(&self, pool: PoolId, keys: &[OwnKey]) -> Result<Imported, Error> {
        self.shared.check_room()?;
        let pool = self.shared.pools.get(pool).ok_or(Error::NoSuchPool)?;
        let imported = OnePool { shared: &self.shared, pool: &pool }.import(keys).await;
        committed(self).await;
        imported
    }

    async fn take_back_from(&self, pool: PoolId, holder: &str) -> Result<u64, Error> {
        self.shared.check_room()?;
        let (mut count, mut cursor) = (0, HolderCursor::default());
        loop {
            let step = self.shared.with(pool, |pool| pool.take_back_some(holder, &mut cursor));
            let (is_done, released) = step.ok_or(Error::NoSuchPool)?;
            count += released;
            if is_done {
                committed(self).await;
                return Ok(count);
            }
            give_way().await;
        }
    }

    fn unix_ms(&self, at: Timestamp) -> u64 {
        self.shared.clock.unix_ms(at)
    }

    fn find_pool(&self, name: &str) -> Option<PoolId> {
        self.shared.pools.find(name)
    }

    fn name_of(&self, pool: PoolId) -> Option<PoolName> {
        self.shared.with(pool, |pool| pool.pool.name.clone())
    }

    fn pools_version(&self) -> u64 {
        self.shared.pools.version()
    }

    fn settings_of(&self, pool: PoolId) -> Option<Settings> {
        self.shared.with(pool, |pool| pool.pool.settings())
    }

    fn default_settings(&self) -> Settings {
        self.shared.pools.default_settings()
    }

    async fn put_pool(&self, name: PoolName, settings: Settings) -> Result<bool, Error> {
        self.shared.check_room()?;
        let (is_new, pool) = self.shared.pools.put(name, settings, self.shared.clock.now())?;
        // What a lapsed lease is followed by may end earlier now.
        self.shared.alarm.ring(&pool);
        committed(self).await;
        Ok(is_new)
    }

    async fn delete_pool(&self, name: &str, with_keys: bool) -> Result<(), Error> {
        self.shared.check_room()?;
        if !with_keys {
            // Dead keys do not count.
            let id = self.shared.pools.find(name).ok_or(Error::NoSuchPool)?;
            while self.shared.with(id, |pool| pool.remove_dead()) == Some(true) {
                give_way().await;
            }
        }
        let may_go = |pool: &PoolState| with_keys || pool.keys().close_if_empty();
        let removed = self.shared.pools.remove(name, may_go);
        if removed.is_err() {
            committed(self).await;
        }
        let pool = removed?;
        for waiter in pool.waiters.close() {
            OnePool { shared: &self.shared, pool: &pool }.complete(&waiter, Err(Error::NoSuchPool));
        }
        // The sweep drops it.
        self.shared.alarm.ring(&pool);
        drop(pool);
        committed(self).await;
        Ok(())
    }

    async fn list_pools(&self, after: Option<&str>, limit: usize) -> Result<Vec<Listed>, Error> {
        let list = self.shared.pools.list(after, limit);
        committed(self).await;
        Ok(list)
    }
}

impl<C: Clock> Diagnose for Memory<C> {
    fn index_sizes(&self, pool: PoolId) -> Option<IndexSizes> {
        self.shared.with(pool, |pool| pool.keys().index_sizes())
    }

    fn sweep_lag_ms(&self) -> u64 {
        let now = self.shared.clock.now();
        let lag_ms =
            |pool: &Arc<PoolState>| pool.keys().next_deadline().map_or(0, |due| now.ms_since(due));
        self.shared.pools.all().iter().map(lag_ms).max().unwrap_or(0)
    }

    fn value_bytes(&self) -> Option<(u64, u64)> {
        let bytes = self.shared.pools.value_bytes();
        Some((bytes.held() as u64, bytes.max() as u64))
    }

    fn journal(&self) -> Option<JournalStats> {
        self.shared.journal.as_ref().map(Journal::stats)
    }
}
