//! The pool: its parts, and how an operation reaches a record.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::expiry::ExpiryIndex;
use super::fail_point::FailPoint;
use super::free_halves::FreeHalves;
use super::guarded::Guarded;
use super::halves::Size;
use super::journal::Journal;
use super::labels::{Labels, Secret};
use super::settings::{Live, Settings};
use super::shard::Event;
use super::short_id::ShortId;
use super::sync::AtomicUsize;
use super::tables::Tables;
use super::values::{ValueBytes, Values};
use crate::error::Error;
use crate::key::{Fence, KeyId, Label, Ttl};
use crate::time::Timestamp;

/// A pool of keys that any number of threads may use at once. A [`Journal`] records its changes.
///
/// Each operation is exact about deadlines, whether or not [`Pool::expire`] has been called: that call only
/// frees memory, and makes keys whose leases or cool-downs are over known to the draw early.
///
/// An operation that adds deadlines (lease, renewal, cool-down, creation, keep-alive) first handles some that
/// are due, so that they cannot pile up: up to 32, and two more for each key that it adds, O(log n) each. The
/// costs of operations leave that out.
///
/// An operation counts as of its `now`, or as of the latest time that its shard has seen, if that is later:
/// time never runs backwards for a key.
pub struct Pool<J: Journal = ()> {
    pub(super) live: Live,
    /// Up to how many keys new ones belong to the small half, if the pool has one.
    pub(super) small_max: Option<usize>,
    /// Living keys, dead ones that were not yet removed, and room that is reserved.
    pub(super) keys: AtomicUsize,
    pub(super) records: Tables,
    pub(super) free: FreeHalves,
    /// Exactly one entry for each record whose life ends, at or before that.
    pub(super) lives: ExpiryIndex,
    /// At most one entry for each record. A leased or cooling one has one, at or before the end of its block.
    pub(super) blocks: ExpiryIndex,
    /// Hashes the names of holders.
    pub(super) secret: Secret,
    /// The labels of keys, each with free vectors of its own.
    pub(super) labels: Labels,
    /// Which key has a value.
    pub(super) values: Values,
    pub(super) journal: J,
}

/// What a pool needs for what keys have of their own.
#[derive(Clone)]
pub struct OwnOptions {
    /// The key of the hashes by which values are found. It must be random, and secret: a client that knew it
    /// could make values whose hashes meet.
    pub secret: [u8; 16],
    /// Counts and limits the bytes of values. Pools may share it.
    pub value_bytes: Arc<ValueBytes>,
    /// The most different labels of the pool's keys.
    pub labels_max: usize,
}

impl fmt::Debug for OwnOptions {
    /// Nothing of the secret: a log is no place for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret: _, value_bytes, labels_max } = self;
        let mut options = f.debug_struct("OwnOptions");
        options.field("value_bytes", value_bytes).field("labels_max", labels_max);
        options.finish_non_exhaustive()
    }
}

/// For a pool whose keys have nothing of their own, and for tests: the secret is known, and
/// values may have any number of bytes.
impl Default for OwnOptions {
    fn default() -> Self {
        Self {
            secret: [0; 16],
            value_bytes: Arc::new(ValueBytes::new(usize::MAX)),
            labels_max: Label::DIFFERENT_MAX,
        }
    }
}

impl Pool {
    /// An empty pool of at most `keys_max` keys, without a journal. O(s) for s shards.
    ///
    /// # Panics
    ///
    /// Unless `shards` is a power of two from 2 to 4096.
    #[must_use]
    pub fn new(ttl: Ttl, keys_max: usize, shards: usize) -> Self {
        Self::with_journal(Settings::new(ttl, keys_max), Size::Fixed(shards), ())
    }
}

impl<J: Journal> Pool<J> {
    /// How many time buckets each stripe of an index has for the usual time until a deadline.
    const BUCKETS: u64 = 2048;
    /// The same for a pool that begins small: a bucket takes some 200 bytes, and so each has several entries,
    /// even if there are only a thousand.
    const BUCKETS_IF_SMALL: u64 = 8;

    /// An empty pool. O(s) for s shards; O(1) if it begins small.
    ///
    /// # Panics
    ///
    /// Unless the shards of `size` are a power of two from 2 to 4096.
    #[must_use]
    pub fn with_journal(settings: Settings, size: Size, journal: J) -> Self {
        let Settings { ttl, lapse_cooldown_ms, .. } = settings;
        let (small_max, buckets) = match size {
            Size::Fixed(_) => (None, Self::BUCKETS),
            Size::Growing { small_max, .. } => (Some(small_max), Self::BUCKETS_IF_SMALL),
        };
        let lives_ms = match ttl.key_ttl_ms {
            Ttl::NEVER_MS => Ttl::default().key_ttl_ms,
            key_ttl_ms => key_ttl_ms,
        };
        let own = OwnOptions::default();
        Self {
            live: Live::new(settings),
            small_max,
            keys: AtomicUsize::new(0),
            records: Tables::new(size, lapse_cooldown_ms),
            free: FreeHalves::new(size),
            lives: ExpiryIndex::new(lives_ms, buckets),
            blocks: ExpiryIndex::new(ttl.lease_ttl_ms.into(), buckets),
            secret: Secret::new(own.secret),
            labels: Labels::new(own.labels_max, own.secret),
            values: Values::new(own.secret, own.value_bytes),
            journal,
        }
    }

    /// The same pool with other options for what keys have of their own. It must still be empty. O(1).
    ///
    /// # Panics
    ///
    /// If the pool has keys.
    #[must_use]
    pub fn with_own(mut self, own: OwnOptions) -> Self {
        assert_eq!(self.keys.load(SeqCst), 0, "keys may have something already");
        self.secret = Secret::new(own.secret);
        self.labels = Labels::new(own.labels_max, own.secret);
        self.values = Values::new(own.secret, own.value_bytes);
        self
    }

    /// Makes an empty pool one in which no key can be created any more. False, and nothing changes, if it has keys, of
    /// which dead ones count until they are removed, or if some are being created. O(1).
    pub fn close_if_empty(&self) -> bool {
        self.keys.compare_exchange(0, usize::MAX, SeqCst, SeqCst).is_ok()
    }

    /// Whether no key can be created any more: see [`Pool::close_if_empty`]. O(1).
    pub fn is_closed(&self) -> bool {
        self.keys.load(SeqCst) == usize::MAX
    }

    /// Calls `act` with the record of a living key whose generation `fence` admits, under its guard.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Stale`], and those of `act`.
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

    /// Prefetches what look-ups of these keys read, and changes nothing. It pays before several operations on
    /// different keys, each of which would wait for memory by itself. O(k) for k keys.
    pub fn prefetch<'a>(&self, ids: impl Iterator<Item = &'a KeyId> + Clone) {
        self.records.prefetch(ids.map(|id| ShortId::split(id).1));
    }
}

/// Refuses, and counts, a request that is meant for other generations.
pub(super) fn check(fence: Fence<'_>, guarded: &Guarded<'_>) -> Result<(), Error> {
    let generation = guarded.generation_at(guarded.now, guarded.shard.floor());
    if fence.admits(generation) || FailPoint::FenceNotCompared.is_on() {
        return Ok(());
    }
    guarded.shard.count(Event::StaleRefusal);
    Err(Error::Stale)
}
