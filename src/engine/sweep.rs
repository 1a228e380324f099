//! Ending lives, leases and cool-downs whose time is over, and removing what they leave behind.

use super::expiry::{Cursor, ExpiryIndex};
use super::fail_point::FailPoint;
use super::guarded::Guarded;
use super::journal::Journal;
use super::pool::Pool;
use super::short_id::ShortId;
use super::transition::{Change, Crowded, Removal};
use crate::time::Timestamp;

impl<J: Journal> Pool<J> {
    /// The least number of due entries of each stripe that an operation handles if it adds entries itself.
    const SHARE_MIN: usize = 8;

    /// Ends leases, cool-downs and lives whose time is over. It looks at up to `limit` due entries of each
    /// index, and returns the larger of the two numbers. Less than `limit` means that no due entry is left.
    /// O(limit log n).
    pub fn expire(&self, now: Timestamp, limit: usize) -> usize {
        self.end_blocks(now, limit).max(self.end_lives(now, limit))
    }

    /// When [`Pool::expire`] has something to do next. O(log n).
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        [&self.lives, &self.blocks].into_iter().filter_map(ExpiryIndex::next_deadline).min()
    }

    /// Ends some of the leases and cool-downs that are due, for an operation that is about to add entries to
    /// the index: more than it adds. So they cannot pile up, whatever the load, and keys whose leases have
    /// lapsed join the draw. Returns how many it looked at. O(1) if none are due, else O((32 + adds) log n).
    pub(super) fn pay_for_blocks(&self, now: Timestamp, adds: usize) -> usize {
        let mut looked = 0;
        self.blocks.each_overdue(now, Self::SHARE_MIN + adds / 2, |due| {
            looked += due.len();
            let mut cursor = self.blocks.cursor();
            self.look_at(due, |at, key| self.end_block(at, key, now, &mut cursor));
        });
        looked
    }

    /// Does the same for lives.
    pub(super) fn pay_for_lives(&self, now: Timestamp, adds: usize) {
        self.lives.each_overdue(now, Self::SHARE_MIN + adds / 2, |due| {
            self.look_at(due, |at, key| self.end_life(at, key, now));
        });
    }

    /// Ends leases and cool-downs that are due. Two threads may handle an entry at once: the second finds the
    /// record changed.
    pub(crate) fn end_blocks(&self, now: Timestamp, limit: usize) -> usize {
        let mut cursor = self.blocks.cursor();
        let end = |at, key| self.end_block(at, key, now, &mut cursor);
        self.each_due(&self.blocks, now, limit, end)
    }

    fn end_lives(&self, now: Timestamp, limit: usize) -> usize {
        self.each_due(&self.lives, now, limit, |at, key| self.end_life(at, key, now))
    }

    /// Calls `look` with up to `limit` due entries, and returns how many those were.
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

    /// Calls `look` with entries, after their records were prefetched together.
    fn look_at(&self, due: Vec<(Timestamp, ShortId)>, mut look: impl FnMut(Timestamp, ShortId)) {
        self.records.prefetch(due.iter().map(|(_, key)| *key));
        for (at, key) in due {
            look(at, key);
        }
    }

    /// Handles a due entry of a block: ends the block if its time is over, and moves or removes the entry.
    fn end_block(&self, at: Timestamp, key: ShortId, now: Timestamp, cursor: &mut Cursor<'_>) {
        self.records.with(key, now, |guarded| {
            // Otherwise another thread has moved it already.
            if guarded.block_entry() == Some(at) {
                self.end_if_over(guarded, cursor);
                // Only now: a draw that finds no hint relies on the entry until the hint is pushed.
                let end = guarded.block().map(|(_, until)| until);
                self.move_block_entry(guarded, end, cursor);
            }
        });
    }

    /// Handles a due entry of a life: removes the key if it is dead, else moves the entry.
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
        let (mut crowded, change) = (Crowded::new(), Change::Remove { why, drawn: None });
        let is_gone = self.records.remove_if(key, now, |guarded| {
            let is_removed = is_removed(guarded);
            if is_removed {
                crowded = self.apply(change, guarded, &mut &self.blocks);
            }
            is_removed
        });
        self.drop_stale_hints(key, crowded);
        if is_gone {
            self.records.shrink_shard_of(key);
        }
    }

    /// Looks at a few hints in the shard of `key`, in each of the vectors that are crowded, and removes the stale
    /// ones. O(1).
    pub(super) fn drop_stale_hints(&self, key: ShortId, crowded: Crowded) {
        for labeled in crowded {
            let free = labeled.as_ref().map_or(&self.free, |labeled| &labeled.free);
            for (slot, hint) in free.suspects(key).into_iter().flatten() {
                let now = Timestamp::default();
                let live = self.records.with(hint.key, now, |guarded| guarded.hint(hint.key));
                if live.flatten() != Some(hint) {
                    free.remove_stale(slot, hint);
                }
            }
        }
    }
}
