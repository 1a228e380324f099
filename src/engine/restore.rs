//! Restoring a pool from its journal.

use std::sync::atomic::Ordering::SeqCst;

use super::expiry::Arm;
use super::guarded::Guarded;
use super::journal::{Entry, Journal};
use super::pool::Pool;
use super::record::Record;
use super::shard::Event;
use super::short_id::ShortId;
use crate::key::Ttl;
use crate::time::Timestamp;

/// A pool that is being restored, which no client uses yet.
pub struct Restoring<J: Journal = ()>(Pool<J>);

impl<J: Journal> Restoring<J> {
    /// An empty pool, to which the entries of a journal can be applied. Later changes go to `journal`. O(s)
    /// for s shards.
    ///
    /// # Panics
    ///
    /// As [`Pool::with_journal`].
    #[must_use]
    pub fn new(ttl: Ttl, keys_max: usize, shards: usize, journal: J) -> Self {
        Self(Pool::with_journal(ttl, keys_max, shards, journal))
    }

    /// Sets the state of a key to that in `entry`, whatever it was before. O(log n).
    ///
    /// Entries of one key must come in the order of its changes. It does no harm to begin once more with an
    /// earlier one. Entries of different keys may come from different threads. Deadlines may be over: they
    /// are checked when the key is next used. Keys are restored even if they are more than `keys_max`; then
    /// none can be created.
    pub fn apply(&self, entry: &Entry) {
        let Self(pool) = self;
        let (half, key) = ShortId::split(&entry.id);
        let start = Timestamp::default();
        pool.records.remove_if(key, start, |guarded| {
            pool.keys.fetch_sub(1, SeqCst);
            each_event(guarded, |event| guarded.shard.uncount(event));
            pool.disarm(guarded);
            true
        });
        let Some(info) = entry.after else { return };
        pool.keys.fetch_add(1, SeqCst);
        let make = |_| {
            (&pool.lives).arm(info.life_ends, key);
            Record::restored(half, &info)
        };
        pool.records.add(key, start, make, |guarded| {
            each_event(guarded, |event| guarded.shard.count(event));
            if let Some((_, until)) = guarded.block() {
                pool.move_block_entry(guarded, Some(until), &mut &pool.blocks);
            }
        });
    }

    /// The pool, ready for use. Its totals count each restored key as created, and each restored lease as
    /// begun. O(n).
    #[must_use]
    pub fn finish(self) -> Pool<J> {
        let Self(pool) = self;
        pool.records.for_each(|key, record| {
            if let Some(hint) = record.hint(key) {
                pool.free.push(hint);
            }
        });
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
