//! The contract of every store.

use std::sync::Arc;
use std::task::Waker;

use super::import::{Imported, OwnKey};
use super::inventory::{Inventory, Wanted};
use super::operation::{Answer, Operation, Outcome, Ticket};
use crate::engine::{IndexSizes, Totals};
use crate::error::Error;
use crate::journal::JournalStats;
use crate::key::Lease;
use crate::pool::{PoolId, PoolName, Settings};
use crate::time::Timestamp;

/// After how long a store that cannot do something may be asked again, in milliseconds.
const RETRY_AFTER_MS: u64 = 1000;

/// What a pool contains, and what has happened in it.
///
/// All sums hold: `keys` = `free` + `leased` + `cooling`, and those of [`Totals`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// All keys. Dead ones count until the store has removed them.
    pub keys: u64,
    /// Keys that are free.
    pub free: u64,
    /// Keys that are leased. A lease that is over counts until the store has noticed it.
    pub leased: u64,
    /// Keys that cool down. A cool-down that is over counts until the store has noticed it.
    pub cooling: u64,
    /// The most keys there may be at once.
    pub keys_max: u64,
    /// Clients that wait for a key.
    pub waiting: u64,
    /// Leases that clients have waited for and got, since the start.
    pub leases_after_waiting: u64,
    /// What has happened since the start.
    pub totals: Totals,
}

/// The internal state of a store with indexes and a sweep, for its operator.
pub trait Diagnose: Send + Sync {
    /// How large the indexes of a pool are. `None` if there is no such pool. O(s) for s shards.
    fn index_sizes(&self, pool: PoolId) -> Option<IndexSizes>;

    /// How far the sweep is behind, in all pools: for how many milliseconds the oldest due entry has been due. O(p log n)
    /// for p pools.
    fn sweep_lag_ms(&self) -> u64;

    /// How many bytes the values of keys have in all pools, and how many they may have. `None` if others count them. O(1).
    fn value_bytes(&self) -> Option<(u64, u64)>;

    /// What the journal of the data directory has done. `None` without a data directory. O(1).
    fn journal(&self) -> Option<JournalStats>;

    /// What the server has to do with a store that it shares with others. `None` without one. O(p) for p pools.
    fn remote(&self) -> Option<RemoteStats> {
        None
    }
}

/// What a server has to do with a store that it shares with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteStats {
    /// Calls that have ended. Each is for a group of operations on one shard of a pool, or for what all shards share.
    pub calls: u64,
    /// Those that have failed: they were not carried out, or it is not known whether they were. They are repeated.
    pub failed: u64,
    /// How long all calls took together, in nanoseconds.
    pub call_ns: u64,
    /// Connections that were replaced because they were of no use any more.
    pub connections_replaced: u64,
    /// Shards that do not answer now, of all pools.
    pub silent_shards: u64,
}

/// A pool in a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What the store calls it.
    pub id: PoolId,
    /// Its name.
    pub name: PoolName,
}

/// A point in the order in which a store makes changes. Later ones are larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitPoint(pub u64);

/// Receives the outcomes of operations that were not done at once.
pub trait Complete: Send + Sync {
    /// Takes the outcome of the operation with this token. The store calls it exactly once for each
    /// [`Answer::Later`], at any time and on any thread. False if the outcome is not wanted any more: then
    /// the store takes back the lease in it.
    ///
    /// The outcome may rest on changes that are not durable yet: see [`Store::uncommitted`].
    ///
    /// It must neither block nor call the store.
    fn complete(&self, token: u64, outcome: Outcome) -> bool;
}

/// The receiver of outcomes of a batch that come later. The token of its first operation is `first_token`,
/// that of the next one is one more, and so on.
pub struct Later {
    /// What receives them.
    pub receiver: Arc<dyn Complete>,
    /// The token of the first operation.
    pub first_token: u64,
}

/// Pools of keys that die unless they are kept alive, and are leased to one holder at a time.
///
/// One pool, [`PoolId::DEFAULT`], always exists. A store that has no others need not implement what is about them.
///
/// Every store guarantees for each pool:
///
/// - A key has at most one holder. A lease lasts as long as was last asked for, or until the key is released,
///   deleted or dies. Nothing else cuts it short, and when it ends the key is free at once. The same is true
///   of a cool-down. After a lease that ran out, the key first cools down for as long as the settings of the pool said
///   when the lease ended.
/// - A generation never repeats for a key, so a request that names the generation of an ended lease is
///   refused.
/// - A lease gives each free key with equal probability, and fails only if there was a moment at which
///   none was free.
/// - First come, first served: while a client waits, a lease that does not wait finds no free key. Whatever
///   frees a key serves the clients that wait.
/// - A key dies one key TTL after its creation or its last keep-alive, leased or not, unless keys of the pool live until
///   they are deleted. A dead key is neither shown nor leased, and nothing revives it. No change of the settings, and no
///   keep-alive, cuts a life short.
/// - Time never runs backwards for a key: what was once shown as over stays over.
/// - Each operation on one key is atomic. One that fails has changed nothing. Only after
///   [`Error::Unavailable`] it is not known whether it has.
///
/// What a store answers may rest on changes that are not durable yet: a crash could undo them. This is also true of an
/// answer that changed nothing, because it tells of the changes before it. Whoever tells a client of an answer, even of
/// one that is an error, first asks for [`Store::uncommitted`] and waits until that is durable. The store itself waits
/// in its async methods, also before they fail: what they return is durable.
///
/// Each store has its own clock.
pub trait Store: Send + Sync + 'static {
    /// Executes operations, and adds an answer for each to `answers`, in their order. It does not block. It
    /// costs as much as its operations together.
    ///
    /// Operations of a batch that name the same key are executed in their order. An operation that cannot be
    /// answered at once does not delay others: one that takes long or waits for a key, or any in a store that
    /// is remote or must first write to disk.
    ///
    /// Any operation may fail with [`Error::Unavailable`].
    ///
    /// [`Error::NoSuchPool`] if a pool was deleted, perhaps meanwhile.
    ///
    /// An answer may rest on changes that are not durable yet: see [`Store::uncommitted`].
    fn execute(
        &self,
        operations: &[(PoolId, Operation<'_>)],
        answers: &mut Vec<Answer>,
        later: &Later,
    );

    /// Cancels an operation. A lease that waits ends now, with [`Error::Exhausted`] unless it was just
    /// served. A creation stops, and the keys that it has already created live for their key TTL. Other
    /// operations go on. O(log w) for w clients that wait.
    fn cancel(&self, ticket: Ticket);

    /// Takes back leases that no client has received, except one that a retry with the same request key has got, too.
    /// That may happen a little later. O(l) for l leases.
    fn give_back(&self, leases: Vec<Lease>);

    /// The counts of a pool at about one moment.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPool`], [`Error::Unavailable`]
    fn stats_of(&self, pool: PoolId) -> impl Future<Output = Result<Stats, Error>> + Send;

    /// A page of a list of the keys of a pool. A key that exists from the first page to the last one is listed exactly
    /// once, however many come and go meanwhile, and none is listed twice. O(limit): where few keys are in the state that
    /// is wanted, a page is short.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPool`], [`Error::MalformedCursor`], [`Error::Unavailable`]
    fn inventory(
        &self,
        pool: PoolId,
        wanted: Wanted<'_>,
    ) -> impl Future<Output = Result<Inventory, Error>> + Send {
        let _ = (pool, wanted);
        async { Err(Error::Unavailable { retry_after_ms: RETRY_AFTER_MS }) }
    }

    /// Adds keys with values, or none if there is no room for all. A value that a living key of the pool has is not added once more: that key stays
    /// as it is, with its labels. O(log n) a key. If its future is dropped, some keys may have been added.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPool`], [`Error::Full`], [`Error::ValuesFull`], [`Error::TooManyLabels`], [`Error::Unavailable`].
    /// Nothing was added then, unless a key that was known before has gone meanwhile, and others took its place.
    fn import(
        &self,
        pool: PoolId,
        keys: &[OwnKey],
    ) -> impl Future<Output = Result<Imported, Error>> + Send {
        let _ = (pool, keys);
        async { Err(Error::Unavailable { retry_after_ms: RETRY_AFTER_MS }) }
    }

    /// Takes back all leases of a pool that have a holder of this name, and returns how many. Their keys are free then.
    /// Leases that begin meanwhile may go on. O(s + l log n) for s shards and l leases.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPool`], [`Error::Unavailable`]
    fn take_back_from(
        &self,
        pool: PoolId,
        holder: &str,
    ) -> impl Future<Output = Result<u64, Error>> + Send {
        let _ = (pool, holder);
        async { Err(Error::Unavailable { retry_after_ms: RETRY_AFTER_MS }) }
    }

    /// What must be durable before a client may be told of anything that this store has given before this call: answers,
    /// outcomes that went to [`Complete`], and what it says of pools. `None` if all of that is durable already, and in a
    /// store that keeps nothing. The store then begins soon to make it durable. It does not block. O(1).
    fn uncommitted(&self) -> Option<CommitPoint> {
        None
    }

    /// Whether everything up to `point` is durable. Once it is, it stays so. O(1).
    fn is_committed(&self, point: CommitPoint) -> bool {
        let _ = point;
        true
    }

    /// Wakes `waker` once everything up to `point` is durable: at once if it is. It does not block. O(1).
    fn wake_when_committed(&self, point: CommitPoint, waker: &Waker) {
        let _ = point;
        waker.wake_by_ref();
    }

    /// After how many operations to ask for [`Store::uncommitted`], if more are to be executed. In a store that writes to
    /// disk, one group of them is written while the next one is executed. O(1).
    fn commit_group(&self) -> usize {
        usize::MAX
    }

    /// The pool with this name. It does not block. O(log p) for p pools.
    fn find_pool(&self, name: &str) -> Option<PoolId> {
        (name == PoolName::DEFAULT).then_some(PoolId::DEFAULT)
    }

    /// The name of a pool, unless it was deleted. It does not block. O(1).
    fn name_of(&self, pool: PoolId) -> Option<PoolName> {
        (pool == PoolId::DEFAULT).then(PoolName::default)
    }

    /// A number that changes with each pool that comes or goes: until then [`Store::find_pool`] says the same. O(1).
    fn pools_version(&self) -> u64 {
        0
    }

    /// The settings of a pool, unless it was deleted. It does not block. O(1).
    fn settings_of(&self, pool: PoolId) -> Option<Settings> {
        (pool == PoolId::DEFAULT).then(Settings::default)
    }

    /// The settings of a new pool, as far as its operator does not say otherwise. O(1).
    fn default_settings(&self) -> Settings {
        Settings::default()
    }

    /// Creates a pool, or changes the settings of the one with this name. True if it is new. Leases, cool-downs and lives
    /// that have begun stay as they are.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyPools`], [`Error::Unavailable`]
    fn put_pool(
        &self,
        name: PoolName,
        settings: Settings,
    ) -> impl Future<Output = Result<bool, Error>> + Send {
        let _ = (name, settings);
        async { Err(Error::Unavailable { retry_after_ms: RETRY_AFTER_MS }) }
    }

    /// Deletes a pool, and with `with_keys` also one that has keys. Clients that wait for one of its keys get
    /// [`Error::NoSuchPool`].
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPool`], [`Error::PoolNotEmpty`], [`Error::DefaultPool`], [`Error::Unavailable`]
    fn delete_pool(
        &self,
        name: &str,
        with_keys: bool,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        let _ = (name, with_keys);
        async { Err(Error::Unavailable { retry_after_ms: RETRY_AFTER_MS }) }
    }

    /// Up to `limit` pools in the order of their names, of those behind `after`. O(limit + log p) for p pools.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]
    fn list_pools(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Listed>, Error>> + Send {
        let is_first = after.is_none_or(|after| after < PoolName::DEFAULT);
        let of_default = || Listed { id: PoolId::DEFAULT, name: PoolName::default() };
        let all = is_first.then(of_default);
        let list = all.into_iter().take(limit).collect();
        async { Ok(list) }
    }

    /// Converts a time that this store gave to Unix time in milliseconds, for display. O(1).
    fn unix_ms(&self, at: Timestamp) -> u64;
}
