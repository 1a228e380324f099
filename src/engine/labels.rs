//! The labels of a pool's keys. Each label has free vectors of its own, beside the pool's.
//!
//! A free key has a live hint in the pool's vectors, and in those of each of its labels. So the draw among the
//! keys with a label is as fast as any, and as even. A lease by one of the hints makes the others stale.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use siphasher::sip::SipHasher13;

use super::free_halves::FreeHalves;
use super::halves::Size;
use super::side::remove;
use super::sync::{AtomicU64, Mutex};
use crate::error::Error;
use crate::key::Label;

/// How many free vectors a label has: few, as there may be many labels.
const SHARDS: usize = 2;

/// A label, and the hints at free keys that have it.
pub(super) struct Labeled {
    pub(super) label: Label,
    /// No other label that the pool has had, has this number.
    number: u64,
    pub(super) free: FreeHalves,
}

/// The labels of one key.
pub(super) type LabelsOfKey = Box<[Arc<Labeled>]>;

/// The free vectors that a hint is drawn from.
#[derive(Clone, Copy)]
pub(super) enum Vectors<'a> {
    /// Those of the pool.
    Pool,
    /// Those of a label.
    Label(&'a Labeled),
}

/// The labels that keys of the pool have.
pub(super) struct Labels {
    max: usize,
    /// How many keys with a label were ever made free.
    offers: AtomicU64,
    table: Mutex<Table>,
}

struct Table {
    /// How many labels there ever were.
    count: u64,
    labels: HashMap<Label, Counted, Secret>,
}

struct Counted {
    /// How many keys have the label. Without any, the label is removed.
    keys: usize,
    labeled: Arc<Labeled>,
}

/// Hashes names that clients choose, by a keyed hash.
#[derive(Clone)]
pub(super) struct Secret(SipHasher13);

impl Secret {
    pub(super) fn new(secret: [u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(&secret))
    }
}

impl BuildHasher for Secret {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        self.0
    }
}

/// What was pushed into the free vectors of a label: see [`super::Pool::pushes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushes {
    number: u64,
    count: u64,
}

impl Labels {
    /// Room for `max` different labels.
    pub(super) fn new(max: usize, secret: [u8; 16]) -> Self {
        let labels = HashMap::with_hasher(Secret::new(secret));
        Self { max, offers: AtomicU64::new(0), table: Mutex::new(Table { count: 0, labels }) }
    }

    /// Notes that a key with labels is free, after its hints were pushed. O(1).
    pub(super) fn note_offer(&self) {
        self.offers.fetch_add(1, SeqCst);
    }

    /// How often that was noted. O(1).
    pub(super) fn offers(&self) -> u64 {
        self.offers.load(SeqCst)
    }

    /// The label, if a key has it. O(1).
    pub(super) fn get(&self, label: &Label) -> Option<Arc<Labeled>> {
        self.table.lock().labels.get(label).map(|counted| Arc::clone(&counted.labeled))
    }

    /// Counts a new key with these labels, of which none comes twice afterwards. [`Labels::forget`] takes that
    /// back. O(l²) for l labels.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyLabels`]
    pub(super) fn count(&self, labels: &[Label]) -> Result<LabelsOfKey, Error> {
        self.count_up_to(self.max, labels)
    }

    /// As [`Labels::count`], but for a restored key: there may be any number of labels.
    pub(super) fn count_restored(&self, labels: &[Label]) -> LabelsOfKey {
        self.count_up_to(usize::MAX, labels).unwrap_or_default()
    }

    fn count_up_to(&self, max: usize, labels: &[Label]) -> Result<LabelsOfKey, Error> {
        if labels.is_empty() {
            return Ok(LabelsOfKey::default());
        }
        let mut different: Vec<&Label> = Vec::with_capacity(labels.len());
        for label in labels {
            if !different.contains(&label) {
                different.push(label);
            }
        }
        let Table { count, labels } = &mut *self.table.lock();
        let new = different.iter().filter(|label| !labels.contains_key(label)).count();
        if new > max.saturating_sub(labels.len()) && new > 0 {
            return Err(Error::TooManyLabels);
        }
        let counted = different.into_iter().map(|label| {
            let counted = labels.entry(label.clone()).or_insert_with(|| {
                *count += 1;
                let (label, free) = (label.clone(), FreeHalves::new(Size::Fixed(SHARDS)));
                Counted { keys: 0, labeled: Arc::new(Labeled { label, number: *count, free }) }
            });
            counted.keys += 1;
            Arc::clone(&counted.labeled)
        });
        Ok(counted.collect())
    }

    /// Counts one key less with these labels. Its guard may be held. A label that no key has is dropped, with its
    /// vectors. O(l) for l labels.
    pub(super) fn forget(&self, of_key: &[Arc<Labeled>]) {
        if of_key.is_empty() {
            return;
        }
        let mut table = self.table.lock();
        for labeled in of_key {
            let counted = table.labels.get_mut(&labeled.label).expect("a key has it");
            counted.keys -= 1;
            if counted.keys == 0 {
                remove(&mut table.labels, &labeled.label);
            }
        }
    }

    /// What was pushed into the vectors of a label. O(1).
    pub(super) fn pushes(&self, label: &Label) -> Pushes {
        let of =
            |labeled: Arc<Labeled>| Pushes { number: labeled.number, count: labeled.free.pushes() };
        self.get(label).map(of).unwrap_or_default()
    }
}

/// For [`super::check`].
#[cfg(test)]
impl Labels {
    /// All labels, each with the number of its keys.
    pub(super) fn all(&self) -> Vec<(usize, Arc<Labeled>)> {
        let table = self.table.lock();
        table.labels.values().map(|counted| (counted.keys, Arc::clone(&counted.labeled))).collect()
    }
}
