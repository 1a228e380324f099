//! The keys that all clients know of.

use std::collections::HashMap;

use rand::{Rng, RngExt};
use uuid::Uuid;

/// A set of keys from which a random one is drawn in O(1).
#[derive(Default)]
pub(super) struct KnownKeys {
    keys: Vec<Uuid>,
    places: HashMap<Uuid, usize>,
}

impl KnownKeys {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn add(&mut self, key: Uuid) {
        let place = self.keys.len();
        if *self.places.entry(key).or_insert(place) == place {
            self.keys.push(key);
        }
    }

    pub(super) fn remove(&mut self, key: Uuid) {
        if let Some(place) = self.places.remove(&key) {
            self.keys.swap_remove(place);
            if let Some(moved) = self.keys.get(place) {
                self.places.insert(*moved, place);
            }
        }
    }

    pub(super) fn random(&self, rng: &mut impl Rng) -> Option<Uuid> {
        match self.keys.len() {
            0 => None,
            keys => Some(self.keys[rng.random_range(0..keys)]),
        }
    }
}
