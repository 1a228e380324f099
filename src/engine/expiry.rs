//! The expiry index: "look at this key at that time", ordered by `(deadline, key)`.
//!
//! A busy pool has thousands of deadlines in the same few milliseconds. So a skip list orders slices
//! of time, and each slice is an ordered set behind a lock: to arm a key touches memory that was
//! touched just before. Among many an entry takes 21 bytes; alone in its slice, some 220.

use std::array;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_utils::CachePadded;

use super::handle::Handle;
use super::slices::{SliceRef, Slices};
use super::sync::{AtomicUsize, unless_checked};
use crate::time::Timestamp;

/// Lists by key, as all that is armed at about the same time meets in one slice of a list.
const STRIPES: usize = unless_checked(4);
/// In how many slices the usual time until a deadline is cut: 2048, or up to twice as many.
const SLICES_BITS: u32 = 11;
/// The shortest slice, as a power of two of milliseconds: 32 ms.
const SLICE_BITS_MIN: u32 = 5;

/// A deadline in milliseconds from the beginning of its slice, and the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    offset_ms: u32,
    key: Handle,
}

/// A slice is emptied only with its removal from the list, and then it stays empty.
pub(super) type Slice = BTreeSet<Due>;

/// An ordered index of deadlines. Whoever finds an entry asks the record what is due.
pub(super) struct ExpiryIndex {
    /// Length of a slice, as a power of two of milliseconds.
    slice_bits: u32,
    stripes: [Slices; STRIPES],
    /// Apart from what is only read.
    len: CachePadded<AtomicUsize>,
}

/// Where entries were added last, for others that are likely to belong near them.
pub(super) struct Near<'a> {
    index: &'a ExpiryIndex,
    last: [Option<(u64, SliceRef<'a>)>; STRIPES],
}

impl ExpiryIndex {
    /// One whose deadlines are mostly up to `span_ms` away.
    pub(super) fn new(span_ms: u64) -> Self {
        let slice_bits = (span_ms >> SLICES_BITS).max(1).ilog2().max(SLICE_BITS_MIN);
        let stripes = array::from_fn(|_| Slices::new());
        Self { slice_bits, stripes, len: CachePadded::new(AtomicUsize::new(0)) }
    }

    /// The number of the slice of a deadline, and the entry in it.
    fn place(&self, at: Timestamp, key: Handle) -> (u64, Due) {
        let (ms, length_ms) = (at.as_ms(), 1_u64 << self.slice_bits);
        let offset_ms = u32::try_from(ms % length_ms).expect("a slice is shorter than 49 days");
        (ms >> self.slice_bits, Due { offset_ms, key })
    }

    fn stripe(&self, key: Handle) -> &Slices {
        &self.stripes[key.stripe(STRIPES)]
    }

    /// To add entries. O(1).
    pub(super) fn near(&self) -> Near<'_> {
        Near { index: self, last: array::from_fn(|_| None) }
    }

    /// Adds an entry, which is not there. O(log n).
    pub(super) fn arm(&self, at: Timestamp, key: Handle) {
        self.near().arm(at, key);
    }

    /// Removes an entry, if it is there. O(log n).
    pub(super) fn disarm(&self, at: Timestamp, key: Handle) {
        let (number, due) = self.place(at, key);
        let Some(slice) = self.stripe(key).get(number) else { return };
        let mut entries = slice.lock();
        if entries.remove(&due) {
            self.len.fetch_sub(1, Relaxed);
            if entries.is_empty() {
                // Under its lock: who waits for that finds it gone.
                slice.remove();
            }
        }
    }

    /// Up to `limit` entries whose time has come, the first ones of a slice; none if there is none.
    /// They stay until they are disarmed. O(log n + k) for k entries.
    pub(super) fn due(&self, now: Timestamp, limit: usize) -> Vec<(Timestamp, Handle)> {
        let mut found = Vec::new();
        for stripe in &self.stripes {
            let left = limit - found.len();
            self.first_of(stripe, |entries| {
                found.extend(entries.take_while(|(at, _)| *at <= now).take(left));
            });
        }
        found
    }

    /// The first entry. O(log n).
    pub(super) fn first(&self) -> Option<(Timestamp, Handle)> {
        let firsts = self
            .stripes
            .iter()
            .filter_map(|stripe| self.first_of(stripe, |entries| entries.next())?);
        firsts.min()
    }

    /// What `look` makes of the entries of the first slice.
    fn first_of<T>(
        &self,
        stripe: &Slices,
        look: impl FnOnce(&mut dyn Iterator<Item = (Timestamp, Handle)>) -> T,
    ) -> Option<T> {
        loop {
            let (number, slice) = stripe.first()?;
            let entries = slice.lock();
            // One that is empty was removed meanwhile.
            if !entries.is_empty() {
                let begin = Timestamp::from_ms(number << self.slice_bits);
                let entry = |due: &Due| (begin.plus_ms(due.offset_ms.into()), due.key);
                return Some(look(&mut entries.iter().map(entry)));
            }
        }
    }

    /// The time of the first entry. O(log n).
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.first().map(|(at, _)| at)
    }

    /// Number of entries. O(1).
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Whether there is such an entry. O(log n).
    pub(super) fn contains(&self, at: Timestamp, key: Handle) -> bool {
        let (number, due) = self.place(at, key);
        self.stripe(key).get(number).is_some_and(|slice| slice.lock().contains(&due))
    }
}

impl Near<'_> {
    /// Adds an entry, which is not there, with little search if the last one went to the same slice.
    /// O(log n).
    pub(super) fn arm(&mut self, at: Timestamp, key: Handle) {
        let (number, due) = self.index.place(at, key);
        let last = &mut self.last[key.stripe(STRIPES)];
        loop {
            let slice = match last.take() {
                Some((near, slice)) if near == number => slice,
                _ => self.index.stripe(key).get_or_insert(number, || Slice::from([due])),
            };
            let mut entries = slice.lock();
            // If it was removed meanwhile, a new one is needed.
            if !entries.is_empty() {
                // One that was just made has it already.
                entries.insert(due);
                drop(entries);
                *last = Some((number, slice));
                break;
            }
        }
        self.index.len.fetch_add(1, Relaxed);
    }
}

/// The order of the fields, but by one comparison of numbers.
impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        let number = |due: &Self| u128::from(due.offset_ms) << 64 | u128::from(due.key.bits());
        number(self).cmp(&number(other))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::key::KeyId;

    fn key(n: u8) -> Handle {
        Handle::split(&KeyId::from_random_bytes([n; 16])).1
    }

    #[test]
    fn entries_come_by_deadline_and_key() {
        let mut rng = SmallRng::seed_from_u64(7);
        let (index, mut model) = (ExpiryIndex::new(60_000), BTreeSet::new());
        let mut near = index.near();
        for _ in 0..20_000 {
            let key = key(rng.random_range(0..20));
            // Within a slice, in a few, in many, or at the end of all time.
            let ends_ms = [10, 100, 10_000, u64::MAX][rng.random_range(0..4)];
            let at = Timestamp::from_ms(ends_ms - rng.random_range(0..ends_ms.min(10_000)));
            if model.remove(&(at, key)) {
                index.disarm(at, key);
                index.disarm(at, key);
            } else {
                model.insert((at, key));
                near.arm(at, key);
            }
            assert_eq!((index.first(), index.len()), (model.first().copied(), model.len()));
            assert_eq!(index.contains(at, key), model.contains(&(at, key)));
        }
        while let Some((at, key)) = index.first() {
            assert_eq!(model.pop_first(), Some((at, key)));
            assert!(index.due(at, 64).contains(&(at, key)) && index.due(at, 64).len() <= 64);
            index.disarm(at, key);
        }
        assert!(model.is_empty(), "something is left");
        assert!(index.stripes.iter().all(|stripe| stripe.first().is_none()), "a slice is left");
        assert_eq!(index.due(Timestamp::MAX, 64), []);
    }

    #[test]
    fn nothing_is_due_before_its_time_and_all_is_at_it() {
        let index = ExpiryIndex::new(60_000);
        (0..100).for_each(|n| index.arm(Timestamp::from_ms(1000 + u64::from(n)), key(n)));
        assert_eq!(index.due(Timestamp::from_ms(999), 64), []);
        assert_eq!(index.due(Timestamp::from_ms(1000), 64), [(Timestamp::from_ms(1000), key(0))]);
        let mut count = 0;
        while let Some((at, key)) = index.due(Timestamp::from_ms(1049), 1).pop() {
            index.disarm(at, key);
            count += 1;
        }
        assert_eq!(
            (count, index.len(), index.next_deadline()),
            (50, 50, Some(Timestamp::from_ms(1050)))
        );
    }

    #[test]
    fn threads_that_meet_in_slices_lose_no_entry() {
        let index = ExpiryIndex::new(60_000);
        index.arm(Timestamp::MAX, key(0));
        std::thread::scope(|scope| {
            for n in 0..8 {
                let index = &index;
                scope.spawn(move || {
                    // Two threads for each stripe.
                    let key = key(n);
                    let mut near = index.near();
                    for round in 0..20_000 {
                        let at = Timestamp::from_ms(round % 7 * 16);
                        near.arm(at, key);
                        assert!(index.contains(at, key));
                        assert!(index.first().is_some_and(|(first, _)| first <= at));
                        index.disarm(at, key);
                        assert!(!index.contains(at, key));
                    }
                });
            }
        });
        assert_eq!((index.first(), index.len()), (Some((Timestamp::MAX, key(0))), 1));
    }
}
