//! The expiry index: "look at this key at that time", ordered by `(deadline, key)`.
//!
//! A busy pool has thousands of deadlines in the same few milliseconds. So the skip list orders
//! slices of time, and each slice is a small ordered set: to arm a key touches memory that was
//! touched just before, and an entry takes a third of the bytes that a node of its own would.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use super::handle::Handle;
use super::slices::{SliceRef, Slices};
use super::sync::AtomicUsize;
use crate::time::Timestamp;

/// How long a slice is, as a power of two of milliseconds: 32 ms. Longer ones take more time to
/// search, shorter ones more memory while deadlines are few.
const SLICE_BITS: u32 = 5;

/// A deadline in milliseconds from the beginning of its slice, and the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    offset_ms: u8,
    key: Handle,
}

/// A slice is emptied only with its removal from the index, and then it stays empty.
pub(super) type Slice = BTreeSet<Entry>;

/// An ordered index of deadlines. Whoever finds an entry asks the record what is due.
pub(super) struct ExpiryIndex {
    slices: Slices,
    len: AtomicUsize,
}

/// Where the last entry was added, for others that are likely to belong near it.
#[derive(Default)]
pub(super) struct Near<'a> {
    slice: Option<(u64, SliceRef<'a>)>,
}

/// The number of the slice of a deadline, and the entry in it.
fn place(at: Timestamp, key: Handle) -> (u64, Entry) {
    let (ms, length_ms) = (at.as_ms(), 1 << SLICE_BITS);
    let offset_ms = u8::try_from(ms % length_ms).expect("a slice is shorter than 256 ms");
    (ms >> SLICE_BITS, Entry { offset_ms, key })
}

impl ExpiryIndex {
    pub(super) fn new() -> Self {
        Self { slices: Slices::new(), len: AtomicUsize::new(0) }
    }

    /// Adds an entry, which is not there. O(log n).
    pub(super) fn arm(&self, at: Timestamp, key: Handle) {
        self.arm_near(at, key, &mut Near::default());
    }

    /// The same, faster if the last one was added to the same slice.
    pub(super) fn arm_near<'a>(&'a self, at: Timestamp, key: Handle, near: &mut Near<'a>) {
        let (number, entry) = place(at, key);
        loop {
            let slice = match near.slice.take() {
                Some((last, slice)) if last == number => slice,
                _ => self.slices.get_or_insert(number, || Slice::from([entry])),
            };
            let mut entries = slice.lock();
            // If it was removed meanwhile, a new one is needed.
            if !entries.is_empty() {
                // A new one has it already.
                entries.insert(entry);
                drop(entries);
                near.slice = Some((number, slice));
                break;
            }
        }
        self.len.fetch_add(1, Relaxed);
    }

    /// Removes an entry, if it is there. O(log n).
    pub(super) fn disarm(&self, at: Timestamp, key: Handle) {
        let (number, entry) = place(at, key);
        let Some(slice) = self.slices.get(number) else { return };
        let mut entries = slice.lock();
        if entries.remove(&entry) {
            self.len.fetch_sub(1, Relaxed);
            if entries.is_empty() {
                // Under its lock: who waits for that finds it gone.
                self.slices.remove(number);
            }
        }
    }

    /// The first entry, if its time has come; it stays until it is disarmed. O(log n).
    pub(super) fn due(&self, now: Timestamp) -> Option<(Timestamp, Handle)> {
        self.first().filter(|(at, _)| *at <= now)
    }

    /// The first entry. O(log n).
    pub(super) fn first(&self) -> Option<(Timestamp, Handle)> {
        loop {
            let (number, slice) = self.slices.first()?;
            // One that is empty was removed meanwhile.
            if let Some(entry) = slice.lock().first() {
                let begin = Timestamp::from_ms(number << SLICE_BITS);
                return Some((begin.plus_ms(entry.offset_ms.into()), entry.key));
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
        let (number, entry) = place(at, key);
        self.slices.get(number).is_some_and(|slice| slice.lock().contains(&entry))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        let number =
            |entry: &Self| u128::from(entry.offset_ms) << 64 | u128::from(entry.key.bits());
        number(self).cmp(&number(other))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::key::KeyId;

    #[test]
    fn entries_come_by_deadline_and_key() {
        let mut rng = SmallRng::seed_from_u64(7);
        let (index, mut model) = (ExpiryIndex::new(), BTreeSet::new());
        let mut near = Near::default();
        for _ in 0..20_000 {
            let key = Handle::split(&KeyId::from_random_bytes([rng.random_range(0..20); 16])).1;
            // Within a slice, in a few, or in many.
            let length_ms = [10, 100, 10_000][rng.random_range(0..3)];
            let at = Timestamp::from_ms(rng.random_range(0..length_ms));
            if model.remove(&(at, key)) {
                index.disarm(at, key);
                index.disarm(at, key);
            } else {
                model.insert((at, key));
                index.arm_near(at, key, &mut near);
            }
            assert_eq!((index.first(), index.len()), (model.first().copied(), model.len()));
            assert_eq!(index.contains(at, key), model.contains(&(at, key)));
        }
        while let Some((at, key)) = index.first() {
            assert_eq!(model.pop_first(), Some((at, key)));
            assert_eq!(index.due(at), Some((at, key)));
            index.disarm(at, key);
        }
        assert!(model.is_empty() && index.slices.first().is_none(), "something is left");
    }

    #[test]
    fn threads_that_meet_in_a_slice_lose_no_entry() {
        let index = ExpiryIndex::new();
        std::thread::scope(|scope| {
            for n in 0..4 {
                let index = &index;
                scope.spawn(move || {
                    let key = Handle::split(&KeyId::from_random_bytes([n; 16])).1;
                    let mut near = Near::default();
                    for round in 0..20_000 {
                        let at = Timestamp::from_ms(round % 3);
                        index.arm_near(at, key, &mut near);
                        assert!(index.contains(at, key));
                        index.disarm(at, key);
                        assert!(!index.contains(at, key));
                    }
                });
            }
        });
        assert_eq!((index.first(), index.len()), (None, 0));
    }
}
