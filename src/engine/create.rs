//! Creating keys in room that was reserved before, so that all or none are created.

use std::mem::{replace, take};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::expiry::Cursor;
use super::fail_point::FailPoint;
use super::guarded::Guarded;
use super::journal::Journal;
use super::labels::LabelsOfKey;
use super::pool::Pool;
use super::record::Record;
use super::short_id::ShortId;
use super::transition::{Change, Removal, arm_life};
use super::values::Digest;
use crate::error::Error;
use crate::key::{KeyId, Label, Ttl, Value};
use crate::time::Timestamp;

/// Room for keys that are about to be created. Dropping it gives back what was not used.
pub struct Reservation<'a, J: Journal = ()> {
    pool: &'a Pool<J>,
    left: usize,
    /// Room for bytes of values.
    bytes_left: usize,
    /// Labels for which there is room.
    labels: LabelsOfKey,
    /// As it was when the room was reserved, so that all of the keys have the same.
    ttl: Ttl,
    lives: Cursor<'a>,
}

/// What a new key has of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewKey<'a> {
    /// Its value.
    pub value: Option<&'a Value>,
    /// Its labels, at most [`Label::COUNT_MAX`]. One that comes twice counts once.
    pub labels: &'a [Label],
}

/// What became of the creation of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The key was created.
    New,
    /// The pool has a key whose id ends with the same 62 random bits, so nothing has changed: try another id.
    IdTaken,
    /// This living key of the pool has the value, so nothing has changed.
    Known(KeyId),
}

impl<J: Journal> Pool<J> {
    /// When to look again for room among keys that never die.
    const RETRY_AFTER_MS: u64 = 60_000;

    /// Reserves room for `count` keys, or none. O(1); O(log n) if there is too little.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] if there is too little room. Dead keys take room until they are removed, as
    /// [`Pool::expire`] does.
    pub fn reserve(&self, count: usize, now: Timestamp) -> Result<Reservation<'_, J>, Error> {
        let keys_max = self.keys_max();
        // None fit even where the pool has more than it may have by now.
        let fits = |keys: &usize| count == 0 || *keys <= keys_max;
        let take = |keys: usize| keys.checked_add(count).filter(fits);
        match self.keys.fetch_update(SeqCst, SeqCst, take) {
            Ok(_) => Ok(Reservation::new(self, count)),
            Err(_) => Err(Error::Full {
                retry_after_ms: match self.lives.next_deadline() {
                    Some(at) => at.ms_since(now),
                    // No key dies, so there is room once an operator has made some.
                    None if self.ttl().key_ttl_ms == Ttl::NEVER_MS => Self::RETRY_AFTER_MS,
                    None => 0,
                },
            }),
        }
    }

    /// The living key that has a value. O(1), O(b) for a value of b bytes; O(log n) if it was that of a dead key.
    #[must_use]
    pub fn find_value(&self, value: &Value, now: Timestamp) -> Option<KeyId> {
        self.key_with(value, self.values.digest(value), now)
    }

    /// The living key that has a value. A dead one is removed. O(1); O(log n) for a dead one.
    fn key_with(&self, value: &Value, digest: Digest, now: Timestamp) -> Option<KeyId> {
        loop {
            let key = self.values.find(digest)?;
            let found = self.records.with(key, now, |guarded| {
                let is_its = guarded.value().as_ref() == Some(value);
                let is_dead = guarded.is_dead() && !FailPoint::DeadKeyKeepsValue.is_on();
                (is_its, is_dead, key.join(guarded.id()))
            });
            match found {
                Some((true, false, id)) => return Some(id),
                Some((true, true, _)) => {
                    self.remove_if(key, now, Removal::Expired, |guarded| guarded.is_dead());
                }
                // It was removed meanwhile, and from the index as well.
                _ => {}
            }
        }
    }
}

impl<'a, J: Journal> Reservation<'a, J> {
    /// Room for `left` keys, which the pool already counts.
    pub(super) fn new(pool: &'a Pool<J>, left: usize) -> Self {
        let (bytes_left, labels) = (0, LabelsOfKey::default());
        Self { pool, left, bytes_left, labels, ttl: pool.ttl(), lives: pool.lives.cursor() }
    }

    /// Reserves room for `count` keys more, or none. O(1); O(log n) if there is too little.
    ///
    /// # Errors
    ///
    /// As [`Pool::reserve`].
    pub fn extend(&mut self, count: usize, now: Timestamp) -> Result<(), Error> {
        let mut more = self.pool.reserve(count, now)?;
        self.left += take(&mut more.left);
        Ok(())
    }

    /// Reserves room for what the keys have of their own: so many bytes of values, and these labels. All of it, or
    /// nothing. O(l²) for l labels.
    ///
    /// # Errors
    ///
    /// [`Error::ValuesFull`], [`Error::TooManyLabels`]. What dead keys have counts until they are removed, as
    /// [`Pool::expire`] does.
    pub fn reserve_own(&mut self, bytes: usize, labels: &[Label]) -> Result<(), Error> {
        let Self { pool, .. } = *self;
        let labels = pool.labels.count(labels)?;
        pool.values.take_bytes(bytes).inspect_err(|_| pool.labels.forget(&labels))?;
        pool.labels.forget(&replace(&mut self.labels, labels));
        self.bytes_left += bytes;
        Ok(())
    }

    /// For how many more keys there is room. O(1).
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }

    /// When the lives of keys end that are created at `now`. O(1).
    #[must_use]
    pub fn life_ends(&self, now: Timestamp) -> Timestamp {
        self.ttl.life_ends(now)
    }

    /// The id for a key that is to be created. A pool that grows has the key in the half that suits its size, which
    /// one bit of the id says; others leave `id` as it is. A key with another id works as well, but may make the
    /// pool larger than it needs to be. O(1).
    #[must_use]
    pub fn fit(&self, id: KeyId) -> KeyId {
        let Some(small_max) = self.pool.small_max else { return id };
        ShortId::id_in_half(&id, self.pool.keys.load(Relaxed) > small_max)
    }

    /// Creates a free key whose life begins `now`. False, and nothing changes, if the pool has a key whose id
    /// ends with the same 62 random bits: then try another id. O(log n).
    ///
    /// # Panics
    ///
    /// If more keys are created than were reserved.
    #[must_use]
    pub fn create(&mut self, id: KeyId, now: Timestamp) -> bool {
        let pool = self.pool;
        self.add(
            id,
            now,
            |_| true,
            |guarded| {
                // Under the guard, before another thread can lease the key or end its life.
                let _ = pool.apply(Change::Create, guarded, &mut &pool.blocks);
            },
        )
    }

    /// Creates a free key that has something of its own, and whose life begins `now`. Of calls with the same
    /// value, at any time and on any threads, one creates a key, and the others know that key as long as it
    /// lives, whatever its labels. O(log n), and O(b) for a value of b bytes.
    ///
    /// # Errors
    ///
    /// As [`Reservation::reserve_own`], which makes sure that there is none.
    ///
    /// # Panics
    ///
    /// If more keys are created than were reserved, or if the key has too many labels.
    pub fn create_with(
        &mut self,
        id: KeyId,
        now: Timestamp,
        own: NewKey<'_>,
    ) -> Result<Creation, Error> {
        assert!(own.labels.len() <= Label::COUNT_MAX, "too many labels");
        let pool = self.pool;
        let value = own.value.map(|value| (value, pool.values.digest(value)));
        loop {
            let known = value.and_then(|(value, digest)| pool.key_with(value, digest, now));
            if let Some(id) = known {
                return Ok(Creation::Known(id));
            }
            let labels = pool.labels.count(own.labels)?;
            let bytes = own.value.map_or(0, |value| value.reveal().len());
            if let Some(left) = self.bytes_left.checked_sub(bytes) {
                self.bytes_left = left;
            } else {
                pool.values.take_bytes(bytes).inspect_err(|_| pool.labels.forget(&labels))?;
            }
            let mut is_known = false;
            let claim = |key| {
                is_known = value.is_some_and(|(_, digest)| !pool.values.claim(digest, key));
                !is_known
            };
            let is_new = self.add(id, now, claim, |guarded| {
                if let Some((value, _)) = value {
                    Pool::<J>::give_value(guarded, value.clone());
                }
                Pool::<J>::give_labels(guarded, labels.clone());
                let _ = pool.apply(Change::Create, guarded, &mut &pool.blocks);
            });
            if is_new {
                return Ok(Creation::New);
            }
            self.bytes_left += bytes;
            pool.labels.forget(&labels);
            if !is_known {
                return Ok(Creation::IdTaken);
            }
        }
    }

    /// Adds a record if there is none, and `claim` agrees; then calls `then`. All happens under its guard.
    fn add(
        &mut self,
        id: KeyId,
        now: Timestamp,
        claim: impl FnOnce(ShortId) -> bool,
        then: impl FnOnce(&mut Guarded<'_>),
    ) -> bool {
        assert!(self.left > 0, "more keys than were reserved");
        let Self { pool, ttl, lives, .. } = self;
        pool.pay_for_lives(now, 1);
        let (half, key) = ShortId::split(&id);
        let make = |now| {
            let life_ends = ttl.life_ends(now);
            arm_life(lives, life_ends, key);
            Record::new(half, now, life_ends)
        };
        let is_new = pool.records.add(key, now, || claim(key), make, then);
        if is_new {
            self.left -= 1;
        }
        is_new
    }
}

impl<J: Journal> Drop for Reservation<'_, J> {
    fn drop(&mut self) {
        self.pool.keys.fetch_sub(self.left, SeqCst);
        self.pool.values.give_bytes(self.bytes_left);
        self.pool.labels.forget(&self.labels);
    }
}
