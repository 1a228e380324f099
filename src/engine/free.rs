//! The free vectors: hints at free keys, and the uniform draw among them.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use crossbeam_utils::CachePadded;
use prefetch_index::prefetch_index;
use rand::{Rng, RngExt};

use super::fail_point::FailPoint;
use super::short_id::{Sharding, ShortId};
use super::sync::{AtomicU32, AtomicU64, Mutex, fence, unless_loom};

/// "This key was free at that generation": true only if the record confirms it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hint {
    pub(super) key: ShortId,
    /// The low 32 bits of the generation. They repeat only after four thousand million changes of one key,
    /// and a stale hint is drawn or dropped long before that.
    generation: u32,
}

impl Hint {
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits are kept")]
    pub(super) fn new(key: ShortId, generation: u64) -> Self {
        Self { key, generation: generation as u32 }
    }
}

/// How many hints had been pushed when a draw found none: see [`FreeLists::is_still`].
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Empty {
    pub(super) pushes: u64,
}

/// A slot of a shard, where a hint was when it was picked.
#[derive(Clone, Copy)]
pub(super) struct Sample<'a> {
    shard: &'a Shard,
    slot: usize,
}

impl Sample<'_> {
    /// Removes the hint, if it is still there. O(1) amortised.
    pub(super) fn take(self) -> Option<Hint> {
        self.shard.take(self.slot)
    }

    /// Prefetches the hint, unless another thread has the shard's lock.
    pub(super) fn prefetch(self) {
        self.shard.prefetch(self.slot);
    }
}

/// One vector of hints per shard.
///
/// **The draw** is rejection sampling. A sample is a shard and a slot below the length of the longest vector,
/// both uniformly random. It is rejected if the shard has no such slot. So every hint is as likely as any
/// other, and a shard is picked in proportion to its hints, without anything that all threads write. Where
/// there are too few hints for that, or they are spread too unevenly, a walk over the shards' lengths picks
/// one exactly.
pub(super) struct FreeLists {
    sharding: Sharding,
    shards: Box<[CachePadded<Shard>]>,
    /// Samples are slots below this: no vector is longer. Seldom written.
    bound: CachePadded<AtomicU32>,
}

#[derive(Default)]
struct Shard {
    hints: Mutex<Hints>,
    /// The length of the vector, which can be read without the lock.
    len: AtomicU32,
    /// How many hints are stale: their keys died or began to cool down while they were free, or were leased by a
    /// hint of other vectors.
    stale: AtomicU32,
    /// How many hints were ever pushed.
    pushes: AtomicU64,
}

#[derive(Default)]
struct Hints {
    vector: Vec<Hint>,
    /// Where the search for stale hints continues.
    cursor: usize,
}

impl FreeLists {
    /// How many samples are tried before the walk. With thousands of hints in each shard two of three are
    /// accepted, with a few one of four.
    pub(super) const SAMPLES: usize = unless_loom(8);
    /// A shard with no more stale hints than this is left alone.
    const STALE_MIN: u32 = 32;
    /// How many hints are looked at for each one that becomes stale, in a shard where more than half are. So
    /// about two are dropped for each new one.
    pub(super) const SUSPECTS: usize = 4;

    pub(super) fn new(sharding: Sharding) -> Self {
        Self {
            sharding,
            shards: (0..sharding.count()).map(|_| CachePadded::default()).collect(),
            bound: CachePadded::new(AtomicU32::new(1)),
        }
    }

    fn shard_of(&self, key: ShortId) -> &Shard {
        &self.shards[self.sharding.shard_of(key)]
    }

    /// Adds a hint. The record's guard may be held. O(1) amortised.
    pub(super) fn push(&self, hint: Hint) {
        let shard = self.shard_of(hint.key);
        let mut hints = shard.hints.lock();
        hints.vector.push(hint);
        shard.publish(&hints);
        shard.pushes.store(shard.pushes.load(Relaxed) + 1, Release);
        let len = shard.len.load(Relaxed);
        drop(hints);
        // A thread that lowers the bound reads the lengths after that, and this one reads the bound after it
        // has set the length. So one of them sees the other.
        fence(SeqCst);
        if len > self.bound.load(SeqCst) {
            // A little more than needed, so that not every push writes it.
            self.bound.fetch_max(len.saturating_add(len / 16), Relaxed);
        }
    }

    /// Removes a uniformly random hint. O(1) expected; O(s) for s shards where hints are few or spread very
    /// unevenly.
    ///
    /// # Errors
    ///
    /// [`Empty`] if there was a moment at which no shard had a hint.
    pub(super) fn draw(&self, rng: &mut impl Rng) -> Result<Hint, Empty> {
        for _ in 0..Self::SAMPLES {
            if let Some(hint) = self.sample(self.bound(), rng).and_then(Sample::take) {
                return Ok(hint);
            }
        }
        self.draw_exactly(rng)
    }

    /// Removes up to `count` uniformly random hints: fewer if there was a moment at which no shard had one.
    /// Each costs as much as by [`FreeLists::draw`].
    ///
    /// All samples are taken first, so that their cache misses overlap. A sample whose hint is gone by the
    /// time it is removed counts as rejected, so no hint is preferred.
    pub(super) fn draw_group(&self, rng: &mut impl Rng, count: usize) -> Vec<Hint> {
        let sample = |rng: &mut _| self.sample(self.bound(), rng);
        Self::group(rng, count, sample, |rng| self.draw(rng).ok())
    }

    /// Draws a group: by one sample for each hint, as far as `sample` finds some, and else one by one.
    pub(super) fn group<'a, R: Rng>(
        rng: &mut R,
        count: usize,
        sample: impl Fn(&mut R) -> Option<Sample<'a>>,
        draw: impl Fn(&mut R) -> Option<Hint>,
    ) -> Vec<Hint> {
        let found = |_| {
            let sample = (0..Self::SAMPLES).find_map(|_| sample(rng))?;
            sample.prefetch();
            Some(sample)
        };
        let mut samples = (0..count).map_while(found).collect::<Vec<_>>().into_iter();
        let take = |_| samples.next().and_then(Sample::take).or_else(|| draw(rng));
        (0..count).map_while(take).collect()
    }

    /// Samples are slots below this. O(1).
    pub(super) fn bound(&self) -> u32 {
        self.bound.load(Relaxed)
    }

    /// How many slots there are below a bound, in all shards. O(1).
    pub(super) fn area(&self, bound: u32) -> u64 {
        self.shards.len() as u64 * u64::from(bound)
    }

    /// Takes one sample below a bound: a slot of a shard, or `None` if it is rejected. O(1).
    pub(super) fn sample(&self, bound: u32, rng: &mut impl Rng) -> Option<Sample<'_>> {
        // The number of shards is a power of two: the mask is exact.
        let shard = &self.shards[rng.next_u32() as usize & (self.shards.len() - 1)];
        let len = shard.len.load(Relaxed);
        // Multiply and shift, as in Lemire, "Fast Random Integer Generation in an Interval",
        // 2019: each slot is as likely as another to within one in 2^32 for each of them.
        let mut slot = (u64::from(rng.next_u32()) * u64::from(bound)) >> 32;
        if FailPoint::UnevenDraw.is_on() {
            slot %= u64::from(len.max(1));
        }
        (slot < u64::from(len)).then(|| Sample { shard, slot: to_usize(slot) })
    }

    /// Draws by a walk over the lengths, and lowers the bound if it has become too high. O(s) for s shards.
    ///
    /// # Errors
    ///
    /// As [`FreeLists::draw`].
    pub(super) fn draw_exactly(&self, rng: &mut impl Rng) -> Result<Hint, Empty> {
        loop {
            let empty = Empty { pushes: self.pushes() };
            let sum = self.count_and_lower_bound();
            if sum > 0 {
                let mut rank = rng.random_range(0..sum);
                for shard in &self.shards {
                    let len = u64::from(shard.len.load(Relaxed));
                    if rank < len {
                        if let Some(hint) = shard.take(to_usize(rank)) {
                            return Ok(hint);
                        }
                        break; // Another thread was faster.
                    }
                    rank -= len;
                }
            } else if self.is_still(empty) {
                return Err(empty);
            }
        }
    }

    /// Counts the hints, and lowers the bound if it has become too high. O(s) for s shards.
    pub(super) fn count_and_lower_bound(&self) -> u64 {
        let (mut sum, mut longest) = (0, 1);
        for shard in &self.shards {
            let len = shard.len.load(Acquire);
            sum += u64::from(len);
            longest = longest.max(len);
        }
        let bound = self.bound.load(Relaxed);
        if longest < bound / 2
            && self.bound.compare_exchange(bound, longest, SeqCst, Relaxed).is_ok()
        {
            // A push may have read the old bound meanwhile, and found no need to raise it.
            let lens = self.shards.iter().map(|shard| shard.len.load(SeqCst));
            self.bound.fetch_max(lens.max().unwrap_or(1), SeqCst);
        }
        sum
    }

    /// Whether no hint was pushed since then. If so, there was a moment without any hint. O(s)
    /// for s shards.
    fn is_still(&self, empty: Empty) -> bool {
        self.pushes() == empty.pushes
    }

    /// How many hints were ever pushed. O(s) for s shards.
    pub(super) fn pushes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.pushes.load(Acquire)).sum()
    }

    /// Notes that a hint has become stale. True if the shard now has more stale
    /// hints than live ones, and more than a few. O(1).
    pub(super) fn add_stale(&self, key: ShortId) -> bool {
        let shard = self.shard_of(key);
        let stale = shard.stale.fetch_add(1, Relaxed) + 1;
        stale > Self::STALE_MIN && stale > shard.len.load(Relaxed) / 2
    }

    /// How many hints there are. O(s) for s shards.
    pub(super) fn len(&self) -> u64 {
        self.shards.iter().map(|shard| u64::from(shard.len.load(Relaxed))).sum()
    }

    /// How many hints are stale. O(s) for s shards.
    pub(super) fn stale(&self) -> u64 {
        self.shards.iter().map(|shard| u64::from(shard.stale.load(Relaxed))).sum()
    }

    /// Notes that a stale hint is out of the vectors. O(1).
    pub(super) fn drop_stale(&self, key: ShortId) {
        self.shard_of(key).stale.fetch_sub(1, Relaxed);
    }

    /// The next hints of the shard of `key` to look at. O(1).
    pub(super) fn suspects(&self, key: ShortId) -> [Option<(usize, Hint)>; Self::SUSPECTS] {
        let mut hints = self.shard_of(key).hints.lock();
        std::array::from_fn(|_| {
            let slot = match hints.cursor.min(hints.vector.len()) {
                0 => hints.vector.len().checked_sub(1)?,
                slot => slot - 1,
            };
            hints.cursor = slot;
            Some((slot, hints.vector[slot]))
        })
    }

    /// Removes a hint that has turned out to be stale, unless it has left its slot. O(1) amortised.
    pub(super) fn remove_stale(&self, slot: usize, hint: Hint) {
        let shard = self.shard_of(hint.key);
        let mut hints = shard.hints.lock();
        if hints.vector.get(slot) == Some(&hint) {
            hints.remove(slot);
            shard.publish(&hints);
            drop(hints);
            self.drop_stale(hint.key);
        }
    }
}

/// For [`super::check`].
#[cfg(test)]
impl FreeLists {
    /// All hints, after a check of each shard's own invariants.
    pub(super) fn all_checked(&self) -> Vec<Hint> {
        let mut all = Vec::new();
        for (index, shard) in self.shards.iter().enumerate() {
            let hints = shard.hints.lock();
            assert_eq!(shard.len.load(Acquire) as usize, hints.vector.len(), "shard {index}");
            let misplaced = hints.vector.iter().find(|h| self.sharding.shard_of(h.key) != index);
            assert_eq!(misplaced, None, "shard {index} holds another's hint");
            all.extend_from_slice(&hints.vector);
        }
        all
    }

    /// Checks that stale hints are at most twice the live ones and a constant.
    pub(super) fn check_stale_bound(&self) {
        for shard in &self.shards {
            let (len, stale) = (shard.len.load(Acquire), shard.stale.load(Acquire));
            assert!(
                stale <= (len - stale) * 2 + Self::STALE_MIN,
                "{stale} of {len} hints are stale"
            );
        }
    }
}

impl Shard {
    /// Shows the length of the vector to threads without the lock.
    fn publish(&self, hints: &Hints) {
        let len = u32::try_from(hints.vector.len()).expect("fewer than 2^32 keys a shard");
        self.len.store(len, Release);
    }

    /// Prefetches a hint, unless another thread has the lock.
    fn prefetch(&self, slot: usize) {
        if let Some(hints) = self.hints.try_lock() {
            prefetch_index(&hints.vector, slot);
        }
    }

    fn take(&self, mut slot: usize) -> Option<Hint> {
        let mut hints = self.hints.lock();
        if FailPoint::LateSampleHits.is_on() {
            slot = slot.min(hints.vector.len().saturating_sub(1));
        }
        if slot >= hints.vector.len() {
            return None;
        }
        let hint = hints.remove(slot);
        self.publish(&hints);
        Some(hint)
    }
}

impl Hints {
    /// A vector with no more capacity than this is not shrunk.
    const CAPACITY_MIN: usize = 64;

    fn remove(&mut self, slot: usize) -> Hint {
        let hint = self.vector.swap_remove(slot);
        let (len, capacity) = (self.vector.len(), self.vector.capacity());
        if capacity > Self::CAPACITY_MIN && len < capacity / 4 {
            self.vector.shrink_to(len * 2);
        }
        hint
    }
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).expect("a length")
}
