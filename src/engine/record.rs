//! The state machine of one key: no locks, no collections, no clock.
//!
//! Records are by far the largest part of the pool, and a hash table pays for each of their bytes
//! up to twice. So they are packed: 42 bytes instead of 64 (see [`Packed`]).

use super::free::Hint;
use super::handle::Handle;
use crate::key::{Lease, Ttl};
use crate::time::Timestamp;

/// An unsigned number in `N` bytes, without alignment.
#[derive(Clone, Copy)]
struct Packed<const N: usize>([u8; N]);

impl<const N: usize> Packed<N> {
    const MAX: u64 = (1 << (8 * N)) - 1;

    fn new(value: u64) -> Self {
        debug_assert!(value <= Self::MAX, "{value} does not fit {N} bytes");
        let mut bytes = [0; N];
        bytes.copy_from_slice(&value.to_le_bytes()[..N]);
        Self(bytes)
    }

    fn get(self) -> u64 {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(&self.0);
        u64::from_le_bytes(bytes)
    }

    fn time(self) -> Timestamp {
        Timestamp::from_ms(self.get())
    }
}

/// What is true of one key, and which of its timers are armed in the expiry indexes.
pub(super) struct Record {
    /// The half of the id that is not the key's handle.
    id: [u8; 8],
    created_at: Packed<5>,
    /// Where its entry in the index of lives stands; never after the end of the life.
    life_entry: Packed<5>,
    /// How far keep-alives have moved the end of the life past that entry.
    life_moved_ms: Packed<4>,
    /// Meaningful while leased.
    lease_until: Packed<5>,
    /// 0 while the key is free.
    lease_ms: Packed<4>,
    /// Where its entry in the index of leases stands; 0 for none.
    lease_entry: Packed<5>,
    /// Rises with each lease and each release: 2^48 last 8 years at a million a second.
    generation: Packed<6>,
}

impl Record {
    /// A free key whose life begins `now`. Its entry of life belongs at [`Record::life_ends`].
    pub(super) fn new(id: [u8; 8], now: Timestamp, ttl: Ttl) -> Self {
        Self {
            id,
            created_at: Packed::new(now.as_ms()),
            life_entry: Packed::new(now.plus_ms(ttl.key_ttl_ms).as_ms()),
            life_moved_ms: Packed::new(0),
            lease_until: Packed::new(0),
            lease_ms: Packed::new(0),
            lease_entry: Packed::new(0),
            generation: Packed::new(0),
        }
    }

    pub(super) fn id(&self) -> [u8; 8] {
        self.id
    }

    pub(super) fn created_at(&self) -> Timestamp {
        self.created_at.time()
    }

    /// Whether this is the key with that half of an id, and it lives.
    pub(super) fn is_living(&self, id: [u8; 8], now: Timestamp) -> bool {
        self.id == id && !self.is_dead(now)
    }

    /// The one hint that offers the key, if it is free.
    pub(super) fn hint(&self, key: Handle) -> Option<Hint> {
        self.lease().is_none().then(|| Hint::new(key, self.generation()))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.get()
    }

    pub(super) fn life_entry(&self) -> Timestamp {
        self.life_entry.time()
    }

    pub(super) fn life_ends(&self) -> Timestamp {
        self.life_entry().plus_ms(self.life_moved_ms.get())
    }

    pub(super) fn is_dead(&self, now: Timestamp) -> bool {
        self.life_ends() <= now
    }

    /// Lets the life end at `end` without touching the entry, which then pops too early and is
    /// armed anew. False, and nothing changes, if `end` is too far from the entry to be noted.
    #[must_use]
    pub(super) fn move_life(&mut self, end: Timestamp) -> bool {
        let moved_ms = end.ms_since(self.life_entry());
        if moved_ms > Packed::<4>::MAX {
            return false;
        }
        self.life_moved_ms = Packed::new(moved_ms);
        true
    }

    /// Notes that the entry of life now stands at `at`, where the life ends.
    pub(super) fn arm_life(&mut self, at: Timestamp) {
        self.life_entry = Packed::new(at.as_ms());
        self.life_moved_ms = Packed::new(0);
    }

    pub(super) fn lease_entry(&self) -> Option<Timestamp> {
        (self.lease_entry.get() != 0).then(|| self.lease_entry.time())
    }

    /// Notes where the entry of the lease now stands.
    pub(super) fn arm_lease(&mut self, at: Option<Timestamp>) {
        self.lease_entry = Packed::new(at.map_or(0, Timestamp::as_ms));
    }

    /// Start and end of the lease that was given and not taken back, even if its time is over.
    pub(super) fn lease(&self) -> Option<(Timestamp, Timestamp)> {
        let (until, ms) = (self.lease_until.get(), self.lease_ms.get());
        (ms != 0).then(|| (Timestamp::from_ms(until - ms), Timestamp::from_ms(until)))
    }

    /// The same as callers know it, for the record of `key`.
    pub(super) fn lease_of(&self, key: Handle) -> Option<Lease> {
        let (since, until) = self.lease()?;
        Some(Lease { id: key.join(self.id), generation: self.generation(), since, until })
    }

    /// Gives the free key away from `since` to `until`.
    pub(super) fn start_lease(&mut self, since: Timestamp, until: Timestamp) {
        debug_assert!(self.lease().is_none(), "leased twice");
        self.lease_until = Packed::new(until.as_ms());
        self.lease_ms = Packed::new(until.ms_since(since));
        self.generation = Packed::new(self.generation() + 1);
    }

    /// Takes the leased key back.
    pub(super) fn end_lease(&mut self) {
        debug_assert!(self.lease().is_some(), "released twice");
        self.lease_ms = Packed::new(0);
        self.generation = Packed::new(self.generation() + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn record() -> Record {
        Record::new([0; 8], at(7), Ttl { key_ttl_ms: 100, lease_ttl_ms: 10 })
    }

    #[test]
    fn a_record_is_small() {
        assert_eq!((size_of::<Record>(), align_of::<Record>()), (42, 1));
    }

    #[test]
    fn packed_numbers_keep_their_value() {
        for value in [0, 1, 255, 256, Packed::<5>::MAX] {
            assert_eq!(Packed::<5>::new(value).get(), value);
        }
        assert_eq!(Packed::<5>::MAX, Timestamp::MAX.as_ms());
    }

    #[test]
    fn a_life_ends_exactly_at_its_end() {
        let record = record();
        assert!(!record.is_dead(at(106)) && record.is_dead(at(107)));
    }

    #[test]
    fn a_moved_life_keeps_its_entry_and_its_creation() {
        let mut record = record();
        assert!(record.move_life(at(150)));
        assert_eq!((record.life_entry(), record.life_ends()), (at(107), at(150)));
        assert_eq!(record.created_at(), at(7));
        record.arm_life(at(150));
        assert_eq!((record.life_entry(), record.life_ends()), (at(150), at(150)));
    }

    #[test]
    fn a_life_that_moves_too_far_changes_nothing() {
        let mut record = record();
        assert!(record.move_life(at(107 + Packed::<4>::MAX)));
        assert!(!record.move_life(at(108 + Packed::<4>::MAX)));
        assert_eq!(record.life_ends(), at(107 + Packed::<4>::MAX));
    }

    #[test]
    fn each_lease_and_each_release_has_its_own_generation() {
        let mut record = record();
        assert_eq!((record.generation(), record.lease()), (0, None));
        record.start_lease(at(20), at(30));
        assert_eq!((record.generation(), record.lease()), (1, Some((at(20), at(30)))));
        record.end_lease();
        assert_eq!((record.generation(), record.lease()), (2, None));
    }
}
