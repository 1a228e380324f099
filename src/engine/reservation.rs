//! Creating keys in room that was reserved, so that many are created or none is.

use std::sync::atomic::Ordering::SeqCst;

use super::Pool;
use super::expiry::Near;
use super::free::Hint;
use super::handle::Handle;
use super::record::Record;
use super::stats::Event;
use crate::key::KeyId;
use crate::time::Timestamp;

/// Room for keys that are about to be created. What is not used is given back when it is dropped.
pub struct Reservation<'a> {
    pool: &'a Pool,
    left: usize,
    near: Near<'a>,
}

impl<'a> Reservation<'a> {
    /// `left` places that the pool has already counted.
    pub(super) fn new(pool: &'a Pool, left: usize) -> Self {
        Self { pool, left, near: pool.lives.near() }
    }

    /// Creates a free key whose life begins `now`. False, and nothing changes, if the pool has a
    /// key whose id ends with the same 62 random bits: then try another id. O(log n).
    ///
    /// # Panics
    ///
    /// If it is called more often than was reserved.
    #[must_use]
    pub fn create(&mut self, id: KeyId, now: Timestamp) -> bool {
        assert!(self.left > 0, "more keys than were reserved");
        let (half, key) = Handle::split(&id);
        let make = || {
            let record = Record::new(half, now, self.pool.ttl);
            self.near.arm(record.life_ends(), key);
            record
        };
        let offer = |record: &Record| {
            // Before anybody can lease it or let it die.
            self.pool.counters.add(key, Event::Created);
            self.pool.free.push(Hint::new(key, record.generation()));
        };
        let is_new = self.pool.records.add(key, make, offer);
        if is_new {
            self.left -= 1;
        }
        is_new
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.pool.keys.fetch_sub(self.left, SeqCst);
    }
}
