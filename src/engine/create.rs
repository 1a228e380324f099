//! Creating keys in room that was reserved before, so that all or none are created.

use std::sync::atomic::Ordering::SeqCst;

use super::expiry::{Arm, Cursor};
use super::journal::Journal;
use super::pool::Pool;
use super::record::Record;
use super::short_id::ShortId;
use super::transition::Change;
use crate::error::Error;
use crate::key::KeyId;
use crate::time::Timestamp;

/// Room for keys that are about to be created. Dropping it gives back what was not used.
pub struct Reservation<'a, J: Journal = ()> {
    pool: &'a Pool<J>,
    left: usize,
    lives: Cursor<'a>,
}

impl<J: Journal> Pool<J> {
    /// Reserves room for `count` keys, or none. O(1); O(log n) if there is too little.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] if there is too little room. Dead keys take room until they are removed, as
    /// [`Pool::expire`] does.
    pub fn reserve(&self, count: usize, now: Timestamp) -> Result<Reservation<'_, J>, Error> {
        let take = |keys: usize| keys.checked_add(count).filter(|keys| *keys <= self.keys_max);
        match self.keys.fetch_update(SeqCst, SeqCst, take) {
            Ok(_) => Ok(Reservation::new(self, count)),
            Err(_) => Err(Error::Full {
                retry_after_ms: self.lives.next_deadline().map_or(0, |at| at.ms_since(now)),
            }),
        }
    }
}

impl<'a, J: Journal> Reservation<'a, J> {
    /// Room for `left` keys, which the pool already counts.
    pub(super) fn new(pool: &'a Pool<J>, left: usize) -> Self {
        Self { pool, left, lives: pool.lives.cursor() }
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
        let Self { pool, lives, .. } = self;
        pool.pay_for_lives(now, 1);
        let (half, key) = ShortId::split(&id);
        let make = |now| {
            let record = Record::new(half, now, pool.ttl);
            lives.arm(record.life_ends(), key);
            record
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
