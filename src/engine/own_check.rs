//! A check of what keys have of their own, for tests: see `check.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use super::free::Hint;
use super::journal::Journal;
use super::pool::Pool;
use super::record::Part;
use super::short_id::ShortId;
use crate::key::{Fence, KeyId, Label, Value};
use crate::time::Timestamp;

impl<J: Journal> Pool<J> {
    /// Checks the tables of what keys have of their own, and the indexes of that. `keys` are those that have
    /// something. O(n log n).
    pub(super) fn check_own(&self, keys: &[ShortId]) {
        let (mut values, mut bytes, mut labeled_keys, mut holds) = (0, 0, 0, 0);
        // The labels of keys, with how many keys have each, and how many of those are free.
        let mut labels: HashMap<Label, (usize, u64)> = HashMap::new();
        let all_labels: HashMap<_, _> = self
            .labels
            .all()
            .into_iter()
            .map(|(keys, of)| (of.label.clone(), (keys, of)))
            .collect();
        let mut hints: HashMap<(Label, ShortId), Vec<Hint>> = HashMap::new();
        for (label, (_, labeled)) in &all_labels {
            for hint in labeled.free.all_checked() {
                hints.entry((label.clone(), hint.key)).or_default().push(hint);
            }
        }
        for key in keys {
            let looked = self.records.with(*key, Timestamp::default(), |guarded| {
                if guarded.has(Part::Value) {
                    let value = guarded.value().expect("a value, as its flag says");
                    values += 1;
                    bytes += value.reveal().len();
                    let found = self.values.find(self.values.digest(&value));
                    assert_eq!(found, Some(*key), "{key:?}: another key has its value");
                }
                labeled_keys += usize::from(guarded.has(Part::Labels));
                if guarded.has(Part::Holder) {
                    holds += 1;
                    assert!(guarded.holder().is_some(), "{key:?}: no holder, against its flag");
                    assert!(guarded.is_leased(), "{key:?}: it has a holder, and no lease");
                }
                let live_hint = guarded.hint(*key);
                guarded.each_label(|labeled| {
                    let (_, known) = &all_labels[&labeled.label];
                    assert!(Arc::ptr_eq(labeled, known), "{key:?}: a label that is gone");
                    let (keys, free) = labels.entry(labeled.label.clone()).or_default();
                    *keys += 1;
                    *free += u64::from(live_hint.is_some());
                    let hints = hints.get(&(labeled.label.clone(), *key));
                    let is_live = |hint: &&Hint| Hint::new(*key, guarded.generation()) == **hint;
                    let live = hints.into_iter().flatten().filter(is_live).count();
                    assert_eq!(live, usize::from(live_hint.is_some()), "{key:?}: hints by label");
                });
            });
            looked.expect("no operation runs");
        }
        assert_eq!(self.values.len(), (values, bytes), "values without a key");
        assert_eq!(all_labels.len(), labels.len(), "labels without a key");
        for (label, (keys, labeled)) in &all_labels {
            let (counted, free) = labels[label];
            assert_eq!(*keys, counted, "{label}: keys are counted wrongly");
            let hints = free + labeled.free.stale();
            assert_eq!(hints, labeled.free.len(), "{label}: hints are counted wrongly");
            labeled.free.check_stale_bound();
        }
        let mut kept = (0, 0, 0);
        self.records.each_shard(|shard| {
            let Some(own) = &*shard.own() else { return };
            assert!(!own.is_empty(), "empty tables are kept");
            kept.0 += own.values.len();
            kept.1 += own.labels.len();
            kept.2 += own.holds.len();
            assert_eq!(own.by_holder.len(), own.holds.len(), "holders are found twice or not");
        });
        assert_eq!(kept, (values, labeled_keys, holds), "something without a flag");
    }

    /// The value of a key. O(1).
    pub(crate) fn value_of(&self, id: &KeyId, now: Timestamp) -> Option<Value> {
        self.with(id, now, Fence::Any, |guarded| Ok(guarded.value())).ok().flatten()
    }
}
