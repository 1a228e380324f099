//! The slices of an expiry index as the model checker sees them: a map behind a lock. That slices
//! come and go as one is taken for granted of the real one: `crossbeam-skiplist` is not under test
//! here.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Deref;

use loom::sync::Arc;

use super::expiry::Slice;
use super::sync::Mutex;

pub(super) struct Slices {
    map: Mutex<BTreeMap<u64, Arc<Mutex<Slice>>>>,
}

pub(super) struct SliceRef<'a>(Arc<Mutex<Slice>>, PhantomData<&'a Slices>);

impl Deref for SliceRef<'_> {
    type Target = Mutex<Slice>;

    fn deref(&self) -> &Mutex<Slice> {
        &self.0
    }
}

impl Slices {
    pub(super) fn new() -> Self {
        Self { map: Mutex::new(BTreeMap::new()) }
    }

    pub(super) fn get(&self, number: u64) -> Option<SliceRef<'_>> {
        let slice = self.map.lock().get(&number).map(Arc::clone);
        slice.map(|slice| SliceRef(slice, PhantomData))
    }

    pub(super) fn get_or_insert(&self, number: u64, make: impl FnOnce() -> Slice) -> SliceRef<'_> {
        let make = || Arc::new(Mutex::new(make()));
        SliceRef(Arc::clone(self.map.lock().entry(number).or_insert_with(make)), PhantomData)
    }

    pub(super) fn first(&self) -> Option<(u64, SliceRef<'_>)> {
        let map = self.map.lock();
        let (number, slice) = map.first_key_value()?;
        Some((*number, SliceRef(Arc::clone(slice), PhantomData)))
    }

    pub(super) fn remove(&self, number: u64) {
        self.map.lock().remove(&number);
    }
}
