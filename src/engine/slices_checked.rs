//! Slices of an expiry index as the model checker sees them: a map behind a lock. That slices come
//! and go as one is taken for granted of the real one: `crossbeam-skiplist` is not under test here.

use std::collections::BTreeMap;
use std::ops::Deref;

use loom::sync::Arc;

use super::expiry::Slice;
use super::sync::Mutex;

pub(super) struct Slices {
    map: Mutex<BTreeMap<u64, Arc<Mutex<Slice>>>>,
}

pub(super) struct SliceRef<'a> {
    slices: &'a Slices,
    number: u64,
    slice: Arc<Mutex<Slice>>,
}

impl Deref for SliceRef<'_> {
    type Target = Mutex<Slice>;

    fn deref(&self) -> &Mutex<Slice> {
        &self.slice
    }
}

impl SliceRef<'_> {
    pub(super) fn remove(&self) {
        let removed = self.slices.map.lock().remove(&self.number);
        assert!(removed.is_some_and(|slice| Arc::ptr_eq(&slice, &self.slice)), "another's slice");
    }
}

impl Slices {
    pub(super) fn new() -> Self {
        Self { map: Mutex::new(BTreeMap::new()) }
    }

    fn found(&self, number: u64, slice: &Arc<Mutex<Slice>>) -> SliceRef<'_> {
        SliceRef { slices: self, number, slice: Arc::clone(slice) }
    }

    pub(super) fn get(&self, number: u64) -> Option<SliceRef<'_>> {
        self.map.lock().get(&number).map(|slice| self.found(number, slice))
    }

    pub(super) fn get_or_insert(&self, number: u64, make: impl FnOnce() -> Slice) -> SliceRef<'_> {
        let mut map = self.map.lock();
        self.found(number, map.entry(number).or_insert_with(|| Arc::new(Mutex::new(make()))))
    }

    pub(super) fn first(&self) -> Option<(u64, SliceRef<'_>)> {
        let map = self.map.lock();
        let (number, slice) = map.first_key_value()?;
        Some((*number, self.found(*number, slice)))
    }
}
