//! What ends by itself: lives, leases and cool-downs whose time is over, and what they leave behind.

use super::expiry::{Cursor, ExpiryIndex};
use super::fail_point::FailPoint;
use super::guarded::Guarded;
use super::journal::Journal;
use super::pool::Pool;
use super::short_id::ShortId;
use super::transition::{Change, HintOf, Removal};
use crate::time::Timestamp;

impl<J: Journal> Pool<J> {
    /// How many due entries of a stripe an operation handles that adds one itself.
    const SHARE_MIN: usize = 8;

    /// Ends leases, cool-downs and lives whose time is over, at most `limit` of each kind; answers
    /// how many it looked at. Less than `limit` means that nothing is left to do.
    /// O(limit log n).
    pub fn expire(&self, now: Timestamp, limit: usize) -> usize {
        self.end_blocks(now, limit).max(self.end_lives(now, limit))
    }

    /// When [`Pool::expire`] has something to do next. O(log n).
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        [&self.lives, &self.blocks].into_iter().filter_map(ExpiryIndex::next_deadline).min()
    }

    /// Handles some of the leases and cool-downs that are due, for an operation that is about to
    /// begin so many: more than it adds. So they cannot pile up, whatever the load, and keys whose
    /// leases have lapsed join the draw. O(1) if none is due.
    pub(super) fn pay_for_blocks(&self, now: Timestamp, adds: usize) {
        self.blocks.each_overdue(now, Self::SHARE_MIN + adds / 2, |due| {
            let mut cursor = self.blocks.cursor();
            self.look_at(due, |at, key| self.end_block(at, key, now, &mut cursor));
        });
    }

    /// The same for lives.
    pub(super) fn pay_for_lives(&self, now: Timestamp, adds: usize) {
        self.lives.each_overdue(now, Self::SHARE_MIN + adds / 2, |due| {
            self.look_at(due, |at, key| self.end_life(at, key, now));
        });
    }

    /// Two threads may handle the same entry at once: the second finds the record changed.
    pub(super) fn end_blocks(&self, now: Timestamp, limit: usize) -> usize {
        let mut cursor = self.blocks.cursor();
        let end = |at, key| self.end_block(at, key, now, &mut cursor);
        self.each_due(&self.blocks, now, limit, end)
    }

    fn end_lives(&self, now: Timestamp, limit: usize) -> usize {
        self.each_due(&self.lives, now, limit, |at, key| self.end_life(at, key, now))
    }

    /// Looks at up to `limit` entries whose time has come, and answers how many those were.
    fn each_due(
        &self,
        index: &ExpiryIndex,
        now: Timestamp,
        limit: usize,
        mut look: impl FnMut(Timestamp, ShortId),
    ) -> usize {
        let mut looked = 0;
        while looked < limit {
            let due = index.due(now, limit - looked);
            if due.is_empty() {
                break;
            }
            looked += due.len();
            self.look_at(due, &mut look);
        }
        looked
    }

    /// Looks at entries, whose records are asked for together.
    fn look_at(&self, due: Vec<(Timestamp, ShortId)>, mut look: impl FnMut(Timestamp, ShortId)) {
        self.records.prefetch(due.iter().map(|(_, key)| *key));
        for (at, key) in due {
            look(at, key);
        }
    }

    /// Handles an entry of a block that is due.
    fn end_block(&self, at: Timestamp, key: ShortId, now: Timestamp, cursor: &mut Cursor<'_>) {
        self.records.with(key, now, |guarded| {
            // Else another thread was faster, and has moved it.
            if guarded.block_entry() == Some(at) {
                self.end_if_over(guarded, cursor);
                // Not before: a draw that finds no hint relies on the entry.
                let end = guarded.block().map(|(_, until)| until);
                self.move_block_entry(guarded, end, cursor);
            }
        });
    }

    /// Handles an entry of a life that is due.
    fn end_life(&self, at: Timestamp, key: ShortId, now: Timestamp) {
        self.remove_if(key, now, Removal::Expired, |guarded| {
            if guarded.is_dead() || FailPoint::SweepTrustsIndex.is_on() {
                return true;
            }
            if FailPoint::KeepAliveNotRearmed.is_on() {
                self.lives.disarm(at, key);
            } else if guarded.life_entry() == at {
                self.move_life_entry(guarded, guarded.life_ends());
            }
            false
        });
    }

    /// Removes a key if `is_removed`, which runs under its guard, says so. O(log n).
    pub(super) fn remove_if(
        &self,
        key: ShortId,
        now: Timestamp,
        why: Removal,
        is_removed: impl FnOnce(&mut Guarded<'_>) -> bool,
    ) {
        let (mut is_crowded, change) = (false, Change::Remove { why, hint: HintOf::Vector });
        let is_gone = self.records.remove_if(key, now, |guarded| {
            let is_removed = is_removed(guarded);
            if is_removed {
                is_crowded = self.apply(change, guarded, &mut &self.blocks);
            }
            is_removed
        });
        if is_crowded {
            self.drop_stale_hints(key);
        }
        if is_gone {
            self.records.shrink_shard_of(key);
        }
    }

    /// Looks at a few hints of the shard of `key` and removes the stale ones. O(1).
    pub(super) fn drop_stale_hints(&self, key: ShortId) {
        for (slot, hint) in self.free.suspects(key).into_iter().flatten() {
            let now = Timestamp::default();
            let live = self.records.with(hint.key, now, |guarded| guarded.hint(hint.key));
            if live.flatten() != Some(hint) {
                self.free.remove_stale(slot, hint);
            }
        }
    }
}
