//! The state machine of one key: no locks, no collections, no clock.
//!
//! Records are by far the largest part of the pool, and a hash table can take up to twice their size. So
//! they are packed: 42 bytes instead of 64 (see [`Packed`]).

use super::free::Hint;
use super::journal::KeyState;
use super::lapse::LapseCooldown;
use super::packed::Packed;
use super::short_id::ShortId;
use crate::key::{KeyInfo, Lease, State};
use crate::pool::PoolId;
use crate::time::Timestamp;

/// Something that only some keys have. It is kept beside the records: see `own.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A value.
    Value = 1,
    /// Labels.
    Labels = 2,
    /// A holder of its lease.
    Holder = 4,
}

/// What is true of one key, and which of its timers are armed in the expiry indexes.
pub(super) struct Record {
    /// The half of the id that is not the key's short id. In place of the version, which is always 4, it has
    /// a bit for each [`Part`] that the key has.
    id: [u8; 8],
    created_at: Packed<5>,
    /// The time of its entry in the index of lives; never after the end of the life. `NEVER` if it has none,
    /// as its life does not end.
    life_entry: Packed<5>,
    /// How far keep-alives have moved the end of the life past that time.
    life_moved_ms: Packed<4>,
    /// When the lease or cool-down ends; without meaning while there is none.
    block_until: Packed<5>,
    /// How long the lease or cool-down lasts; 0 for none.
    block_ms: Packed<4>,
    /// The time of its entry in the index of blocks; 0 for none.
    block_entry: Packed<5>,
    /// Odd while the key is leased. Rises with each lease, each end of one, and each cool-down of a free key:
    /// 2^48 last 8 years at a million a second.
    generation: Packed<6>,
}

impl Record {
    /// The record of a free key that is created `now`. Its entry of life belongs at `life_ends`.
    pub(super) fn new(id: [u8; 8], now: Timestamp, life_ends: Timestamp) -> Self {
        Self {
            id: without_version(id),
            created_at: Packed::new(now.as_ms()),
            life_entry: Packed::new(life_ends.as_ms()),
            life_moved_ms: Packed::new(0),
            block_until: Packed::new(0),
            block_ms: Packed::new(0),
            block_entry: Packed::new(0),
            generation: Packed::new(0),
        }
    }

    /// The record of a restored key. Its entries belong at [`Record::life_entry`] and [`Record::block_entry`].
    pub(super) fn restored(id: [u8; 8], created_at: Timestamp, state: &KeyState) -> Self {
        let mut record = Self::new(id, created_at, state.life_ends);
        record.restore(state);
        record
    }

    /// Takes over a restored state. Its entries belong at [`Record::life_entry`] and [`Record::block_entry`].
    pub(super) fn restore(&mut self, state: &KeyState) {
        let (since, until) = state.block.unwrap_or_default();
        self.arm_life(state.life_ends);
        self.block_between(since, until);
        self.arm_block(state.block.map(|(_, until)| until));
        self.generation = Packed::new(state.generation);
    }

    pub(super) fn id(&self) -> [u8; 8] {
        // As a number: single bytes that were just written would have to wait for memory.
        (u64::from_be_bytes(self.id) & !VERSION_BITS | VERSION << VERSION_SHIFT).to_be_bytes()
    }

    pub(super) fn has(&self, part: Part) -> bool {
        self.id[VERSION_AT] >> 4 & part as u8 != 0
    }

    /// Whether it has any part of its own.
    pub(super) fn has_own(&self) -> bool {
        self.id[VERSION_AT] >> 4 != 0
    }

    /// Notes whether the key has a part of its own.
    pub(super) fn set(&mut self, part: Part, has: bool) {
        let flag = (part as u8) << 4;
        let id = &mut self.id[VERSION_AT];
        *id = if has { *id | flag } else { *id & !flag };
    }

    /// The state of `key` at `now`, as callers see it, but for what it has of its own.
    pub(super) fn info(
        &self,
        key: ShortId,
        now: Timestamp,
        floor: u64,
        lapse: impl FnOnce() -> LapseCooldown,
    ) -> KeyInfo {
        KeyInfo {
            created_at: self.created_at(),
            life_ends: self.life_ends(),
            generation: self.generation_at(now, floor),
            state: self.state(key, now, lapse),
            own: None,
        }
    }

    pub(super) fn created_at(&self) -> Timestamp {
        self.created_at.time()
    }

    /// The one hint that offers the key, if it is free.
    pub(super) fn hint(&self, key: ShortId) -> Option<Hint> {
        self.block().is_none().then(|| Hint::new(key, self.generation()))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.get()
    }

    pub(super) fn life_entry(&self) -> Timestamp {
        self.life_entry.time()
    }

    pub(super) fn life_ends(&self) -> Timestamp {
        Timestamp::from_kept_ms(self.life_entry.get() + self.life_moved_ms.get())
    }

    /// Moves the end of the life to `end` but leaves the entry, which then comes due too early and is armed
    /// again. False, and nothing changes, if `end` is too far from the entry to be kept, as one that never
    /// comes is.
    #[must_use]
    pub(super) fn move_life(&mut self, end: Timestamp) -> bool {
        let moved_ms = end.ms_since(self.life_entry());
        if moved_ms > Packed::<4>::MAX {
            return false;
        }
        self.life_moved_ms = Packed::new(moved_ms);
        true
    }

    /// Notes that the entry of life was moved to `at`, where the life ends, or removed if that never comes.
    pub(super) fn arm_life(&mut self, at: Timestamp) {
        self.life_entry = Packed::new(at.as_ms());
        self.life_moved_ms = Packed::new(0);
    }

    pub(super) fn block_entry(&self) -> Option<Timestamp> {
        (self.block_entry.get() != 0).then(|| self.block_entry.time())
    }

    /// Notes that the entry of the block was moved to `at`, or removed.
    pub(super) fn arm_block(&mut self, at: Option<Timestamp>) {
        self.block_entry = Packed::new(at.map_or(0, Timestamp::as_ms));
    }

    /// The start and the end of the lease or cool-down, until [`Record::end_block`], even if its time is
    /// over.
    pub(super) fn block(&self) -> Option<(Timestamp, Timestamp)> {
        let (until, ms) = (self.block_until.get(), self.block_ms.get());
        (ms != 0).then(|| (Timestamp::from_ms(until - ms), Timestamp::from_ms(until)))
    }

    pub(super) fn is_leased(&self) -> bool {
        self.generation() % 2 == 1
    }

    /// Whether `key` can be leased, as callers see it.
    pub(super) fn state(
        &self,
        key: ShortId,
        now: Timestamp,
        lapse: impl FnOnce() -> LapseCooldown,
    ) -> State {
        match self.block() {
            Some((since, until)) if until > now && self.is_leased() => {
                State::Leased(self.lease(key, since, until))
            }
            Some((since, until)) if until > now => State::Cooling { since, until },
            Some(_) => self.lapsed(now, lapse).unwrap_or(State::Free),
            None => State::Free,
        }
    }

    /// The cool-down after a lease that has lapsed, if that lasts at `now`.
    pub(super) fn lapsed(
        &self,
        now: Timestamp,
        lapse: impl FnOnce() -> LapseCooldown,
    ) -> Option<State> {
        let (_, since) = self.block().filter(|(_, end)| *end <= now && self.is_leased())?;
        let until = lapse().ends_after(since);
        (until > now).then_some(State::Cooling { since, until })
    }

    /// The lease of `key` from `since` to `until`, as callers see it.
    pub(super) fn lease(&self, key: ShortId, since: Timestamp, until: Timestamp) -> Lease {
        Lease {
            pool: PoolId::DEFAULT,
            id: key.join(self.id()),
            generation: self.generation(),
            since,
            until,
        }
    }

    /// The generation as callers see it: a lease whose time is over counts as ended.
    pub(super) fn generation_at(&self, now: Timestamp, floor: u64) -> u64 {
        let is_over = self.is_leased() && self.block().is_none_or(|(_, until)| until <= now);
        if is_over { self.next_generation(1, floor) } else { self.generation() }
    }

    /// The generation so many steps on, or the first one from `floor` on that says the same about a lease. `floor` is
    /// even. Below it, generations may have been given that were lost: see [`super::Restoring::raise_generations`].
    fn next_generation(&self, steps: u64, floor: u64) -> u64 {
        let next = self.generation() + steps;
        if next < floor { floor + next % 2 } else { next }
    }

    /// Leases the free key from `since` to `until`.
    pub(super) fn start_lease(&mut self, since: Timestamp, until: Timestamp, floor: u64) {
        debug_assert!(self.block().is_none(), "leased twice");
        self.block_between(since, until);
        self.generation = Packed::new(self.next_generation(1, floor));
    }

    /// Lets the lease last from `since` to `until` instead.
    pub(super) fn renew(&mut self, since: Timestamp, until: Timestamp) {
        debug_assert!(self.is_leased(), "nothing to renew");
        self.block_between(since, until);
    }

    /// Lets the key cool down from `since` to `until`, and ends its lease if it has one.
    pub(super) fn cool(&mut self, since: Timestamp, until: Timestamp, floor: u64) {
        let steps = match self.block() {
            // Two: its hint becomes stale, and an even generation means that it is not leased.
            None => 2,
            Some(_) => u64::from(self.is_leased()),
        };
        self.block_between(since, until);
        if steps > 0 {
            self.generation = Packed::new(self.next_generation(steps, floor));
        }
    }

    /// Makes the key free.
    pub(super) fn end_block(&mut self, floor: u64) {
        debug_assert!(self.block().is_some(), "freed twice");
        self.block_ms = Packed::new(0);
        if self.is_leased() {
            self.generation = Packed::new(self.next_generation(1, floor));
        }
    }

    fn block_between(&mut self, since: Timestamp, until: Timestamp) {
        self.block_until = Packed::new(until.as_ms());
        self.block_ms = Packed::new(until.ms_since(since));
    }
}

/// The byte of half an id that has the version in its upper half.
const VERSION_AT: usize = 6;
/// Where the version is in half an id, as a number.
const VERSION_SHIFT: u32 = 12;
const VERSION_BITS: u64 = 0xf << VERSION_SHIFT;
/// Version 4: see [`KeyId`](crate::key::KeyId).
const VERSION: u64 = 4;

/// Half an id, with room for the flags.
fn without_version(id: [u8; 8]) -> [u8; 8] {
    let id = u64::from_be_bytes(id);
    debug_assert_eq!(id & VERSION_BITS, VERSION << VERSION_SHIFT, "not a random UUID");
    (id & !VERSION_BITS).to_be_bytes()
}
