//! What ends by itself: lives, leases and cool-downs whose time is over, and what they leave behind.

use std::sync::atomic::Ordering::SeqCst;

use super::Bug;
use super::Pool;
use super::expiry::ExpiryIndex;
use super::handle::Handle;
use super::record::Record;
use super::stats::Event;
use crate::time::Timestamp;

impl Pool {
    /// Ends leases, cool-downs and lives whose time is over, at most `limit` of each kind; answers
    /// how many it looked at. Less than `limit` means that nothing is left to do.
    /// O(limit log n).
    pub fn expire(&self, now: Timestamp, limit: usize) -> usize {
        self.end_holds(now, limit).max(self.end_lives(now, limit))
    }

    /// When [`Pool::expire`] has something to do next. O(log n).
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        [&self.lives, &self.holds].into_iter().filter_map(ExpiryIndex::next_deadline).min()
    }

    /// Two threads may handle the same entry at once: the second finds the record changed.
    pub(super) fn end_holds(&self, now: Timestamp, limit: usize) -> usize {
        let mut near = self.holds.near();
        self.each_due(&self.holds, now, limit, |at, key| {
            let Some(mut record) = self.records.get_mut(key) else {
                return self.holds.disarm(at, key);
            };
            // Else another thread was faster, and has moved it.
            if record.hold_entry() == Some(at) {
                let end = record.hold().map(|(_, until)| until).filter(|until| *until > now);
                self.end_if_over(key, &mut record, now);
                // Not before: who finds no hint relies on the entry.
                self.move_hold_entry(key, &mut record, end, &mut near);
            }
        })
    }

    fn end_lives(&self, now: Timestamp, limit: usize) -> usize {
        self.each_due(&self.lives, now, limit, |at, key| {
            let mut is_gone = true;
            self.remove_if(key, now, Event::Expired, |record| {
                is_gone = false;
                if record.is_dead(now) || Bug::SweepTrustsIndex.is_planted() {
                    return true;
                }
                if Bug::KeepAliveNotRearmed.is_planted() {
                    self.lives.disarm(at, key);
                } else if record.life_entry() == at {
                    self.move_life_entry(key, record, record.life_ends());
                }
                false
            });
            if is_gone {
                self.lives.disarm(at, key);
            }
        })
    }

    /// Looks at up to `limit` entries whose time has come, and answers how many those were. Their
    /// records are asked for together.
    fn each_due(
        &self,
        index: &ExpiryIndex,
        now: Timestamp,
        limit: usize,
        mut look: impl FnMut(Timestamp, Handle),
    ) -> usize {
        let mut looked = 0;
        while looked < limit {
            let due = index.due(now, limit - looked);
            if due.is_empty() {
                break;
            }
            self.records.prefetch(due.iter().map(|(_, key)| *key));
            looked += due.len();
            for (at, key) in due {
                look(at, key);
            }
        }
        looked
    }

    /// Lets the entry of a life stand at `end`, where the life ends.
    pub(super) fn move_life_entry(&self, key: Handle, record: &mut Record, end: Timestamp) {
        debug_assert!(end != record.life_entry(), "it would be lost");
        self.lives.arm(end, key);
        self.lives.disarm(record.life_entry(), key);
        record.arm_life(end);
    }

    pub(super) fn remove_if(
        &self,
        key: Handle,
        now: Timestamp,
        event: Event,
        dies: impl FnOnce(&mut Record) -> bool,
    ) {
        let mut crowded = false;
        let removed = self.records.remove_if(key, |record| {
            let dies = dies(record);
            if dies {
                // Under the guard: who finds neither room nor the key's entry relies on it.
                self.keys.fetch_sub(1, SeqCst);
                if record.hold().is_none() {
                    crowded = self.free.add_stale(key);
                }
            }
            dies
        });
        if crowded {
            self.drop_stale_near(key);
        }
        if let Some(record) = removed {
            self.forget(key, &record, now, event);
        }
    }

    /// Cleans up after a record that was removed and no longer takes room.
    pub(super) fn forget(&self, key: Handle, record: &Record, now: Timestamp, event: Event) {
        self.counters.add(key, event);
        if let Some((_, until)) = record.hold() {
            self.counters.add(
                key,
                match (record.is_leased(), until <= now) {
                    (true, true) => Event::LeaseTimeout,
                    (true, false) => Event::LeaseLost,
                    (false, _) => Event::CoolDownEnd,
                },
            );
        }
        self.lives.disarm(record.life_entry(), key);
        if let Some(at) = record.hold_entry() {
            self.holds.disarm(at, key);
        }
        self.records.shrink_shard_of(key);
    }

    /// Looks at a few hints of the shard of `key` and removes the stale ones. O(1).
    pub(super) fn drop_stale_near(&self, key: Handle) {
        for (slot, hint) in self.free.suspects(key).into_iter().flatten() {
            let record = self.records.get(hint.key);
            if record.is_none_or(|record| record.hint(hint.key) != Some(hint)) {
                self.free.remove_stale(slot, hint);
            }
        }
    }
}
