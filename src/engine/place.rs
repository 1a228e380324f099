//! Places: the order in which a walk over all keys takes the keys of a shard.
//!
//! A hash table has 2^b buckets, and the lowest b bits of a key's hash say which one it belongs to. When a table
//! doubles, each bucket splits in two; when it shrinks, two become one. The *place* of a key is its short id
//! with reversed bits. So it never changes, each bucket is a range of places, however large the table is, and
//! what comes before a place has been seen, whatever becomes of the table.

use super::fail_point::FailPoint;

/// The number of the bucket of a place in a table of `mask + 1` buckets. O(1).
pub(super) fn bucket(place: u64, mask: u64) -> u64 {
    place.reverse_bits() & mask
}

/// The place where the bucket after that of `place` begins in a table of `mask + 1` buckets; `None` after the
/// last one. O(1).
pub(super) fn next_bucket(place: u64, mask: u64) -> Option<u64> {
    // What remains has as many bits as the mask; none if there is a single bucket.
    let shift = u64::BITS - mask.count_ones();
    let number = place.checked_shr(shift)? + if FailPoint::WalkSkipsBucket.is_on() { 2 } else { 1 };
    (number <= mask).then(|| number << shift)
}

/// A place after `last`, up to `next`: the one with the fewest bits that tell of keys. O(1).
pub(super) fn between(last: u64, next: u64) -> u64 {
    debug_assert!(last < next, "the order of places");
    // The highest bit in which they differ is set in the later one.
    next & (u64::MAX << (last ^ next).ilog2())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_place_between_two_keys_has_few_of_their_bits() {
        assert_eq!(between(0b0101, 0b0110), 0b0110);
        assert_eq!(between(0b0101_1011, 0b0111_0111), 0b0110_0000);
        assert_eq!(between(0, 1), 1);
        assert_eq!(between(u64::MAX - 1, u64::MAX), u64::MAX);
        assert_eq!(between(0, u64::MAX), 1 << 63);
    }

    #[test]
    fn buckets_follow_one_another_and_their_halves_are_neighbours() {
        let places = |mask| std::iter::successors(Some(0), move |place| next_bucket(*place, mask));
        assert_eq!(places(3).map(|place| bucket(place, 3)).collect::<Vec<_>>(), [0, 2, 1, 3]);
        let of_twice = [0, 4, 2, 6, 1, 5, 3, 7];
        assert_eq!(places(7).map(|place| bucket(place, 7)).collect::<Vec<_>>(), of_twice);
        assert_eq!(next_bucket((1 << 62) + 5, 3), Some(2 << 62));
        assert_eq!((next_bucket(u64::MAX, 3), next_bucket(5, 0)), (None, None));
    }
}
