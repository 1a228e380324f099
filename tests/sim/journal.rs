//! A journal that keeps everything, and the pool that is restored from it.

use std::sync::{Arc, Mutex};

use token_orchestrator::engine::{After, Entry, Journal, Pool, Restoring, Settings, Size};
use token_orchestrator::key::KeyId;
use token_orchestrator::time::Timestamp;

use super::same;

/// Clones share what they keep.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<Item>>>);

#[derive(Clone)]
enum Item {
    Entry(Entry),
    Settings(Settings, Timestamp),
}

impl Journal for Recorder {
    fn append(&self, entry: impl FnOnce() -> Entry) {
        self.0.lock().unwrap().push(Item::Entry(entry()));
    }
}

impl Recorder {
    /// Notes a change of the settings, after the pool has made it.
    pub(crate) fn configure(&self, settings: Settings, now: Timestamp) {
        self.0.lock().unwrap().push(Item::Settings(settings, now));
    }

    /// Whether a pool that is restored from the entries is as `pool` is at `now`; also if it reads
    /// the last entries twice, as after a crash between a snapshot and the end of a log.
    pub(crate) fn check(
        &self,
        pool: &Pool<Self>,
        first: Settings,
        size: Size,
        now: Timestamp,
    ) -> Result<(), String> {
        let items = self.0.lock().unwrap().clone();
        let is_settings = |item: &Item| matches!(item, Item::Settings(..));
        let last = items.iter().rposition(is_settings).map_or(0, |last| last + 1);
        for again in [&[][..], &items[last.max(items.len() / 2)..]] {
            let restoring = Restoring::new(Pool::with_journal(first, size, ()));
            let mut unknown: Vec<KeyId> = Vec::new();
            for item in items.iter().chain(again) {
                match item {
                    Item::Settings(settings, at) => restoring.configure(*settings, *at),
                    Item::Entry(entry) if restoring.apply(entry) => {
                        unknown.retain(|id| *id != entry.id || entry.after != After::Gone);
                    }
                    Item::Entry(entry) => unknown.push(entry.id),
                }
            }
            same(&unknown, &Vec::new())?;
            let restored = restoring.finish(now);
            restored.check_invariants();
            compare(pool, &restored, now)?;
        }
        Ok(())
    }
}

fn compare(pool: &Pool<Recorder>, restored: &Pool, now: Timestamp) -> Result<(), String> {
    let (mut ids, mut restored_ids) = (pool.ids(), restored.ids());
    // That a key has died is not noted.
    ids.retain(|id| pool.get(id, now).is_ok());
    ids.sort();
    restored_ids.sort();
    same(&restored_ids, &ids)?;
    for id in &ids {
        same(&restored.get(id, now), &pool.get(id, now))?;
        same(&restored.value_of(id, now), &pool.value_of(id, now))?;
    }
    same(&restored.settings(), &pool.settings())
}
