//! The engine: a pool of keys, pure and synchronous. `now` and randomness are arguments.
//!
//! One idea carries it: **the record is the truth, everything else is a hint.** See the crate's
//! documentation for what follows from it, and [`Pool`] for the operations.

mod check;
mod expiry;
mod free;
mod handle;
mod record;
mod reservation;
mod stats;
mod sweep;
#[cfg(test)]
mod tests;

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use dashmap::DashMap;
use rand::Rng;

use self::expiry::ExpiryIndex;
use self::free::{FreeLists, Hint};
use self::handle::{Handle, Sharding};
use self::record::Record;
pub use self::reservation::Reservation;
pub use self::stats::Stats;
use crate::error::Error;
use crate::key::{KeyId, KeyInfo, Lease, Ttl};
use crate::time::Timestamp;

/// A pool of keys that any number of threads may use at once.
///
/// Each operation is exact about deadlines, whether or not [`Pool::expire`] has been called: that
/// call only frees memory and makes ended leases known to the draw before it runs out of keys.
/// Each counts as of its `now`, which may lag behind another thread's by as long as a thread is
/// held up between reading a clock and the call.
pub struct Pool {
    ttl: Ttl,
    keys_max: usize,
    /// Keys that live or are about to be created, and dead ones that were not yet removed.
    keys: AtomicUsize,
    records: DashMap<Handle, Record, Sharding>,
    free: FreeLists,
    /// For each record exactly one entry, at or before the end of its life.
    lives: ExpiryIndex,
    /// For each record at most one entry. For a leased one: at or before the end of its lease.
    leases: ExpiryIndex,
}

/// What became of a hint that was drawn.
enum Drawn {
    Leased(Lease),
    Stale,
    Dead,
}

impl Pool {
    /// How many ended leases a [`Pool::lease`] that found no free key handles at a time.
    const LEASE_SWEEP: usize = 4;

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
            records: DashMap::with_hasher_and_shard_amount(sharding, sharding.count()),
            free: FreeLists::new(sharding),
            lives: ExpiryIndex::new(),
            leases: ExpiryIndex::new(),
        }
    }

    /// How long keys live and leases last.
    #[must_use]
    pub fn ttl(&self) -> Ttl {
        self.ttl
    }

    /// Reserves room for `count` keys, all or nothing. O(1).
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

    /// Leases a uniformly random free key. O(log n): O(1) but for the entry in the index, which
    /// most leases find armed. Amortised over the dead keys, stale hints and ended leases it
    /// meets, each of which is met once; [`Pool::lease_within`] bounds how many that are.
    ///
    /// # Errors
    ///
    /// [`Error::Exhausted`] if there was a moment at which no key was free, but for those that
    /// other calls were about to lease.
    pub fn lease(&self, now: Timestamp, rng: &mut impl Rng) -> Result<Lease, Error> {
        loop {
            if let Some(result) = self.lease_within(now, rng, usize::MAX) {
                return result;
            }
        }
    }

    /// As [`Pool::lease`], but gives up after `steps` keys or entries that were of no use: `None`.
    pub fn lease_within(
        &self,
        now: Timestamp,
        rng: &mut impl Rng,
        steps: usize,
    ) -> Option<Result<Lease, Error>> {
        for _ in 0..steps {
            match self.free.draw(rng) {
                Ok(hint) => match self.try_lease(hint, now) {
                    Drawn::Leased(lease) => return Some(Ok(lease)),
                    Drawn::Stale => self.free.drop_stale(hint.key),
                    Drawn::Dead => {}
                },
                Err(empty) => {
                    // A lease that has ended stays in the index until its hint is pushed. So if
                    // none is there, and no hint came meanwhile, no key was free just now.
                    if self.end_leases(now, Self::LEASE_SWEEP) == 0 && self.free.is_still(empty) {
                        return Some(Err(Error::Exhausted));
                    }
                }
            }
        }
        None
    }

    /// Leases up to `count` uniformly random free keys and appends the leases to `leases`, as far
    /// as hints are at hand: fewer are no sign that no key is free. O(c log n) for c keys.
    ///
    /// All hints are drawn first, then all records are looked at, and then the leases begin: so the
    /// memory that is read for one key is on its way while the one before is waited for.
    pub fn lease_group(
        &self,
        now: Timestamp,
        rng: &mut impl Rng,
        count: usize,
        leases: &mut Vec<Lease>,
    ) {
        let draws = (0..count).map_while(|_| self.free.draw(rng).ok());
        let hints: Vec<_> = draws.collect();
        self.fetch(hints.iter().map(|hint| hint.key));
        for hint in hints {
            match self.try_lease(hint, now) {
                Drawn::Leased(lease) => leases.push(lease),
                Drawn::Stale => self.free.drop_stale(hint.key),
                Drawn::Dead => {}
            }
        }
    }

    /// Brings what is known of these keys near, and changes nothing: worth while before several of
    /// them are asked for one after the other. O(k) for k keys.
    ///
    /// A look-up waits for memory; without much between them, processors let several wait at once.
    pub fn prefetch(&self, ids: &[KeyId]) {
        self.fetch(ids.iter().map(|id| Handle::split(id).1));
    }

    fn fetch(&self, keys: impl Iterator<Item = Handle>) {
        for key in keys {
            black_box(self.records.get(&key).map(|record| record.generation()));
        }
    }

    fn try_lease(&self, hint: Hint, now: Timestamp) -> Drawn {
        let mut drawn = Drawn::Stale;
        let dead = self.records.remove_if_mut(&hint.key, |key, record| {
            if record.hint(*key) != Some(hint) {
                return false;
            }
            if record.is_dead(now) {
                drawn = Drawn::Dead;
                return true;
            }
            // Armed before the record says so: nobody may see a lease that no entry ends.
            let until = now.plus_ms(u64::from(self.ttl.lease_ttl_ms));
            self.arm_lease(*key, record, until);
            record.start_lease(now, until);
            drawn = record.lease_of(*key).map_or(Drawn::Stale, Drawn::Leased);
            false
        });
        if let Some((key, record)) = dead {
            self.forget(key, &record);
        }
        drawn
    }

    /// Takes a key back, so that it is free for the next lease. A free one stays as it is.
    /// O(1) amortised.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]
    pub fn release(&self, id: &KeyId, now: Timestamp) -> Result<(), Error> {
        self.with(id, now, |key, record| {
            if record.lease().is_some() {
                self.end_lease(key, record);
            }
        })
    }

    /// Starts a key's life anew; its lease stays as it is. O(1), but for O(log n) every 49 days.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]
    pub fn keep_alive(&self, id: &KeyId, now: Timestamp) -> Result<(), Error> {
        self.with(id, now, |key, record| {
            let end = record.life_ends().max(now.plus_ms(self.ttl.key_ttl_ms));
            if !record.move_life(end) {
                // The life ends 49 days after the entry, or later.
                self.lives.arm(end, key);
                self.lives.disarm(record.life_entry(), key);
                record.arm_life(end);
            }
        })
    }

    /// Does something to a living key's record under its guard.
    fn with(
        &self,
        id: &KeyId,
        now: Timestamp,
        change: impl FnOnce(Handle, &mut Record),
    ) -> Result<(), Error> {
        let (half, key) = Handle::split(id);
        let mut record = self.records.get_mut(&key).ok_or(Error::NotFound)?;
        if !record.is_living(half, now) {
            return Err(Error::NotFound);
        }
        change(key, &mut record);
        Ok(())
    }

    /// Removes a key, leased or not. O(log n).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]
    pub fn delete(&self, id: &KeyId, now: Timestamp) -> Result<(), Error> {
        let (half, key) = Handle::split(id);
        self.remove_if(key, |record| record.is_living(half, now))
            .then_some(())
            .ok_or(Error::NotFound)
    }

    /// What is known of a key. O(1).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]
    pub fn get(&self, id: &KeyId, now: Timestamp) -> Result<KeyInfo, Error> {
        let (half, key) = Handle::split(id);
        let record = self.records.get(&key).ok_or(Error::NotFound)?;
        if !record.is_living(half, now) {
            return Err(Error::NotFound);
        }
        Ok(KeyInfo {
            created_at: record.created_at(),
            life_ends: record.life_ends(),
            lease: record.lease_of(key).filter(|lease| lease.until > now),
        })
    }

    /// Takes a leased key back and offers it.
    fn end_lease(&self, key: Handle, record: &mut Record) {
        record.end_lease();
        self.free.push(Hint::new(key, record.generation()));
    }

    /// Makes sure that an entry stands at or before `until`.
    fn arm_lease(&self, key: Handle, record: &mut Record, until: Timestamp) {
        let armed = record.lease_entry();
        if armed.is_none_or(|armed| armed > until) {
            self.leases.arm(until, key);
            if let Some(armed) = armed {
                self.leases.disarm(armed, key);
            }
            record.arm_lease(Some(until));
        }
    }
}
