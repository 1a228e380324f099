//! Restoring a pool from its journal.

use std::sync::atomic::Ordering::SeqCst;

use super::guarded::Guarded;
use super::hold::Hold;
use super::journal::{After, Entry, Journal, KeyState};
use super::pool::Pool;
use super::record::Record;
use super::settings::Settings;
use super::shard::Event;
use super::short_id::ShortId;
use super::transition::arm_life;
use crate::key::{KeyId, Label, Value};
use crate::time::Timestamp;

/// A pool that is being restored, which no client uses yet.
pub struct Restoring<J: Journal = ()>(Pool<J>);

impl<J: Journal> Restoring<J> {
    /// How many due entries are handled at a time.
    const STEP: usize = 1024;

    /// Restores into `pool`, which must be empty. Later changes go to its journal. O(1).
    ///
    /// A lease that lapsed while no pool was there is followed by the cool-down that `pool` has.
    #[must_use]
    pub fn new(pool: Pool<J>) -> Self {
        Self(pool)
    }

    /// Changes the settings, as [`Pool::configure`] did between the entries. O(d log n) for d due entries.
    pub fn configure(&self, settings: Settings, now: Timestamp) {
        let Self(pool) = self;
        pool.live.set(settings);
        pool.records.change_lapse(settings.lapse_cooldown_ms, now, || self.end_blocks(now));
    }

    /// Ends the leases and cool-downs that are over, whose keys are not offered yet.
    fn end_blocks(&self, now: Timestamp) {
        let Self(pool) = self;
        loop {
            let due = pool.blocks.due(now, Self::STEP);
            if due.is_empty() {
                return;
            }
            for (at, key) in due {
                pool.records.with(key, now, |guarded| {
                    if guarded.block_entry() != Some(at) {
                        return;
                    }
                    if let Some((_, end)) = guarded.block().filter(|(_, end)| *end <= now) {
                        let state = KeyState {
                            generation: guarded.generation_at(now, guarded.shard.floor()),
                            block: guarded.lapsed_until().map(|until| (end, until)),
                            holder: None,
                            ..guarded.look().key_state()
                        };
                        self.set(guarded, &state);
                    }
                    let end = guarded.block().map(|(_, until)| until);
                    if end != Some(at) {
                        pool.move_block_entry(guarded, end, &mut &pool.blocks);
                    }
                });
            }
        }
    }

    /// Sets the state of a key that is there.
    fn set(&self, guarded: &mut Guarded<'_>, state: &KeyState) {
        each_event(guarded, |event| guarded.shard.uncount(event));
        self.0.restore(guarded, state);
        each_event(guarded, |event| guarded.shard.count(event));
    }

    /// Sets the state of a key to that in `entry`, whatever it was before. False, and nothing changes, if the entry does
    /// not say all about a key that is not there: then a later one must say that the key has gone. O(log n).
    ///
    /// Entries of one key must come in the order of its changes. It does no harm to begin once more with an
    /// earlier one. Entries of different keys may come from different threads. Deadlines may be over: they
    /// are checked when the key is next used. Keys are restored even if they are more than `keys_max`; then
    /// none can be created. The same is true of the bytes of values, of
    /// labels, and of quotas.
    #[must_use]
    pub fn apply(&self, entry: &Entry) -> bool {
        let Self(pool) = self;
        let (half, key) = ShortId::split(&entry.id);
        match &entry.after {
            After::State(state) => {
                let set = |guarded: &mut Guarded<'_>| self.set(guarded, state);
                pool.records.with(key, Timestamp::default(), set).is_some()
            }
            After::Whole { created_at, state, value, labels } => {
                let add = || self.add(&entry.id, *created_at, state, value.as_ref(), labels);
                // What it has of its own is the same if it is there already.
                let set = |guarded: &mut Guarded<'_>| {
                    let is_same = guarded.id() == half && guarded.created_at() == *created_at;
                    if is_same {
                        self.set(guarded, state);
                    }
                    is_same
                };
                let start = Timestamp::default();
                if !add() && pool.records.with(key, start, set) != Some(true) {
                    self.remove(key);
                    add();
                }
                true
            }
            After::Gone => {
                self.remove(key);
                true
            }
        }
    }

    /// Prefetches what entries of these keys will change. O(k) for k keys.
    pub fn prefetch<'a>(&self, ids: impl Iterator<Item = &'a KeyId> + Clone) {
        self.0.prefetch(ids);
    }

    fn remove(&self, key: ShortId) {
        let Self(pool) = self;
        pool.records.remove_if(key, Timestamp::default(), |guarded| {
            pool.keys.fetch_sub(1, SeqCst);
            each_event(guarded, |event| guarded.shard.uncount(event));
            pool.disarm(guarded);
            pool.take_holder(guarded);
            pool.take_value(guarded);
            pool.take_labels(guarded);
            true
        });
    }

    /// Adds a key, unless it is there.
    fn add(
        &self,
        id: &KeyId,
        created_at: Timestamp,
        state: &KeyState,
        value: Option<&Value>,
        labels: &[Label],
    ) -> bool {
        let (Self(pool), (half, key)) = (self, ShortId::split(id));
        let make = |_| {
            pool.keys.fetch_add(1, SeqCst);
            arm_life(&mut &pool.lives, state.life_ends, key);
            Record::restored(half, created_at, state)
        };
        let then = |guarded: &mut Guarded<'_>| {
            each_event(guarded, |event| guarded.shard.count(event));
            if let Some(value) = value {
                pool.values.add_bytes(value.reveal().len());
                Pool::<J>::give_value(guarded, value.clone());
            }
            if let Some(holder) = state.holder.as_ref().filter(|_| guarded.is_leased()) {
                pool.give_holder(guarded, Hold::restored(holder));
            }
            Pool::<J>::give_labels(guarded, pool.labels.count_restored(labels));
            if let Some((_, until)) = state.block {
                pool.move_block_entry(guarded, Some(until), &mut &pool.blocks);
            }
        };
        pool.records.add(key, Timestamp::default(), || true, make, then)
    }

    /// Forgets keys that had died by `now`. Entries that say no more than that do not exist, so a journal that many keys
    /// have come and gone in would else take the memory of all of them. O(d log n) for d dead keys.
    pub fn forget_dead(&self, now: Timestamp) {
        let Self(pool) = self;
        loop {
            let due = pool.lives.due(now, Self::STEP);
            if due.is_empty() {
                return;
            }
            for (at, key) in due {
                let life_ends = pool.records.with(key, Timestamp::default(), |guarded| {
                    let life_ends = guarded.life_ends();
                    if life_ends > now && guarded.life_entry() == at {
                        pool.move_life_entry(guarded, life_ends);
                    }
                    life_ends
                });
                if life_ends.is_some_and(|end| end <= now) {
                    self.remove(key);
                    pool.records.shrink_shard_of(key);
                }
            }
        }
    }

    /// Lets keys that had died by `since` go, and lets others live until `until` at least. That is noted in the journal. O(d log n)
    /// for d keys that die before.
    pub fn lengthen_lives(&self, since: Timestamp, until: Timestamp) {
        let Self(pool) = self;
        self.forget_dead(since);
        let Some(last_ms) = until.as_ms().checked_sub(1) else { return };
        loop {
            let due = pool.lives.due(Timestamp::from_ms(last_ms), Self::STEP);
            if due.is_empty() {
                return;
            }
            for (at, key) in due {
                pool.records.with(key, Timestamp::default(), |guarded| {
                    if guarded.life_ends() < until {
                        let state = KeyState { life_ends: until, ..guarded.look().key_state() };
                        self.set(guarded, &state);
                        pool.journal.append(|| guarded.look().change());
                    }
                    if guarded.life_entry() == at {
                        pool.move_life_entry(guarded, guarded.life_ends());
                    }
                });
            }
        }
    }

    /// Lets no key have a generation below `floor` from its next change on: those may have been given before, by changes
    /// that were lost. O(s) for s shards.
    ///
    /// # Panics
    ///
    /// If `floor` is odd.
    pub fn raise_generations(&self, floor: u64) {
        assert_eq!(floor % 2, 0, "an odd generation is that of a lease");
        self.0.records.raise_floor(floor);
    }

    /// The pool, ready for use from `now` on. Its totals count each restored key as created, and each restored lease as
    /// begun. O(n).
    #[must_use]
    pub fn finish(self, now: Timestamp) -> Pool<J> {
        // Another key may have the value of a dead one.
        self.forget_dead(now);
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
