//! The expiry index: "look at this key at that time", ordered by `(deadline, key)`.
//!
//! To *arm* a key is to add an entry for it, and to *disarm* it is to remove that.
//!
//! A busy pool has thousands of deadlines in the same few milliseconds. So a skip list orders time buckets,
//! and each bucket is an ordered set behind a lock: an entry mostly goes to memory that is in the cache. An
//! entry takes 21 bytes among many in its bucket, and some 220 alone.

use std::array;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_utils::CachePadded;

use super::bucket::{Bucket, Due};
use super::buckets::{BucketRef, Buckets};
use super::fail_point::FailPoint;
use super::short_id::ShortId;
use super::sync::{AtomicUsize, Mutex, unless_loom};
use crate::time::Timestamp;

/// The number of skip lists. A key's id picks one. In a single list, all threads that arm keys for about the
/// same time would meet in one bucket.
const STRIPES: usize = unless_loom(4);
/// Binary logarithm of the length of the shortest bucket in milliseconds: 32 ms.
const BUCKET_BITS_MIN: u32 = 5;

/// Binary logarithm of the length of the longest bucket in milliseconds: 24 days.
const BUCKET_BITS_MAX: u32 = 31;

/// An ordered index of deadlines. An entry says when to look at a record, which says what is due.
pub(super) struct ExpiryIndex {
    /// Binary logarithm of the length of a bucket in milliseconds.
    bucket_bits: u32,
    /// Made when they are first needed: an empty skip list takes half a kilobyte.
    stripes: [OnceLock<Box<Stripe>>; STRIPES],
    /// For each stripe a time before which nothing is due: a hint, for a check without a lock. It only
    /// decides which thread does the work, so the model checker does not see it.
    earliest_ms: CachePadded<[AtomicU64; STRIPES]>,
    /// The stripe at which [`ExpiryIndex::due`] begins next.
    turn: CachePadded<std::sync::atomic::AtomicUsize>,
    /// The number of entries. Its own cache line keeps writes from slowing readers of the other fields.
    len: CachePadded<AtomicUsize>,
}

/// A skip list.
struct Stripe {
    buckets: Buckets,
    /// Held by the operation that handles the due entries of the stripe. Others skip it.
    handling: CachePadded<Mutex<()>>,
}

/// The buckets that entries were added to last. The next entries are likely to belong to the same ones.
pub(super) struct Cursor<'a> {
    index: &'a ExpiryIndex,
    last: [Option<(u64, BucketRef<'a>)>; STRIPES],
}

/// Adds entries to an index.
pub(super) trait Arm {
    /// Adds an entry, which must not be there yet. O(log n).
    fn arm(&mut self, at: Timestamp, key: ShortId);
}

impl Arm for &ExpiryIndex {
    fn arm(&mut self, at: Timestamp, key: ShortId) {
        self.cursor().arm(at, key);
    }
}

impl ExpiryIndex {
    /// An index whose deadlines are mostly up to `span_ms` away. Each stripe has `buckets` buckets for that time,
    /// or up to twice as many. Where that would make them too short there are fewer.
    pub(super) fn new(span_ms: u64, buckets: u64) -> Self {
        let bucket_bits =
            (span_ms / buckets).max(1).ilog2().clamp(BUCKET_BITS_MIN, BUCKET_BITS_MAX);
        Self {
            bucket_bits,
            stripes: array::from_fn(|_| OnceLock::new()),
            earliest_ms: CachePadded::new(array::from_fn(|_| AtomicU64::new(u64::MAX))),
            turn: CachePadded::new(std::sync::atomic::AtomicUsize::new(0)),
            len: CachePadded::new(AtomicUsize::new(0)),
        }
    }

    /// Into how many parts keys are divided.
    pub(super) const STRIPES: usize = STRIPES;

    /// The part that a key belongs to. O(1).
    pub(super) fn stripe_of(key: ShortId) -> usize {
        key.stripe(STRIPES)
    }

    /// The number of the bucket of a deadline, and the entry in it.
    fn place(&self, at: Timestamp, key: ShortId) -> (u64, Due) {
        let (ms, length_ms) = (at.as_ms(), 1_u64 << self.bucket_bits);
        let offset_ms = u32::try_from(ms % length_ms).expect("a bucket is shorter than 49 days");
        (ms >> self.bucket_bits, Due { offset_ms, key })
    }

    /// The buckets for a key, if there ever were any.
    fn buckets(&self, key: ShortId) -> Option<&Buckets> {
        self.stripes[key.stripe(STRIPES)].get().map(|stripe| &stripe.buckets)
    }

    /// The buckets for a key, to add an entry.
    fn buckets_to_arm(&self, key: ShortId) -> &Buckets {
        let stripe = self.stripes[key.stripe(STRIPES)].get_or_init(|| {
            Box::new(Stripe { buckets: Buckets::new(), handling: CachePadded::new(Mutex::new(())) })
        });
        &stripe.buckets
    }

    /// A cursor, to add several entries. O(1).
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor { index: self, last: array::from_fn(|_| None) }
    }

    /// Removes an entry, if it is there. O(log n).
    pub(super) fn disarm(&self, at: Timestamp, key: ShortId) {
        let (number, due) = self.place(at, key);
        let bucket = self.buckets(key).and_then(|buckets| buckets.get(number));
        let Some(bucket) = bucket else { return };
        let mut entries = bucket.lock();
        if entries.remove(&due) {
            self.len.fetch_sub(1, Relaxed);
            if entries.is_empty() {
                // Under its lock: a thread that waits for the lock then sees that the bucket is gone.
                bucket.remove();
            }
        }
    }

    /// Up to `limit` due entries, in equal shares of all stripes. At least one if any is due, but not always
    /// all. They stay until they are disarmed. O(log n + k) for k entries.
    pub(super) fn due(&self, now: Timestamp, limit: usize) -> Vec<(Timestamp, ShortId)> {
        let mut found = Vec::new();
        // Begins with another stripe each time, so that a small limit leaves none out for long.
        let (mut first, mut share) = (self.turn.fetch_add(1, Relaxed), limit.div_ceil(STRIPES));
        if FailPoint::OneStripeOnly.is_on() {
            (first, share) = (0, limit);
        }
        for n in 0..STRIPES {
            let share = share.min(limit - found.len());
            self.due_of(first.wrapping_add(n) % STRIPES, now, share, &mut found);
        }
        found
    }

    /// Adds up to `limit` due entries of one stripe to `found`, all from its first bucket.
    fn due_of(
        &self,
        stripe: usize,
        now: Timestamp,
        limit: usize,
        found: &mut Vec<(Timestamp, ShortId)>,
    ) {
        let before = found.len();
        let Some(Stripe { buckets, .. }) = self.stripes[stripe].get().map(|stripe| &**stripe)
        else {
            return;
        };
        self.first_of(buckets, |entries| {
            found.extend(entries.take_while(|(at, _)| *at <= now).take(limit));
        });
        if found.len() == before && limit > 0 {
            let earliest_ms = &self.earliest_ms[stripe];
            earliest_ms.store(u64::MAX, Relaxed);
            let first = self.first_of(buckets, |entries| entries.next()).flatten();
            // An entry that was added meanwhile has lowered it, too, or the next sweep finds that entry.
            earliest_ms.fetch_min(first.map_or(u64::MAX, |(at, _)| at.as_ms()), Relaxed);
        }
    }

    /// Calls `handle` with up to `limit` due entries of each stripe, but skips stripes that another thread is
    /// handling. O(1) if none are due.
    pub(super) fn each_overdue(
        &self,
        now: Timestamp,
        limit: usize,
        mut handle: impl FnMut(Vec<(Timestamp, ShortId)>),
    ) {
        for (stripe, earliest_ms) in self.earliest_ms.iter().enumerate() {
            if earliest_ms.load(Relaxed) > now.as_ms() || FailPoint::OneStripeOnly.is_on() {
                continue;
            }
            let Some(handled) = self.stripes[stripe].get() else { continue };
            let Some(_handling) = handled.handling.try_lock() else { continue };
            let mut found = Vec::new();
            self.due_of(stripe, now, limit, &mut found);
            if !found.is_empty() {
                handle(found);
            }
        }
    }

    /// The first entry. O(log n).
    pub(super) fn first(&self) -> Option<(Timestamp, ShortId)> {
        let first = |stripe: &Stripe| self.first_of(&stripe.buckets, |entries| entries.next());
        let stripes = self.stripes.iter().filter_map(OnceLock::get);
        stripes.filter_map(|stripe| first(stripe).flatten()).min()
    }

    /// Calls `look` with the entries of the first bucket, if there is one.
    fn first_of<T>(
        &self,
        buckets: &Buckets,
        look: impl FnOnce(&mut dyn Iterator<Item = (Timestamp, ShortId)>) -> T,
    ) -> Option<T> {
        loop {
            let (number, bucket) = buckets.first()?;
            let entries = bucket.lock();
            // An empty bucket was removed meanwhile.
            if !entries.is_empty() {
                let begin = Timestamp::from_ms(number << self.bucket_bits);
                let entry = |due: &Due| (begin.plus_ms(due.offset_ms.into()), due.key);
                return Some(look(&mut entries.iter().map(entry)));
            }
        }
    }

    /// The time of the first entry. O(log n).
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.first().map(|(at, _)| at)
    }

    /// The number of entries. O(1).
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Whether there is such an entry. O(log n).
    #[cfg(test)]
    pub(super) fn contains(&self, at: Timestamp, key: ShortId) -> bool {
        let (number, due) = self.place(at, key);
        let bucket = self.buckets(key).and_then(|buckets| buckets.get(number));
        bucket.is_some_and(|bucket| bucket.lock().contains(&due))
    }
}

impl Arm for Cursor<'_> {
    /// Needs no search in the skip list if the last entry of the stripe went to the same bucket.
    fn arm(&mut self, at: Timestamp, key: ShortId) {
        let (number, due) = self.index.place(at, key);
        let last = &mut self.last[key.stripe(STRIPES)];
        loop {
            let bucket = match last.take() {
                Some((last, bucket)) if last == number => bucket,
                _ => self.index.buckets_to_arm(key).get_or_insert(number, || Bucket::from([due])),
            };
            let mut entries = bucket.lock();
            // An empty bucket was removed meanwhile, so a new one is needed.
            if !entries.is_empty() {
                // A bucket that was just made has the entry already.
                entries.insert(due);
                drop(entries);
                *last = Some((number, bucket));
                break;
            }
        }
        let earliest_ms = &self.index.earliest_ms[key.stripe(STRIPES)];
        if at.as_ms() < earliest_ms.load(Relaxed) {
            earliest_ms.fetch_min(at.as_ms(), Relaxed);
        }
        self.index.len.fetch_add(1, Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeSet;

    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::key::KeyId;

    fn key(n: u8) -> ShortId {
        ShortId::split(&KeyId::from_random_bytes([n; 16])).1
    }

    #[test]
    fn what_is_due_is_found_in_equal_shares_of_all_stripes() {
        let index = ExpiryIndex::new(60_000, 2048);
        (0..200).for_each(|n| (&index).arm(Timestamp::from_ms(5), key(n)));
        let due = index.due(Timestamp::from_ms(5), 64);
        let of_stripe = |n| due.iter().filter(|(_, key)| key.stripe(STRIPES) == n).count();
        assert_eq!(array::from_fn::<_, STRIPES, _>(of_stripe), [16; STRIPES]);
        // A limit of one comes round.
        let stripes = (0..STRIPES).map(|_| index.due(Timestamp::MAX, 1)[0].1.stripe(STRIPES));
        let mut stripes: Vec<_> = stripes.collect();
        stripes.sort_unstable();
        assert_eq!(stripes, (0..STRIPES).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_overdue_is_handled_once_and_nothing_else() {
        let index = ExpiryIndex::new(60_000, 2048);
        (0..100).for_each(|n| (&index).arm(Timestamp::from_ms(5 + u64::from(n) / 50), key(n)));
        let count = |ms, limit| {
            let mut count = 0;
            index.each_overdue(Timestamp::from_ms(ms), limit, |due| {
                count += due.len();
                for (at, key) in due {
                    index.disarm(at, key);
                }
            });
            count
        };
        assert_eq!((count(4, 9), count(5, 9), count(5, 90), count(5, 9)), (0, 36, 14, 0));
        assert_eq!((count(6, 90), count(60, 9)), (50, 0));
        (&index).arm(Timestamp::from_ms(1), key(1));
        assert_eq!((count(1, 9), index.len()), (1, 0));
    }

    #[test]
    fn entries_come_by_deadline_and_key() {
        let mut rng = SmallRng::seed_from_u64(7);
        let (index, mut model) = (ExpiryIndex::new(60_000, 2048), BTreeSet::new());
        let mut cursor = index.cursor();
        for _ in 0..20_000 {
            let key = key(rng.random_range(0..20));
            // Within a bucket, in a few, in many, or at the end of all time.
            let ends_ms = [10, 100, 10_000, u64::MAX][rng.random_range(0..4)];
            let at = Timestamp::from_ms(ends_ms - rng.random_range(0..ends_ms.min(10_000)));
            if model.remove(&(at, key)) {
                index.disarm(at, key);
                index.disarm(at, key);
            } else {
                model.insert((at, key));
                cursor.arm(at, key);
            }
            assert_eq!((index.first(), index.len()), (model.first().copied(), model.len()));
            assert_eq!(index.contains(at, key), model.contains(&(at, key)));
        }
        while let Some((at, key)) = index.first() {
            assert_eq!(model.pop_first(), Some((at, key)));
            assert!(index.due(at, 64).contains(&(at, key)) && index.due(at, 64).len() <= 64);
            index.disarm(at, key);
        }
        assert!(model.is_empty(), "something is left");
        let mut stripes = index.stripes.iter().filter_map(OnceLock::get);
        assert!(stripes.all(|stripe| stripe.buckets.first().is_none()), "a bucket is left");
        assert_eq!(index.due(Timestamp::MAX, 64), []);
    }

    #[test]
    fn nothing_is_due_before_its_time_and_all_is_at_it() {
        let index = ExpiryIndex::new(60_000, 2048);
        (0..100).for_each(|n| (&index).arm(Timestamp::from_ms(1000 + u64::from(n)), key(n)));
        assert_eq!(index.due(Timestamp::from_ms(999), 64), []);
        assert_eq!(index.due(Timestamp::from_ms(1000), 64), [(Timestamp::from_ms(1000), key(0))]);
        let mut count = 0;
        while let Some((at, key)) = index.due(Timestamp::from_ms(1049), 1).pop() {
            index.disarm(at, key);
            count += 1;
        }
        assert_eq!(
            (count, index.len(), index.next_deadline()),
            (50, 50, Some(Timestamp::from_ms(1050)))
        );
    }

    #[test]
    fn threads_that_meet_in_buckets_lose_no_entry() {
        let index = ExpiryIndex::new(60_000, 2048);
        (&index).arm(Timestamp::MAX, key(0));
        std::thread::scope(|scope| {
            for n in 0..8 {
                let index = &index;
                scope.spawn(move || {
                    // Two threads for each stripe.
                    let key = key(n);
                    let mut cursor = index.cursor();
                    for round in 0..20_000 {
                        let at = Timestamp::from_ms(round % 7 * 16);
                        cursor.arm(at, key);
                        assert!(index.contains(at, key));
                        assert!(index.first().is_some_and(|(first, _)| first <= at));
                        index.disarm(at, key);
                        assert!(!index.contains(at, key));
                    }
                });
            }
        });
        assert_eq!((index.first(), index.len()), (Some((Timestamp::MAX, key(0))), 1));
    }
}
