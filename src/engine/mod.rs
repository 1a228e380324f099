//! The engine: a pool of keys, pure and synchronous. `now` and randomness are arguments.
//!
//! One idea carries it: **the record is the truth, everything else is a hint.** See the crate's
//! documentation for what follows from it, and [`Pool`] for the operations.

mod canary;
mod check;
#[cfg(all(test, feature = "loom"))]
mod exhaustive;
mod expiry;
mod free;
mod handle;
mod hold;
mod record;
#[cfg(not(feature = "loom"))]
mod records;
#[cfg(feature = "loom")]
#[path = "records_checked.rs"]
mod records;
mod reservation;
#[cfg(not(feature = "loom"))]
mod slices;
#[cfg(feature = "loom")]
#[path = "slices_checked.rs"]
mod slices;
mod stats;
mod sweep;
mod sync;
#[cfg(all(test, not(feature = "loom")))]
mod tests;

use std::sync::atomic::Ordering::SeqCst;

pub use self::canary::Bug;
use self::expiry::ExpiryIndex;
use self::free::FreeLists;
use self::handle::{Handle, Sharding};
use self::record::Record;
use self::records::Records;
pub use self::reservation::Reservation;
use self::stats::{Counters, Event};
pub use self::stats::{Stats, Totals};
use self::sync::AtomicUsize;
use crate::error::Error;
use crate::key::{Fence, KeyId, KeyInfo, Ttl};
use crate::time::Timestamp;

/// A pool of keys that any number of threads may use at once.
///
/// Each operation is exact about deadlines, whether or not [`Pool::expire`] has been called: that
/// call only frees memory and makes ended leases and cool-downs known to the draw before it runs out of keys.
/// Each counts as of its `now`, which may lag behind another thread's by as long as a thread is
/// held up between reading a clock and the call.
pub struct Pool {
    ttl: Ttl,
    keys_max: usize,
    /// Keys that live or are about to be created, and dead ones that were not yet removed.
    keys: AtomicUsize,
    records: Records,
    free: FreeLists,
    /// For each record exactly one entry, at or before the end of its life.
    lives: ExpiryIndex,
    /// For each record at most one entry. For a leased or cooling one: at or before the end of
    /// that.
    holds: ExpiryIndex,
    counters: Counters,
}

impl Pool {
    /// An empty pool of at most `keys_max` keys. O(s) for s shards.
    ///
    /// # Panics
    ///
    /// Unless `shards` is a power of two from 2 to 4096.
    #[must_use]
    pub fn new(ttl: Ttl, keys_max: usize, shards: usize) -> Self {
        let sharding = Sharding::new(shards);
        Self {
            ttl,
            keys_max,
            keys: AtomicUsize::new(0),
            records: Records::new(sharding),
            free: FreeLists::new(sharding),
            lives: ExpiryIndex::new(ttl.key_ttl_ms),
            holds: ExpiryIndex::new(ttl.lease_ttl_ms.into()),
            counters: Counters::new(),
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

    /// Reserves room for `count` keys, all or nothing. O(1), or O(log n) if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] if there is less room. Dead keys take room until [`Pool::expire`] has
    /// removed them.
    pub fn reserve(&self, count: usize, now: Timestamp) -> Result<Reservation<'_>, Error> {
        let take = |keys: usize| keys.checked_add(count).filter(|keys| *keys <= self.keys_max);
        match self.keys.fetch_update(SeqCst, SeqCst, take) {
            Ok(_) => Ok(Reservation::new(self, count)),
            Err(_) => Err(Error::Full {
                retry_after_ms: self.lives.next_deadline().map_or(0, |at| at.ms_since(now)),
            }),
        }
    }

    /// Starts a key's life anew, and answers when it ends; its lease stays as it is. O(1), but for
    /// O(log n) every 49 days.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]
    pub fn keep_alive(&self, id: &KeyId, now: Timestamp) -> Result<Timestamp, Error> {
        self.with(id, now, Fence::Open, |key, record| {
            let end = record.life_ends().max(now.plus_ms(self.ttl.key_ttl_ms));
            if !record.move_life(end) {
                // The life ends 49 days after the entry, or later.
                self.move_life_entry(key, record, end);
            }
            Ok(end)
        })
    }

    /// Does something to the record of a living key of the right generation, under its guard.
    fn with<T>(
        &self,
        id: &KeyId,
        now: Timestamp,
        fence: Fence<'_>,
        change: impl FnOnce(Handle, &mut Record) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (half, key) = Handle::split(id);
        let mut record = self.records.get_mut(key).ok_or(Error::NotFound)?;
        if !record.is_living(half, now) {
            return Err(Error::NotFound);
        }
        self.check(fence, key, &record, now)?;
        change(key, &mut record)
    }

    fn check(
        &self,
        fence: Fence<'_>,
        key: Handle,
        record: &Record,
        now: Timestamp,
    ) -> Result<(), Error> {
        if fence.admits(record.generation_at(now)) || Bug::FenceNotCompared.is_planted() {
            return Ok(());
        }
        self.counters.add(key, Event::StaleRefusal);
        Err(Error::Stale)
    }

    /// Removes a key, leased or not. O(log n).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Stale`]
    pub fn delete(&self, id: &KeyId, now: Timestamp, fence: Fence<'_>) -> Result<(), Error> {
        let (half, key) = Handle::split(id);
        let mut result = Err(Error::NotFound);
        self.remove_if(key, now, Event::Deleted, |record| {
            if record.is_living(half, now) {
                result = self.check(fence, key, record, now);
            }
            result.is_ok()
        });
        result
    }

    /// What is known of a key. O(1).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]
    pub fn get(&self, id: &KeyId, now: Timestamp) -> Result<KeyInfo, Error> {
        let (half, key) = Handle::split(id);
        let record = self.records.get(key).ok_or(Error::NotFound)?;
        if !record.is_living(half, now) {
            return Err(Error::NotFound);
        }
        Ok(KeyInfo {
            created_at: record.created_at(),
            life_ends: record.life_ends(),
            generation: record.generation_at(now),
            state: record.state(key, now),
        })
    }

    /// Brings what is known of these keys near, and changes nothing: worth while before several of
    /// them are asked for one after the other, as a look-up waits for memory. O(k) for k keys.
    pub fn prefetch(&self, ids: &[KeyId]) {
        self.records.prefetch(ids.iter().map(|id| Handle::split(id).1));
    }
}
