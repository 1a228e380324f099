//! Short ids, by which a pool names its keys, with their shards and hashes.

use std::hash::{BuildHasher, Hash, Hasher};

use crate::key::KeyId;

/// The second half of a key's id, by which the pool finds it. The record keeps the other half.
///
/// The free vectors and the indexes name each key up to three times, so half an id saves 25 bytes a key. It
/// has 62 random bits. A key whose short id is taken is not created: see [`super::Reservation::create`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShortId([u8; 8]);

impl ShortId {
    /// The bit that says in which half of its pool the key is: the last of those that pick the shard, which then
    /// depends on it as little as can be.
    const LARGE: u64 = 1 << (Sharding::BUCKET_BITS + Sharding::TAG_BITS);

    /// The half of `id` that the record keeps, and the short id. O(1).
    pub(super) fn split(id: &KeyId) -> ([u8; 8], Self) {
        let [kept, short_id] = [0, 8].map(|at| std::array::from_fn(|i| id.as_bytes()[at + i]));
        (kept, Self(short_id))
    }

    /// The key's stripe among `stripes`, a power of two up to 256. O(1).
    pub(super) fn stripe(self, stripes: usize) -> usize {
        usize::from(self.0[7]) & (stripes - 1)
    }

    /// Whether a pool that has a small and a large half has the key in the large one. O(1).
    pub(super) fn is_large(self) -> bool {
        self.bits() & Self::LARGE != 0
    }

    /// The id that differs from `id` in no more than what [`ShortId::is_large`] says. O(1).
    pub(super) fn id_in_half(id: &KeyId, is_large: bool) -> KeyId {
        let (kept, short_id) = Self::split(id);
        let bits = short_id.bits() & !Self::LARGE | if is_large { Self::LARGE } else { 0 };
        Self(bits.to_be_bytes()).join(kept)
    }

    /// The short id as a number, which has the same order. O(1).
    pub(super) fn bits(self) -> u64 {
        u64::from_be_bytes(self.0)
    }

    /// The place of the key in a walk over all keys: see [`super::place`]. O(1).
    pub(super) fn place(self) -> u64 {
        self.bits().reverse_bits()
    }

    /// The id, from its two halves. O(1).
    pub(super) fn join(self, kept: [u8; 8]) -> KeyId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&kept);
        id[8..].copy_from_slice(&self.0);
        KeyId::from_bytes(id)
    }
}

impl Hash for ShortId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.bits());
    }
}

/// Hashes short ids by taking their bits: they are random already, and only the server makes them.
///
/// The shards are of unequal size on purpose: the largest gets twice the keys of the smallest, and the others
/// lie evenly between, on a logarithmic scale. A hash table doubles when it is full. Equal shards would all
/// double at nearly the same number of keys: a long stall, and half-empty tables at half of all pool sizes.
/// Graded shards double one after the other, so their tables together grow evenly with the pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sharding {
    /// Binary logarithm of the number of shards.
    bits: u32,
}

impl Sharding {
    /// `hashbrown` takes the top 7 bits of a hash as a tag, and `DashMap` the shard from the bits below.
    pub(super) const TAG_BITS: u32 = 7;
    /// The lowest bits pick the bucket in a shard's table, as those of the hash do: a walk relies on it.
    const BUCKET_BITS: u32 = 31;
    /// These bits pick the shard. Together with the two above they are the 62 random bits.
    const SHARD_BITS: u32 = 24;

    /// The most shards: a walk over them takes some 50 µs.
    const SHARDS_MAX: usize = 4096;

    /// # Panics
    ///
    /// Unless `shards` is a power of two from 2 to 4096.
    pub(super) fn new(shards: usize) -> Self {
        assert!(
            shards.is_power_of_two() && (2..=Self::SHARDS_MAX).contains(&shards),
            "{shards} shards: not a power of two from 2 to 4096"
        );
        Self { bits: shards.trailing_zeros() }
    }

    pub(super) fn count(self) -> usize {
        1 << self.bits
    }

    /// The shard of a key: the same one that `DashMap` takes from the hash. O(1).
    pub(super) fn shard_of(self, short_id: ShortId) -> usize {
        let shard = self.hash_one(short_id) << Self::TAG_BITS >> (64 - self.bits);
        usize::try_from(shard).expect("at most 4096 shards")
    }

    fn hash(self, short_id: u64) -> u64 {
        let bits = |from: u32, count: u32| short_id >> from & ((1 << count) - 1);
        let tag = bits(Self::BUCKET_BITS, Self::TAG_BITS);
        let shard = self.grade(bits(Self::BUCKET_BITS + Self::TAG_BITS, Self::SHARD_BITS));
        tag << (64 - Self::TAG_BITS)
            | shard << (64 - Self::TAG_BITS - self.bits)
            | bits(0, Self::BUCKET_BITS)
    }

    /// Maps random bits to a shard: `x (4 - x) / 3`, with x in [0, 1), is close to
    /// `log2(1 + x)`, and its slope falls from 4/3 to 2/3: the last shard gets twice as much as
    /// the first.
    fn grade(self, x: u64) -> u64 {
        (x * ((4 << Self::SHARD_BITS) - x) / 3) >> (2 * Self::SHARD_BITS - self.bits)
    }
}

impl BuildHasher for Sharding {
    type Hasher = ShortIdHasher;

    fn build_hasher(&self) -> ShortIdHasher {
        ShortIdHasher { sharding: *self, hash: 0 }
    }
}

/// See [`Sharding`].
pub(super) struct ShortIdHasher {
    sharding: Sharding,
    hash: u64,
}

impl Hasher for ShortIdHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a short id is hashed as one number");
    }

    fn write_u64(&mut self, short_id: u64) {
        self.hash = self.sharding.hash(short_id);
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_split_and_joined() {
        let id = KeyId::random(&mut rand::rng());
        let (kept, short_id) = ShortId::split(&id);
        assert_eq!(short_id.join(kept), id);
    }

    #[test]
    fn an_id_says_in_which_half_its_key_is() {
        for _ in 0..100 {
            let id = KeyId::random(&mut rand::rng());
            let [small, large] = [false, true].map(|is_large| ShortId::id_in_half(&id, is_large));
            assert!(small != large && [small, large].contains(&id));
            assert!(!ShortId::split(&small).1.is_large() && ShortId::split(&large).1.is_large());
            let is_version_4 = |id: &KeyId| KeyId::from_random_bytes(*id.as_bytes()) == *id;
            assert!(is_version_4(&small) && is_version_4(&large));
        }
    }

    #[test]
    fn shards_are_graded_from_one_to_two() {
        let sharding = Sharding::new(64);
        let mut keys = [0_u32; 64];
        for random in (0..1 << 24).step_by(16) {
            keys[usize::try_from(sharding.grade(random)).unwrap()] += 1;
        }
        assert!(keys.windows(2).all(|pair| pair[0] <= pair[1] + 1), "{keys:?}");
        let ratio = f64::from(keys[63]) / f64::from(keys[0]);
        assert!((1.95..2.05).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_hash_agrees_with_the_map_about_the_shard() {
        let sharding = Sharding::new(1024);
        let map = dashmap::DashMap::with_hasher_and_shard_amount(sharding, 1024);
        for _ in 0..1000 {
            let (_, short_id) = ShortId::split(&KeyId::random(&mut rand::rng()));
            map.insert(short_id, ());
            let hash = u64::try_from(map.hash_usize(&short_id)).unwrap();
            assert_eq!(sharding.shard_of(short_id) as u64, hash << 7 >> 54);
        }
    }

    #[test]
    #[should_panic(expected = "100 shards")]
    fn a_number_that_is_no_power_of_two_is_refused() {
        Sharding::new(100);
    }
}
