//! Operations on the lives of keys: keeping alive, deleting and looking up.

use super::fail_point::FailPoint;
use super::journal::Journal;
use super::pool::{Pool, check};
use super::short_id::ShortId;
use super::transition::{Change, Removal};
use crate::error::Error;
use crate::key::{Fence, KeyId, KeyInfo};
use crate::time::Timestamp;

impl<J: Journal> Pool<J> {
    /// Lets a key live for the key TTL from now, unless it lives longer already, and returns when its life ends.
    /// Its lease stays as it is. O(1); O(log n) if its entry in the index would be more than 49 days behind, or
    /// if its life has no end from now on.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]
    pub fn keep_alive(&self, id: &KeyId, now: Timestamp) -> Result<Timestamp, Error> {
        self.pay_for_lives(now, 1);
        self.with(id, now, Fence::Any, |guarded| {
            let mut life_ends = self.live.life_ends(guarded.now);
            if !FailPoint::KeepAliveShortens.is_on() {
                life_ends = life_ends.max(guarded.life_ends());
            }
            self.apply(Change::KeepAlive { life_ends }, guarded, &mut &self.blocks);
            Ok(life_ends)
        })
    }

    /// Removes a key, leased or not. O(log n).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Stale`]
    pub fn delete(&self, id: &KeyId, now: Timestamp, fence: Fence<'_>) -> Result<(), Error> {
        let (half, key) = ShortId::split(id);
        let mut result = Err(Error::NotFound);
        self.remove_if(key, now, Removal::Deleted, |guarded| {
            if guarded.is_living(half) {
                result = check(fence, guarded);
            }
            result.is_ok()
        });
        result
    }

    /// The state of a key. O(1).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]
    pub fn get(&self, id: &KeyId, now: Timestamp) -> Result<KeyInfo, Error> {
        self.with(id, now, Fence::Any, |guarded| Ok(guarded.info()))
    }
}
