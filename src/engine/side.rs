//! Tables for what only some keys have, which give back the memory of those that have gone.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use super::short_id::ShortId;

/// Something of those keys that have it.
pub(super) type Side<T> = Map<ShortId, T>;

/// A map whose keys are random.
pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<RandomBits>>;

/// Hashes a number that is random already. The keys of a shard agree in some bits, which the multiplication
/// spreads.
#[derive(Default)]
pub(super) struct RandomBits(u64);

impl Hasher for RandomBits {
    fn write(&mut self, _: &[u8]) {
        unreachable!("what is random is hashed as one number");
    }

    fn write_u64(&mut self, bits: u64) {
        // Odd, and close to 2^64 divided by the golden ratio.
        self.0 = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A table with room for no more than this is not shrunk.
const CAPACITY_MIN: usize = 64;

/// Removes an entry, and gives memory back if less than a quarter of the table is used. O(1) amortised.
pub(super) fn remove<K: Eq + Hash, V, S: BuildHasher>(
    map: &mut HashMap<K, V, S>,
    key: &K,
) -> Option<V> {
    let removed = map.remove(key);
    if map.capacity() > CAPACITY_MIN && map.len() < map.capacity() / 4 {
        map.shrink_to(map.len() * 2);
    }
    removed
}
