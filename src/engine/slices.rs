//! Slices of an expiry index, in a lock-free skip list; each has a lock of its own.

use std::ops::Deref;

use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::Entry;

use super::expiry::Slice;
use super::sync::Mutex;

pub(super) struct Slices {
    map: SkipMap<u64, Mutex<Slice>>,
}

/// A slice that was found, and may have been removed since.
pub(super) struct SliceRef<'a>(Entry<'a, u64, Mutex<Slice>>);

impl Deref for SliceRef<'_> {
    type Target = Mutex<Slice>;

    fn deref(&self) -> &Mutex<Slice> {
        self.0.value()
    }
}

impl SliceRef<'_> {
    /// Removes it from the list. O(log s) for s slices.
    pub(super) fn remove(&self) {
        self.0.remove();
    }
}

impl Slices {
    pub(super) fn new() -> Self {
        Self { map: SkipMap::new() }
    }

    /// O(log s).
    pub(super) fn get(&self, number: u64) -> Option<SliceRef<'_>> {
        self.map.get(&number).map(SliceRef)
    }

    /// The slice of that number, which `make` makes if there is none. O(log s).
    pub(super) fn get_or_insert(&self, number: u64, make: impl FnOnce() -> Slice) -> SliceRef<'_> {
        SliceRef(self.map.get_or_insert_with(number, || Mutex::new(make())))
    }

    /// The first slice, and its number. O(1) amortised.
    pub(super) fn first(&self) -> Option<(u64, SliceRef<'_>)> {
        self.map.front().map(|entry| (*entry.key(), SliceRef(entry)))
    }
}
