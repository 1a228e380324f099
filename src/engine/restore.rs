//! Restoring a pool from its journal.

use std::sync::atomic::Ordering::SeqCst;

use super::guarded::Guarded;
use super::hold::Hold;
use super::journal::{Entry, Journal};
use super::pool::Pool;
use super::record::Record;
use super::shard::Event;
use super::short_id::ShortId;
use super::transition::arm_life;
use crate::time::Timestamp;

/// A pool that is being restored, which no client uses yet.
pub struct Restoring<J: Journal = ()>(Pool<J>);

impl<J: Journal> Restoring<J> {
    /// Restores into `pool`, which must be empty. Later changes go to its journal. O(1).
    ///
    /// A lease that lapsed while no pool was there is followed by the cool-down that `pool` has.
    #[must_use]
    pub fn new(pool: Pool<J>) -> Self {
        Self(pool)
    }

    /// Sets the state of a key to that in `entry`, whatever it was before. O(log n).
    ///
    /// Entries of one key must come in the order of its changes. It does no harm to begin once more with an
    /// earlier one. Entries of different keys may come from different threads. Deadlines may be over: they
    /// are checked when the key is next used. Keys are restored even if they are more than `keys_max`; then
    /// none can be created. The same is true of the bytes of values, of
    /// labels, and of quotas.
    pub fn apply(&self, entry: &Entry) {
        let Self(pool) = self;
        let (half, key) = ShortId::split(&entry.id);
        let start = Timestamp::default();
        pool.records.remove_if(key, start, |guarded| {
            pool.keys.fetch_sub(1, SeqCst);
            each_event(guarded, |event| guarded.shard.uncount(event));
            pool.disarm(guarded);
            pool.take_holder(guarded);
            pool.take_value(guarded);
            pool.take_labels(guarded);
            true
        });
        let Some(info) = &entry.after else { return };
        pool.keys.fetch_add(1, SeqCst);
        let make = |_| {
            arm_life(&mut &pool.lives, info.life_ends, key);
            Record::restored(half, info)
        };
        pool.records.add(
            key,
            start,
            || true,
            make,
            |guarded| {
                each_event(guarded, |event| guarded.shard.count(event));
                if let Some(value) = &entry.value {
                    pool.values.add_bytes(value.reveal().len());
                    Pool::<J>::give_value(guarded, value.clone());
                }
                if let Some(holder) = info.holder().filter(|_| guarded.is_leased()) {
                    pool.give_holder(guarded, Hold::restored(holder));
                }
                Pool::<J>::give_labels(guarded, pool.labels.count_restored(info.labels()));
                if let Some((_, until)) = guarded.block() {
                    pool.move_block_entry(guarded, Some(until), &mut &pool.blocks);
                }
            },
        );
    }

    /// The pool, ready for use. Its totals count each restored key as created, and each restored lease as
    /// begun. O(n).
    #[must_use]
    pub fn finish(self) -> Pool<J> {
        let Self(pool) = self;
        let mut keys_with_own = Vec::new();
        pool.records.for_each(|key, record| {
            if let Some(hint) = record.hint(key) {
                pool.free.push(hint);
            }
            if record.has_own() {
                keys_with_own.push(key);
            }
        });
        for key in keys_with_own {
            pool.records.with(key, Timestamp::default(), |guarded| {
                // Only now: entries of different keys come in any order, so that two have had one value.
                if let Some(value) = guarded.value() {
                    pool.values.claim(pool.values.digest(&value), key);
                }
                if let Some(hint) = guarded.hint(key) {
                    guarded.each_label(|labeled| labeled.free.push(hint));
                }
            });
        }
        pool
    }
}

/// Calls `note` with the events that have brought a key to its state.
fn each_event(guarded: &Guarded<'_>, mut note: impl FnMut(Event)) {
    note(Event::Created);
    if guarded.block().is_some() {
        note(if guarded.is_leased() { Event::Leased } else { Event::CoolDown });
    }
}
