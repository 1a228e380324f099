//! Restoring a pool from its journal.

use std::sync::atomic::Ordering::SeqCst;

use super::expiry::ExpiryIndex;
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
    /// Restores into `pool`, which must be empty. Later changes go to its journal. O(1).
    ///
    /// A lease that lapsed while no pool was there is followed by the cool-down that `pool` has.
    #[must_use]
    pub fn new(pool: Pool<J>) -> Self {
        Self(pool)
    }

    /// Changes the settings, as [`Pool::configure`] did between the entries. O(1); O(n) if the cool-down after a
    /// lapse changes.
    pub fn configure(&self, settings: Settings, now: Timestamp) {
        let Self(pool) = self;
        pool.live.set(settings);
        pool.records.change_lapse(settings.lapse_cooldown_ms, now, || self.end_blocks(now));
    }

    /// Ends the leases and cool-downs that are over. O(n).
    fn end_blocks(&self, now: Timestamp) {
        let is_over = |record: &Record| record.block().is_some_and(|(_, until)| until <= now);
        for key in self.keys(is_over) {
            self.0.records.with(key, now, |guarded| {
                let end = guarded.block().map_or(now, |(_, until)| until);
                let state = KeyState {
                    generation: guarded.generation_at(now, guarded.shard.floor()),
                    block: guarded.lapsed_until().map(|until| (end, until)),
                    holder: None,
                    ..guarded.look().key_state()
                };
                self.set(guarded, &state);
            });
        }
    }

    /// The keys that are so. O(n).
    fn keys(&self, is_so: impl Fn(&Record) -> bool) -> Vec<ShortId> {
        let mut keys = Vec::new();
        self.0.records.for_each(|key, record| {
            if is_so(record) {
                keys.push(key);
            }
        });
        keys
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
        };
        pool.records.add(key, Timestamp::default(), || true, make, then)
    }

    /// Forgets keys that had died by `now`. Entries that say no more than that do not exist, so a journal that many keys
    /// have come and gone in would else take the memory of all of them. O(n).
    pub fn forget_dead(&self, now: Timestamp) {
        for key in self.keys(|record| record.life_ends() <= now) {
            self.remove(key);
            self.0.records.shrink_shard_of(key);
        }
    }

    /// How many keys there are. O(1).
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.keys.load(SeqCst)
    }

    /// Whether there is none. O(1).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets keys that had died by `since` go, and lets others live until `until` at least. That is noted in the journal.
    /// O(n).
    pub fn lengthen_lives(&self, since: Timestamp, until: Timestamp) {
        let Self(pool) = self;
        self.forget_dead(since);
        for key in self.keys(|record| record.life_ends() < until) {
            pool.records.with(key, Timestamp::default(), |guarded| {
                let state = KeyState { life_ends: until, ..guarded.look().key_state() };
                self.set(guarded, &state);
                pool.journal.append(|| guarded.look().change());
            });
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

    /// Adds all keys to the indexes: in the order of the indexes, which is several times as fast as in any other. O(n log n).
    fn index(&self) {
        let Self(pool) = self;
        self.index_by(&pool.lives, |record| Some(record.life_entry()));
        self.index_by(&pool.blocks, Record::block_entry);
    }

    fn index_by(&self, index: &ExpiryIndex, entry: impl Fn(&Record) -> Option<Timestamp>) {
        for stripe in 0..ExpiryIndex::STRIPES {
            let mut entries = Vec::new();
            self.0.records.for_each(|key, record| {
                if ExpiryIndex::stripe_of(key) == stripe
                    && let Some(at) = entry(record)
                {
                    entries.push((at, key));
                }
            });
            entries.sort_unstable();
            let mut cursor = index.cursor();
            for (at, key) in entries {
                arm_life(&mut cursor, at, key);
            }
        }
    }

    /// The pool, ready for use from `now` on. Its totals count each restored key as created, and each restored lease as
    /// begun. O(n).
    #[must_use]
    pub fn finish(self, now: Timestamp) -> Pool<J> {
        // Another key may have the value of a dead one.
        self.forget_dead(now);
        self.index();
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
