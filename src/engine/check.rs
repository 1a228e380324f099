//! A check of the pool's invariants, for tests.

use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;

use super::free::Hint;
use super::journal::Journal;
use super::pool::Pool;
use super::short_id::ShortId;
use super::stats::Totals;
use crate::key::KeyId;

impl<J: Journal> Pool<J> {
    /// Checks everything that must hold while no operation runs. O(n log n).
    pub(crate) fn check_invariants(&self) {
        let mut hints: HashMap<ShortId, Vec<Hint>> = HashMap::new();
        for hint in self.free.all_checked() {
            hints.entry(hint.key).or_default().push(hint);
        }
        let (mut free, mut leased, mut cooling) = (0, 0, 0);
        let (mut life_entries, mut block_entries) = (0, 0);
        let mut keys_with_own = Vec::new();
        self.records.for_each(|key, record| {
            if record.has_own() {
                keys_with_own.push(key);
            }
            let life_entry = record.life_entry();
            let is_endless = record.life_ends().is_never();
            assert_eq!(
                life_entry.is_never(),
                is_endless,
                "{key:?}: an entry of a life without end"
            );
            if !is_endless {
                life_entries += 1;
                assert!(self.lives.contains(life_entry, key), "{key:?}: no entry of life");
            }
            assert!(life_entry <= record.life_ends(), "{key:?}: dies after its end");
            if let Some(at) = record.block_entry() {
                block_entries += 1;
                assert!(self.blocks.contains(at, key), "{key:?}: no entry of block");
            }
            let live_hint = Hint::new(key, record.generation());
            let live_hints =
                hints.get(&key).into_iter().flatten().filter(|hint| **hint == live_hint);
            let live_hints = live_hints.count();
            if let Some((_, until)) = record.block() {
                *if record.is_leased() { &mut leased } else { &mut cooling } += 1;
                assert!(record.block_entry().is_some_and(|at| at <= until), "{key:?}: ends late");
                assert_eq!(live_hints, 0, "{key:?}: blocked, but offered");
            } else {
                assert!(!record.is_leased(), "{key:?}: free at the generation of a lease");
                free += 1;
                assert_eq!(live_hints, 1, "{key:?}: free, but not offered exactly once");
            }
        });
        let keys = self.records.len();
        let stats = self.stats();
        assert_eq!(self.keys.load(SeqCst), keys, "keys are counted wrongly");
        assert_eq!(self.lives.len(), life_entries, "entries of lives without a key");
        assert_eq!(self.blocks.len(), block_entries, "entries of blocks without a key");
        let counted = (stats.free, stats.leased, stats.cooling);
        assert_eq!(counted, (free, leased, cooling), "free, leased, cooling: counted wrongly");
        let Totals { created, expired, deleted, .. } = stats.totals;
        assert_eq!(created, expired + deleted + stats.keys, "created, but neither alive nor dead");
        let hints = hints.values().map(Vec::len).sum::<usize>() as u64;
        assert_eq!(stats.free + self.index_sizes().stale_hints, hints, "hints are counted wrongly");
        self.free.check_stale_bound();
        self.check_own(&keys_with_own);
    }

    /// The ids of all keys, in no order. O(n).
    pub(crate) fn ids(&self) -> Vec<KeyId> {
        let mut ids = Vec::new();
        self.records.for_each(|key, record| ids.push(key.join(record.id())));
        ids
    }
}
