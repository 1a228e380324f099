//! A journal that keeps everything, and the pool that is restored from it.

use std::sync::{Arc, Mutex};

use token_orchestrator::engine::{Entry, Journal, Pool, Restoring, Size};
use token_orchestrator::time::Timestamp;

use super::same;

/// Clones share their entries.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<Entry>>>);

impl Journal for Recorder {
    fn append(&self, entry: impl FnOnce() -> Entry) {
        self.0.lock().unwrap().push(entry());
    }
}

impl Recorder {
    /// Whether a pool that is restored from the entries is as `pool` is at `now`; also if it reads
    /// the last half of them twice, as after a crash between a snapshot and the end of a log.
    pub(crate) fn check(
        &self,
        pool: &Pool<Self>,
        size: Size,
        now: Timestamp,
    ) -> Result<(), String> {
        let entries = self.0.lock().unwrap().clone();
        for again in [&[][..], &entries[entries.len() / 2..]] {
            let restoring = Restoring::new(Pool::with_journal(pool.settings(), size, ()));
            entries.iter().chain(again).for_each(|entry| restoring.apply(entry));
            let restored = restoring.finish();
            restored.check_invariants();
            compare(pool, &restored, now)?;
        }
        Ok(())
    }
}

fn compare(pool: &Pool<Recorder>, restored: &Pool, now: Timestamp) -> Result<(), String> {
    let (mut ids, mut restored_ids) = (pool.ids(), restored.ids());
    ids.sort();
    restored_ids.sort();
    same(&restored_ids, &ids)?;
    for id in &ids {
        same(&restored.get(id, now), &pool.get(id, now))?;
        same(&restored.value_of(id, now), &pool.value_of(id, now))?;
    }
    // A lease that was over when its key was last noted is restored as over, and counts as such.
    same(&restored.stats().keys, &pool.stats().keys)
}
