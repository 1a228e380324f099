//! The time buckets of an expiry index, in a lock-free skip list. Each has a lock of its own.

use std::ops::Deref;

use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::Entry;

use super::bucket::Bucket;
use super::sync::Mutex;

pub(super) struct Buckets {
    map: SkipMap<u64, Mutex<Bucket>>,
}

/// A bucket that was in the list when it was found. It may have been removed since.
pub(super) struct BucketRef<'a>(Entry<'a, u64, Mutex<Bucket>>);

impl Deref for BucketRef<'_> {
    type Target = Mutex<Bucket>;

    fn deref(&self) -> &Mutex<Bucket> {
        self.0.value()
    }
}

impl BucketRef<'_> {
    /// Removes the bucket from the list. O(log b) for b buckets.
    pub(super) fn remove(&self) {
        self.0.remove();
    }
}

impl Buckets {
    pub(super) fn new() -> Self {
        Self { map: SkipMap::new() }
    }

    /// The bucket with this number. O(log b).
    pub(super) fn get(&self, number: u64) -> Option<BucketRef<'_>> {
        self.map.get(&number).map(BucketRef)
    }

    /// The bucket with this number. If there is none, `make` makes it. O(log b).
    pub(super) fn get_or_insert(
        &self,
        number: u64,
        make: impl FnOnce() -> Bucket,
    ) -> BucketRef<'_> {
        BucketRef(self.map.get_or_insert_with(number, || Mutex::new(make())))
    }

    /// The first bucket, and its number. O(1) amortised.
    pub(super) fn first(&self) -> Option<(u64, BucketRef<'_>)> {
        self.map.front().map(|entry| (*entry.key(), BucketRef(entry)))
    }
}
