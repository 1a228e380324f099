//! A record whose guard is held.

use std::ops::Deref;

use super::record::Record;
use super::shard::Shard;
use super::short_id::ShortId;
use crate::key::{KeyId, KeyInfo, State};
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

    /// The key as callers see it.
    pub(super) fn info(&self) -> KeyInfo {
        self.record.info(self.key, self.now, || self.shard.lapse())
    }

    /// Until when the key cools down after a lease that has lapsed, if no operation has noticed that.
    pub(super) fn lapsed_until(&self) -> Option<Timestamp> {
        match self.record.lapsed(self.now, || self.shard.lapse()) {
            Some(State::Cooling { until, .. }) => Some(until),
            _ => None,
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.record.life_ends() <= self.now
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

    /// The key as callers see it.
    pub(super) fn info(&self) -> KeyInfo {
        self.record.info(self.key, self.now, || self.shard.lapse())
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
