//! The free vectors of a pool: one set of them, or two of a pool that began small. The draw is uniform over both.

use rand::{Rng, RngExt};

use super::fail_point::FailPoint;
use super::free::{Empty, FreeLists, Hint, Sample};
use super::halves::{Halves, Size};
use super::short_id::ShortId;

pub(super) struct FreeHalves(Halves<FreeLists>);

impl FreeHalves {
    pub(super) fn new(size: Size) -> Self {
        Self(Halves::new(size, FreeLists::new))
    }

    fn of(&self, key: ShortId) -> &FreeLists {
        self.0.of(key).unwrap_or_else(|| self.0.make(key, FreeLists::new))
    }

    /// Adds a hint. The record's guard may be held. O(1) amortised.
    pub(super) fn push(&self, hint: Hint) {
        self.of(hint.key).push(hint);
    }

    /// Removes a uniformly random hint: see [`FreeLists::draw`].
    ///
    /// # Errors
    ///
    /// [`Empty`] if there was a moment at which there was no hint.
    pub(super) fn draw(&self, rng: &mut impl Rng) -> Result<Hint, Empty> {
        match self.0.small_and_large() {
            (Some(small), Some(large)) => Both(small, large).draw(rng),
            (Some(one), None) | (None, Some(one)) => one.draw(rng),
            (None, None) => Err(Empty::default()),
        }
    }

    /// Removes up to `count` uniformly random hints: see [`FreeLists::draw_group`].
    pub(super) fn draw_group(&self, rng: &mut impl Rng, count: usize) -> Vec<Hint> {
        match self.0.small_and_large() {
            (Some(small), Some(large)) => Both(small, large).draw_group(rng, count),
            (Some(one), None) | (None, Some(one)) => one.draw_group(rng, count),
            (None, None) => Vec::new(),
        }
    }

    /// Whether no hint was pushed since then. If so, there was a moment without any hint. O(s) for s shards.
    pub(super) fn is_still(&self, empty: Empty) -> bool {
        self.pushes() == empty.pushes
    }

    /// How many hints were ever pushed. O(s) for s shards.
    pub(super) fn pushes(&self) -> u64 {
        self.0.each().map(FreeLists::pushes).sum()
    }

    /// See [`FreeLists::add_stale`]. O(1).
    pub(super) fn add_stale(&self, key: ShortId) -> bool {
        self.of(key).add_stale(key)
    }

    /// How many hints there are. O(s) for s shards.
    pub(super) fn len(&self) -> u64 {
        self.0.each().map(FreeLists::len).sum()
    }

    /// How many hints are stale. O(s) for s shards.
    pub(super) fn stale(&self) -> u64 {
        self.0.each().map(FreeLists::stale).sum()
    }

    /// See [`FreeLists::drop_stale`]. O(1).
    pub(super) fn drop_stale(&self, key: ShortId) {
        self.of(key).drop_stale(key);
    }

    /// See [`FreeLists::suspects`]. O(1).
    pub(super) fn suspects(&self, key: ShortId) -> [Option<(usize, Hint)>; FreeLists::SUSPECTS] {
        self.of(key).suspects(key)
    }

    /// See [`FreeLists::remove_stale`]. O(1) amortised.
    pub(super) fn remove_stale(&self, slot: usize, hint: Hint) {
        self.of(hint.key).remove_stale(slot, hint);
    }
}

/// Both halves. Each samples a rectangle: its shards, and slots up to its bound. A sample of both picks a
/// rectangle in proportion to its area and then a point in it, so that all points are equally likely. Where
/// samples find no hint, a half is picked in proportion to its hints.
#[derive(Clone, Copy)]
struct Both<'a>(&'a FreeLists, &'a FreeLists);

impl<'a> Both<'a> {
    fn sample(self, rng: &mut impl Rng) -> Option<Sample<'a>> {
        let Self(small, large) = self;
        let (small_bound, large_bound) = (small.bound(), large.bound());
        let small_area = small.area(small_bound);
        let mut large_area = large.area(large_bound);
        if FailPoint::UnevenHalves.is_on() {
            large_area = small_area;
        }
        if rng.random_range(0..small_area + large_area) < small_area {
            small.sample(small_bound, rng)
        } else {
            large.sample(large_bound, rng)
        }
    }

    fn draw(self, rng: &mut impl Rng) -> Result<Hint, Empty> {
        for _ in 0..FreeLists::SAMPLES {
            if let Some(hint) = self.sample(rng).and_then(Sample::take) {
                return Ok(hint);
            }
        }
        let Self(small, large) = self;
        loop {
            let empty = Empty { pushes: small.pushes() + large.pushes() };
            let (small_len, large_len) =
                (small.count_and_lower_bound(), large.count_and_lower_bound());
            let len = small_len + large_len;
            if len > 0 {
                let is_small = rng.random_range(0..len) < small_len;
                // It fails if other threads were faster.
                if let Ok(hint) = if is_small { small } else { large }.draw_exactly(rng) {
                    return Ok(hint);
                }
            } else if small.pushes() + large.pushes() == empty.pushes {
                return Err(empty);
            }
        }
    }

    fn draw_group(self, rng: &mut impl Rng, count: usize) -> Vec<Hint> {
        FreeLists::group(rng, count, |rng| self.sample(rng), |rng| self.draw(rng).ok())
    }
}

/// For [`super::check`].
#[cfg(test)]
impl FreeHalves {
    /// See [`FreeLists::all_checked`].
    pub(super) fn all_checked(&self) -> Vec<Hint> {
        self.0.each().flat_map(FreeLists::all_checked).collect()
    }

    /// See [`FreeLists::check_stale_bound`].
    pub(super) fn check_stale_bound(&self) {
        self.0.each().for_each(FreeLists::check_stale_bound);
    }
}
