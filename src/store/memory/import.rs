//! Importing keys with values, all or none of them.

use std::collections::HashSet;

use super::one_pool::OnePool;
use crate::engine::{Creation, NewKey};
use crate::error::Error;
use crate::key::{Fence, KeyId};
use crate::store::give_way::give_way;
use crate::store::import::{Imported, OwnKey};
use crate::time::Clock;

impl<C: Clock> OnePool<'_, C> {
    /// Imports keys in steps.
    pub(super) async fn import(&self, own: &[OwnKey]) -> Result<Imported, Error> {
        let mut room = self.reserve_all(self.count_new(own).await).await?;
        let life_ends = room.life_ends(self.now());
        let mut imported = Imported { ids: Vec::with_capacity(own.len()), created: 0, life_ends };
        let mut new = Vec::new();
        for step in own.chunks(Self::STEP) {
            for key in step {
                if room.left() == 0 {
                    // A key that had a value before has gone, or all others are known.
                    room = match self.keys().reserve(1, self.now()) {
                        Ok(room) => room,
                        Err(error) => match self.keys().find_value(&key.value, self.now()) {
                            Some(id) => {
                                imported.ids.push(id);
                                continue;
                            }
                            None => return Err(self.undo(&new, error)),
                        },
                    };
                }
                let own = NewKey { value: Some(&key.value), labels: &key.labels };
                imported.ids.push(loop {
                    let id = room.fit(KeyId::random(&mut rand::rng()));
                    match room.create_with(id, self.now(), own) {
                        Ok(Creation::New) => {
                            new.push(id);
                            break id;
                        }
                        Ok(Creation::Known(id)) => break id,
                        Ok(Creation::IdTaken) => {}
                        Err(error) => return Err(self.undo(&new, error)),
                    }
                });
            }
            if let Some(end) = room.life_ends(self.now()).unless_never() {
                self.note_deadline(end);
            }
            self.serve_waiters();
            give_way().await;
            if self.pool.is_deleted() {
                // With all of these keys.
                return Err(Error::NoSuchPool);
            }
        }
        imported.created = new.len();
        Ok(imported)
    }

    /// How many different values there are that the pool does not have.
    async fn count_new(&self, own: &[OwnKey]) -> usize {
        let mut new = HashSet::new();
        for step in own.chunks(Self::STEP) {
            let now = self.now();
            let is_new = |key: &&OwnKey| self.keys().find_value(&key.value, now).is_none();
            new.extend(step.iter().filter(is_new).map(|key| key.value.reveal()));
            give_way().await;
        }
        new.len()
    }

    /// Deletes the keys that were created before an error, but for those that clients have leased meanwhile.
    fn undo(&self, new: &[KeyId], error: Error) -> Error {
        for id in new {
            // At its first generation it was never leased.
            let _ = self.keys().delete(id, self.now(), Fence::One(0));
        }
        error
    }
}
