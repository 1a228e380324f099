//! The invariants, for tests.

use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;

use super::free::Hint;
use super::{Handle, Pool, Totals};
use crate::key::KeyId;

impl Pool {
    /// Checks everything that must hold while no operation runs. O(n log n); for tests.
    ///
    /// # Panics
    ///
    /// If anything is amiss, saying what and for which key.
    pub fn check_invariants(&self) {
        let mut hints: HashMap<Handle, Vec<Hint>> = HashMap::new();
        for hint in self.free.all_checked() {
            hints.entry(hint.key).or_default().push(hint);
        }
        let (mut free, mut leased, mut cooling, mut hold_entries) = (0, 0, 0, 0);
        self.records.for_each(|key, record| {
            assert!(self.lives.contains(record.life_entry(), key), "{key:?}: no entry of life");
            assert!(record.life_entry() <= record.life_ends(), "{key:?}: dies after its end");
            if let Some(at) = record.hold_entry() {
                hold_entries += 1;
                assert!(self.holds.contains(at, key), "{key:?}: no entry of hold");
            }
            let live_hint = Hint::new(key, record.generation());
            let live_hints =
                hints.get(&key).into_iter().flatten().filter(|hint| **hint == live_hint);
            let live_hints = live_hints.count();
            if let Some((_, until)) = record.hold() {
                *if record.is_leased() { &mut leased } else { &mut cooling } += 1;
                assert!(record.hold_entry().is_some_and(|at| at <= until), "{key:?}: ends late");
                assert_eq!(live_hints, 0, "{key:?}: held, but on offer");
            } else {
                assert!(!record.is_leased(), "{key:?}: free at the generation of a lease");
                free += 1;
                assert_eq!(live_hints, 1, "{key:?}: free, but not on offer exactly once");
            }
        });
        let keys = self.records.len();
        let stats = self.stats();
        assert_eq!(self.keys.load(SeqCst), keys, "keys are counted wrongly");
        assert!(keys <= self.keys_max, "more keys than allowed");
        assert_eq!(self.lives.len(), keys, "not one entry of life for each key");
        assert_eq!(self.holds.len(), hold_entries, "entries of holds without a key");
        let counted = (stats.free, stats.leased, stats.cooling);
        assert_eq!(counted, (free, leased, cooling), "free, leased, cooling: counted wrongly");
        let Totals { created, expired, deleted, .. } = stats.totals;
        assert_eq!(created, expired + deleted + stats.keys, "created, but neither alive nor dead");
        let hints = hints.values().map(Vec::len).sum::<usize>() as u64;
        assert_eq!(stats.free + stats.stale_hints, hints, "hints are counted wrongly");
        self.free.check_stale_bound();
    }

    /// The ids of all keys, in no order; for tests. O(n).
    #[must_use]
    pub fn ids(&self) -> Vec<KeyId> {
        let mut ids = Vec::new();
        self.records.for_each(|key, record| ids.push(key.join(record.id())));
        ids
    }
}
