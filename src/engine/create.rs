//! Creating keys in room that was reserved before, so that all or none are created.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::expiry::Cursor;
use super::journal::Journal;
use super::pool::Pool;
use super::record::Record;
use super::short_id::ShortId;
use super::transition::{Change, arm_life};
use crate::error::Error;
use crate::key::{KeyId, Ttl};
use crate::time::Timestamp;

/// Room for keys that are about to be created. Dropping it gives back what was not used.
pub struct Reservation<'a, J: Journal = ()> {
    pool: &'a Pool<J>,
    left: usize,
    /// As it was when the room was reserved, so that all of the keys have the same.
    ttl: Ttl,
    lives: Cursor<'a>,
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
        let take = |keys: usize| keys.checked_add(count).filter(|keys| *keys <= keys_max);
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
}

impl<'a, J: Journal> Reservation<'a, J> {
    /// Room for `left` keys, which the pool already counts.
    pub(super) fn new(pool: &'a Pool<J>, left: usize) -> Self {
        Self { pool, left, ttl: pool.ttl(), lives: pool.lives.cursor() }
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
        assert!(self.left > 0, "more keys than were reserved");
        let Self { pool, ttl, lives, .. } = self;
        pool.pay_for_lives(now, 1);
        let (half, key) = ShortId::split(&id);
        let make = |now| {
            let life_ends = ttl.life_ends(now);
            arm_life(lives, life_ends, key);
            Record::new(half, now, life_ends)
        };
        let is_new = pool.records.add(key, now, make, |guarded| {
            // Under the guard, before another thread can lease the key or end its life.
            pool.apply(Change::Create, guarded, &mut &pool.blocks);
        });
        if is_new {
            self.left -= 1;
        }
        is_new
    }
}

impl<J: Journal> Drop for Reservation<'_, J> {
    fn drop(&mut self) {
        self.pool.keys.fetch_sub(self.left, SeqCst);
    }
}
