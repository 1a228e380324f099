//! Importing keys with values.

use std::collections::HashSet;

use super::one_pool::OnePool;
use super::pools::Room;
use crate::engine::{Creation, NewKey};
use crate::error::Error;
use crate::key::{KeyId, Label};
use crate::store::give_way::give_way;
use crate::store::import::{Imported, OwnKey};
use crate::time::Clock;

/// What a pool does not have yet of an import.
#[derive(Default)]
struct New<'o> {
    values: HashSet<&'o str>,
    /// How many bytes these values have.
    bytes: usize,
    labels: HashSet<&'o Label>,
}

impl<'a, C: Clock> OnePool<'a, C> {
    /// Imports keys in steps. There is room for all of them before the first one is created. It can still fail where a
    /// known key goes meanwhile, and others take its place. Then what was added stays: another import may have been told
    /// of it.
    pub(super) async fn import(&self, own: &[OwnKey]) -> Result<Imported, Error> {
        let (new, mut room) = self.room_for(own).await?;
        self.reserve_own(&mut room, new).await?;
        let life_ends = room.life_ends(self.now());
        let mut imported = Imported { ids: Vec::with_capacity(own.len()), created: 0, life_ends };
        for step in own.chunks(Self::STEP) {
            for key in step {
                // Otherwise a key that had a value before has gone, or all others are known.
                if room.left() == 0
                    && let Err(error) = room.extend(1, self.now())
                {
                    match self.keys().find_value(&key.value, self.now()) {
                        Some(id) => imported.ids.push(id),
                        None => return Err(error),
                    }
                    continue;
                }
                let own = NewKey { value: Some(&key.value), labels: &key.labels };
                imported.ids.push(loop {
                    let id = room.fit(KeyId::random(&mut rand::rng()));
                    match room.create_with(id, self.now(), own) {
                        Ok(Creation::New) => {
                            imported.created += 1;
                            break id;
                        }
                        Ok(Creation::Known(id)) => break id,
                        Ok(Creation::IdTaken) => {}
                        Err(error) => return Err(error),
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
        Ok(imported)
    }

    /// What the pool does not have yet, and room for so many keys. Another import of the same values may be under way: so
    /// it looks again as long as it finds fewer.
    async fn room_for<'o>(&self, own: &'o [OwnKey]) -> Result<(New<'o>, Room<'a>), Error> {
        let mut before = usize::MAX;
        loop {
            let new = self.new_among(own).await;
            match self.reserve_all(new.values.len()).await {
                Ok(room) => return Ok((new, room)),
                Err(Error::Full { .. }) if new.values.len() < before => before = new.values.len(),
                Err(error) => return Err(error),
            }
        }
    }

    /// What the pool does not have yet.
    async fn new_among<'o>(&self, own: &'o [OwnKey]) -> New<'o> {
        let mut new = New::default();
        for step in own.chunks(Self::STEP) {
            let now = self.now();
            for key in step {
                if self.keys().find_value(&key.value, now).is_none()
                    && new.values.insert(key.value.reveal())
                {
                    new.bytes += key.value.reveal().len();
                    new.labels.extend(&key.labels);
                }
            }
            give_way().await;
        }
        new
    }

    /// Reserves room for the values and labels of new keys. Those of dead keys take room until they are removed.
    async fn reserve_own(&self, room: &mut Room<'_>, new: New<'_>) -> Result<(), Error> {
        let labels: Vec<Label> = new.labels.into_iter().cloned().collect();
        loop {
            let Err(error) = room.reserve_own(new.bytes, &labels) else { return Ok(()) };
            if self.keys().expire(self.now(), Self::STEP) == 0 {
                // Another thread may have removed some meanwhile.
                return room.reserve_own(new.bytes, &labels).map_err(|_| error);
            }
            self.serve_waiters();
            give_way().await;
        }
    }
}
