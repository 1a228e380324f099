//! Who holds which lease.
//!
//! A lease may have a holder, which is kept as long as it lasts, in the tables of its key's shard: by key, and
//! ordered by a hash of the holder's name. So all leases of a holder are found without a scan. Only leases with a
//! holder cost memory: some 70 bytes, and what the holder itself takes unless leases share it.

use std::hash::BuildHasher;
use std::ops::Bound::{Excluded, Included};

use super::journal::Journal;
use super::pool::Pool;
use super::short_id::ShortId;
use super::transition::{Change, Removal};
use crate::error::Error;
use crate::key::{Holder, KeyId};
use crate::time::Timestamp;

/// How far taking back the leases of a holder has come. Each is looked at once at most, so it comes to an end even if the
/// holder goes on to lease.
#[derive(Clone, Copy, Debug, Default)]
pub struct HolderCursor {
    shard: usize,
    /// The last key of that shard that was looked at.
    after: Option<ShortId>,
}

impl<J: Journal> Pool<J> {
    /// How many due entries are handled at a time, by a lease whose quota is used up.
    const HOLD_SWEEP: usize = 32;

    /// Whether the quota of `holder` has room for one lease more. Before it refuses, all that is over in this pool is
    /// ended, as that may count against it. It takes nothing: a search that finds no key must not refuse another one.
    /// `None` if it takes more than `steps` entries to tell. O(1) while there is room.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyHeld`]
    pub fn room_within(
        &self,
        holder: &Holder,
        now: Timestamp,
        steps: &mut usize,
    ) -> Option<Result<(), Error>> {
        let mut is_clean = false;
        loop {
            if holder.quota().is_none_or(|quota| quota.room() > 0) {
                return Some(Ok(()));
            }
            if is_clean {
                return Some(Err(Error::TooManyHeld));
            }
            if *steps == 0 {
                return None;
            }
            let limit = Self::HOLD_SWEEP.min(*steps);
            let ended = self.expire(now, limit);
            // What was over has given back its part before its entry went.
            is_clean = ended < limit;
            *steps -= ended.min(*steps);
        }
    }

    /// Takes back leases of the holders with this name, `limit` at most, and appends the keys that are free now to
    /// `released`. Returns how many leases it has looked at: fewer than `limit` mean that none is left of those that
    /// had begun before the cursor was new. A lease that is over, or whose key is dead, is ended as well, but not
    /// appended. O(s + l log n) for s shards and l leases.
    pub fn release_all_of(
        &self,
        name: &str,
        now: Timestamp,
        limit: usize,
        cursor: &mut HolderCursor,
        released: &mut Vec<KeyId>,
    ) -> usize {
        let keys = self.keys_of(name, limit, cursor);
        self.records.prefetch(keys.iter().copied());
        for key in &keys {
            let mut is_dead = false;
            self.records.with(*key, now, |guarded| {
                is_dead = guarded.is_dead();
                if is_dead {
                    return;
                }
                self.end_if_over(guarded, &mut &self.blocks);
                // Another thread may have ended its lease, and leased the key to another holder.
                if guarded.holder().is_some_and(|holder| holder.name() == name) {
                    let _ = self.apply(Change::Release, guarded, &mut &self.blocks);
                    released.push(key.join(guarded.id()));
                }
            });
            if is_dead {
                self.remove_if(*key, now, Removal::Expired, |guarded| guarded.is_dead());
            }
        }
        keys.len()
    }

    /// The next keys whose leases have holders of this name, `limit` at most.
    fn keys_of(&self, name: &str, limit: usize, cursor: &mut HolderCursor) -> Vec<ShortId> {
        let [first, last] =
            [0, u8::MAX].map(|byte| ShortId::split(&KeyId::from_bytes([byte; 16])).1);
        let hash = self.secret.hash_one(name);
        let (mut keys, mut next) = (Vec::new(), 0);
        self.records.each_shard(|shard| {
            let number = next;
            next += 1;
            if number < cursor.shard || keys.len() == limit {
                return;
            }
            if number > cursor.shard {
                *cursor = HolderCursor { shard: number, after: None };
            }
            let Some(own) = &*shard.own() else { return };
            let from = cursor.after.map_or(Included((hash, first)), |key| Excluded((hash, key)));
            let of_hash = own.by_holder.range((from, Included((hash, last)))).map(|(_, key)| *key);
            let is_its = |key: &ShortId| own.holds[key].holder().name() == name;
            for key in of_hash.filter(is_its).take(limit - keys.len()) {
                keys.push(key);
                cursor.after = Some(key);
            }
        });
        keys
    }
}
