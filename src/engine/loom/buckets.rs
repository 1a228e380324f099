//! The time buckets for the model checker: a map behind a lock. It assumes that the real list adds and
//! removes buckets atomically: `crossbeam-skiplist` is not under test.

use std::collections::BTreeMap;
use std::ops::Deref;

use ::loom::sync::Arc;

use super::bucket::Bucket;
use super::sync::Mutex;

pub(in crate::engine) struct Buckets {
    map: Mutex<BTreeMap<u64, Arc<Mutex<Bucket>>>>,
}

pub(in crate::engine) struct BucketRef<'a> {
    buckets: &'a Buckets,
    number: u64,
    bucket: Arc<Mutex<Bucket>>,
}

impl Deref for BucketRef<'_> {
    type Target = Mutex<Bucket>;

    fn deref(&self) -> &Mutex<Bucket> {
        &self.bucket
    }
}

impl BucketRef<'_> {
    pub(in crate::engine) fn remove(&self) {
        let removed = self.buckets.map.lock().remove(&self.number);
        assert!(
            removed.is_some_and(|bucket| Arc::ptr_eq(&bucket, &self.bucket)),
            "another's bucket"
        );
    }
}

impl Buckets {
    pub(in crate::engine) fn new() -> Self {
        Self { map: Mutex::new(BTreeMap::new()) }
    }

    fn found(&self, number: u64, bucket: &Arc<Mutex<Bucket>>) -> BucketRef<'_> {
        BucketRef { buckets: self, number, bucket: Arc::clone(bucket) }
    }

    pub(in crate::engine) fn get(&self, number: u64) -> Option<BucketRef<'_>> {
        self.map.lock().get(&number).map(|bucket| self.found(number, bucket))
    }

    pub(in crate::engine) fn get_or_insert(
        &self,
        number: u64,
        make: impl FnOnce() -> Bucket,
    ) -> BucketRef<'_> {
        let mut map = self.map.lock();
        self.found(number, map.entry(number).or_insert_with(|| Arc::new(Mutex::new(make()))))
    }

    pub(in crate::engine) fn first(&self) -> Option<(u64, BucketRef<'_>)> {
        let map = self.map.lock();
        let (number, bucket) = map.first_key_value()?;
        Some((*number, self.found(*number, bucket)))
    }
}
