//! The pool: its parts, and how an operation comes to a record.

use super::expiry::ExpiryIndex;
use super::fail_point::FailPoint;
use super::free::FreeLists;
use super::guarded::Guarded;
use super::journal::Journal;
use super::records::Records;
use super::shard::Event;
use super::short_id::{Sharding, ShortId};
use super::sync::AtomicUsize;
use crate::error::Error;
use crate::key::{Fence, KeyId, Ttl};
use crate::time::Timestamp;

/// A pool of keys that any number of threads may use at once, and whose changes a [`Journal`] notes.
///
/// Each operation is exact about deadlines, whether or not [`Pool::expire`] has been called: that
/// call only frees memory and makes ended leases and cool-downs known to the draw early. An operation
/// that adds deadlines (lease, renewal, cool-down, creation, keep-alive) handles some that are due
/// first, so that they cannot pile up.
///
/// Each operation counts as of its `now`, or as of the latest time that an operation of the same shard
/// has counted as of: time never runs backwards for a key.
pub struct Pool<J: Journal = ()> {
    pub(super) ttl: Ttl,
    pub(super) keys_max: usize,
    /// Keys that live or are about to be created, and dead ones that were not yet removed.
    pub(super) keys: AtomicUsize,
    pub(super) records: Records,
    pub(super) free: FreeLists,
    /// For each record exactly one entry, at or before the end of its life.
    pub(super) lives: ExpiryIndex,
    /// For each record at most one entry. For a leased or cooling one: at or before the end of
    /// that.
    pub(super) blocks: ExpiryIndex,
    pub(super) journal: J,
}

impl Pool {
    /// An empty pool of at most `keys_max` keys, without a journal. O(s) for s shards.
    ///
    /// # Panics
    ///
    /// Unless `shards` is a power of two from 2 to 4096.
    #[must_use]
    pub fn new(ttl: Ttl, keys_max: usize, shards: usize) -> Self {
        Self::with_journal(ttl, keys_max, shards, ())
    }
}

impl<J: Journal> Pool<J> {
    /// An empty pool of at most `keys_max` keys. O(s) for s shards.
    ///
    /// # Panics
    ///
    /// Unless `shards` is a power of two from 2 to 4096.
    #[must_use]
    pub fn with_journal(ttl: Ttl, keys_max: usize, shards: usize, journal: J) -> Self {
        let sharding = Sharding::new(shards);
        Self {
            ttl,
            keys_max,
            keys: AtomicUsize::new(0),
            records: Records::new(sharding),
            free: FreeLists::new(sharding),
            lives: ExpiryIndex::new(ttl.key_ttl_ms),
            blocks: ExpiryIndex::new(ttl.lease_ttl_ms.into()),
            journal,
        }
    }

    /// How long keys live and leases last.
    #[must_use]
    pub fn ttl(&self) -> Ttl {
        self.ttl
    }

    /// The most keys there may be at once.
    #[must_use]
    pub fn keys_max(&self) -> usize {
        self.keys_max
    }

    /// Does something to the record of a living key of the right generation, under its guard.
    pub(super) fn with<T>(
        &self,
        id: &KeyId,
        now: Timestamp,
        fence: Fence<'_>,
        act: impl FnOnce(&mut Guarded<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (half, key) = ShortId::split(id);
        let result = self.records.with(key, now, |guarded| {
            if !guarded.is_living(half) {
                return Err(Error::NotFound);
            }
            check(fence, guarded)?;
            act(guarded)
        });
        result.unwrap_or(Err(Error::NotFound))
    }

    /// Asks the memory for what is known of these keys, and changes nothing. It is worth while before
    /// several of them are asked for one after the other, as a look-up waits for memory. O(k) for k
    /// keys.
    pub fn prefetch<'a>(&self, ids: impl Iterator<Item = &'a KeyId> + Clone) {
        self.records.prefetch(ids.map(|id| ShortId::split(id).1));
    }
}

pub(super) fn check(fence: Fence<'_>, guarded: &Guarded<'_>) -> Result<(), Error> {
    let generation = guarded.generation_at(guarded.now);
    if fence.admits(generation) || FailPoint::FenceNotCompared.is_on() {
        return Ok(());
    }
    guarded.shard.count(Event::StaleRefusal);
    Err(Error::Stale)
}
