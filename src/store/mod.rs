//! Where keys live, behind one trait: [`Store`].

mod memory;

use std::future::Future;
use std::time::SystemTime;

pub use self::memory::{Memory, Options};
pub use crate::engine::Stats;
use crate::error::Error;
use crate::key::{Fence, KeyId, KeyInfo, Lease};
use crate::time::Timestamp;

/// Lets others run in between two steps of a long work: tasks of this thread, and other threads of
/// this processor, to which a thread that goes on and on would leave milliseconds at a time.
pub(crate) async fn give_way() {
    std::thread::yield_now();
    tokio::task::yield_now().await;
}

/// Keys that were created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Their ids.
    pub ids: Vec<KeyId>,
    /// When the first of them dies unless it is kept alive.
    pub life_ends: Timestamp,
}

/// How a key is leased.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leasing {
    /// For how many milliseconds, 1 at least; without it for the lease TTL.
    pub lease_ms: Option<u32>,
    /// For how many milliseconds to wait until a key is free.
    pub wait_ms: u32,
}

/// How a key is taken back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Release<'a> {
    /// Which generation is meant.
    pub fence: Fence<'a>,
    /// For how many milliseconds the key rests before it is served again.
    pub cooldown_ms: u32,
}

/// How a lease is renewed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Renewal<'a> {
    /// Which generation is meant.
    pub fence: Fence<'a>,
    /// For how many milliseconds from now, 1 at least; without it for the lease TTL.
    pub lease_ms: Option<u32>,
}

/// How a store is doing, beside its counts; at about one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// The most keys there may be at once.
    pub keys_max: u64,
    /// Who wait for a key.
    pub waiting: u64,
    /// Leases that were given to those who waited, since the start.
    pub leases_after_waiting: u64,
    /// For how many milliseconds the oldest entry that is due has been due: how far the sweep is
    /// behind.
    pub sweep_lag_ms: u64,
}

/// A pool of keys that die unless they are kept alive, and are leased one holder at a time.
///
/// What every store promises:
///
/// - A key has one holder at most. A lease lasts as long as was asked for, or until the key is
///   released, deleted or dies; it is cut short by nothing else, and at its end the key is free at
///   once. The same is true of a cool-down.
/// - A generation never repeats for a key: a request that names the one of a lease that is over is
///   refused.
/// - [`Store::lease`] gives each free key with equal probability, and fails only if there was a
///   moment at which none was free.
/// - A key dies one key TTL after its creation or its last keep-alive, leased or not. A dead key
///   is like one that never was: it is neither shown nor served, and nothing revives it.
/// - Each operation on one key is atomic. Whatever fails has changed nothing.
/// - Operations may be called from any number of tasks. One that is dropped before its end has
///   either happened or not; a creation may have happened for some of its keys.
pub trait Store: Send + Sync + 'static {
    /// Whether an operation on one key that is not ready when it is first polled has done nothing
    /// yet, so that it may be dropped and asked for again. If not, each has a task of its own.
    const MAY_ASK_AGAIN: bool = false;

    /// Creates `count` free keys; none if there is no room for all of them. It may give way to
    /// others in between, so that its keys are not of one moment.
    ///
    /// # Errors
    ///
    /// [`Error::Full`]
    fn create(&self, count: usize) -> impl Future<Output = Result<Created, Error>> + Send;

    /// Leases a random free key; if none is free, waits for one as long as it was told.
    ///
    /// First come, first served: while somebody waits, a lease that does not wait is told that no
    /// key is free. One who waits is woken by whatever frees a key, and nobody else is. If the
    /// future is dropped, it leaves the queue and takes no key with it.
    ///
    /// # Errors
    ///
    /// [`Error::Exhausted`], [`Error::TooManyWaiters`]
    fn lease(&self, leasing: Leasing) -> impl Future<Output = Result<Lease, Error>> + Send;

    /// Leases up to `count` random free keys, at least one. It waits for the first only. If the
    /// future is dropped, the keys that it has leased are soon free.
    ///
    /// # Errors
    ///
    /// As [`Store::lease`].
    fn lease_many(
        &self,
        leasing: Leasing,
        count: usize,
    ) -> impl Future<Output = Result<Vec<Lease>, Error>> + Send;

    /// Leases up to `count` random free keys for the lease TTL, as far as that needs no waiting at
    /// all, and appends the leases to `leases`. Fewer are no sign that no key is free.
    fn lease_at_once(&self, count: usize, leases: &mut Vec<Lease>) {
        let _ = (count, leases);
    }

    /// Tells which keys are about to be asked for, so that a store may fetch what it knows of them.
    /// Nothing is promised, and nothing changes.
    fn prefetch(&self, ids: &[KeyId]) {
        let _ = ids;
    }

    /// Starts a lease anew, with the same generation.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Stale`], [`Error::NotLeased`]
    fn renew(
        &self,
        id: &KeyId,
        renewal: Renewal<'_>,
    ) -> impl Future<Output = Result<Lease, Error>> + Send;

    /// Takes a key back, whoever holds it. Without a cool-down a free key stays free, and one that
    /// is cooling is free; a cool-down that lasts longer already is not cut short.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Stale`]
    fn release(
        &self,
        id: &KeyId,
        release: Release<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Starts a key's life anew, and answers when it ends. Its lease and its creation time stay as
    /// they are.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]
    fn keep_alive(&self, id: &KeyId) -> impl Future<Output = Result<Timestamp, Error>> + Send;

    /// Removes a key, leased or not.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Stale`]
    fn delete(
        &self,
        id: &KeyId,
        fence: Fence<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// What is known of a key.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]
    fn get(&self, id: &KeyId) -> impl Future<Output = Result<KeyInfo, Error>> + Send;

    /// In how many milliseconds the next lease or cool-down ends, if there is one.
    fn next_release_ms(&self) -> impl Future<Output = Option<u64>> + Send;

    /// Counts, at about one moment.
    fn stats(&self) -> impl Future<Output = Stats> + Send;

    /// How it is doing. O(1).
    fn vitals(&self) -> impl Future<Output = Vitals> + Send;

    /// The time of day at a time that this store gave, for display.
    fn wall(&self, at: Timestamp) -> SystemTime;
}
