//! A record whose guard is held.

use std::ops::Deref;
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::journal::{After, Entry, KeyState};
use super::labels::Labeled;
use super::own::Own;
use super::record::{Part, Record};
use super::shard::Shard;
use super::short_id::ShortId;
use crate::key::{Holder, KeyId, KeyInfo, OwnInfo, State, Value};
use crate::time::Timestamp;

/// A record that no other thread can reach meanwhile, its shard, and the time of the operation.
pub(super) struct Guarded<'a> {
    pub(super) key: ShortId,
    record: &'a mut Record,
    pub(super) shard: &'a Shard,
    /// The time that the operation counts as of: see [`Shard::observe`].
    pub(super) now: Timestamp,
}

impl<'a> Guarded<'a> {
    pub(super) fn new(
        key: ShortId,
        record: &'a mut Record,
        shard: &'a Shard,
        now: Timestamp,
    ) -> Self {
        Self { key, record, shard, now }
    }

    /// The record, to be changed by `transition.rs` alone.
    pub(super) fn record_mut(&mut self) -> &mut Record {
        self.record
    }

    /// Whether the other half of the key's id is `half`, and the key lives.
    pub(super) fn is_living(&self, half: [u8; 8]) -> bool {
        self.id() == half && !self.is_dead()
    }

    /// The record, to look at.
    pub(super) fn look(&self) -> Look<'_> {
        Look::new(self.key, self.record, self.shard, self.now)
    }

    /// The key as callers see it. O(l) for l labels.
    pub(super) fn info(&self) -> KeyInfo {
        self.look().info()
    }

    /// Until when the key cools down after a lease that has lapsed, if no operation has noticed that.
    pub(super) fn lapsed_until(&self) -> Option<Timestamp> {
        match self.record.lapsed(self.now, || self.shard.lapse()) {
            Some(State::Cooling { until, .. }) => Some(until),
            _ => None,
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.look().is_dead()
    }

    /// The tables of the key's shard, for a key that has something of its own.
    pub(super) fn own(&self) -> MutexGuard<'_, Option<Box<Own>>> {
        self.shard.own()
    }

    /// Calls `change` with the tables of the key's shard. They are made when a first key needs them, and
    /// dropped with the last one's parts.
    pub(super) fn change_own<T>(&self, change: impl FnOnce(&mut Own) -> T) -> T {
        let mut own = self.own();
        let tables = own.get_or_insert_default();
        let result = change(tables);
        if tables.is_empty() {
            *own = None;
        }
        result
    }

    /// Calls `act` with each label of the key. O(l) for l labels.
    pub(super) fn each_label(&self, act: impl FnMut(&Arc<Labeled>)) {
        self.look().each_label(act);
    }

    /// Who has leased the key, if that was said; even if the lease is over and nobody has noticed it. O(1).
    pub(super) fn holder(&self) -> Option<Holder> {
        self.look().holder()
    }

    /// The value of the key. O(1).
    pub(super) fn value(&self) -> Option<Value> {
        self.look().value()
    }
}

/// A record to look at, which no other thread can change meanwhile.
pub(super) struct Look<'a> {
    pub(super) key: ShortId,
    record: &'a Record,
    shard: &'a Shard,
    now: Timestamp,
}

impl<'a> Look<'a> {
    pub(super) fn new(key: ShortId, record: &'a Record, shard: &'a Shard, now: Timestamp) -> Self {
        Self { key, record, shard, now }
    }

    pub(super) fn id(&self) -> KeyId {
        self.key.join(self.record.id())
    }

    /// The key as callers see it. O(l) for l labels.
    pub(super) fn info(&self) -> KeyInfo {
        let (floor, lapse) = (self.shard.floor(), || self.shard.lapse());
        let mut info = self.record.info(self.key, self.now, floor, lapse);
        if self.record.has_own() {
            info.own = self.own_info(&info.state);
        }
        info
    }

    #[cold]
    fn own_info(&self, state: &State) -> Option<Box<OwnInfo>> {
        let mut own = OwnInfo::default();
        self.each_label(|labeled| own.labels.push(labeled.label.clone()));
        // A lease that is over has none, even if nobody has noticed it.
        own.holder = self.holder().filter(|_| matches!(state, State::Leased(_)));
        own.boxed()
    }

    /// All that a journal keeps of a key that it does not know. O(l) for l labels.
    pub(super) fn whole(&self) -> Entry {
        let mut labels = Vec::new();
        self.each_label(|labeled| labels.push(labeled.label.clone()));
        let after = After::Whole {
            created_at: self.record.created_at(),
            state: self.key_state(),
            value: self.value(),
            labels,
        };
        Entry { id: self.id(), after }
    }

    /// The same with a lease or cool-down ended that is over: how long the key rests after that may not be known any more
    /// where it is read. O(l) for l labels.
    pub(super) fn whole_by_now(&self) -> Entry {
        let mut entry = self.whole();
        let (floor, lapse) = (self.shard.floor(), || self.shard.lapse());
        if let After::Whole { state, .. } = &mut entry.after
            && state.block.is_some_and(|(_, until)| until <= self.now)
        {
            state.block = match self.record.lapsed(self.now, lapse) {
                Some(State::Cooling { since, until }) => Some((since, until)),
                _ => None,
            };
            state.generation = self.record.generation_at(self.now, floor);
            state.holder = None;
        }
        entry
    }

    /// What a journal keeps of a key that it knows. O(1).
    pub(super) fn change(&self) -> Entry {
        Entry { id: self.id(), after: After::State(self.key_state()) }
    }

    pub(super) fn key_state(&self) -> KeyState {
        KeyState {
            life_ends: self.record.life_ends(),
            generation: self.record.generation(),
            block: self.record.block(),
            holder: self.holder(),
        }
    }

    /// The value of the key. O(1).
    fn value(&self) -> Option<Value> {
        if !self.record.has(Part::Value) {
            return None;
        }
        self.shard.own().as_ref()?.values.get(&self.key).cloned()
    }

    /// Who has leased the key: see [`Guarded::holder`].
    fn holder(&self) -> Option<Holder> {
        if !self.record.has(Part::Holder) {
            return None;
        }
        let own = self.shard.own();
        own.as_ref()?.holds.get(&self.key).map(|hold| hold.holder().clone())
    }

    fn each_label(&self, act: impl FnMut(&Arc<Labeled>)) {
        if !self.record.has(Part::Labels) {
            return;
        }
        let own = self.shard.own();
        if let Some(labels) = own.as_ref().and_then(|own| own.labels.get(&self.key)) {
            labels.iter().for_each(act);
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.record.life_ends() <= self.now
    }
}

impl Deref for Guarded<'_> {
    type Target = Record;

    fn deref(&self) -> &Record {
        self.record
    }
}
