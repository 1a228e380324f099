//! A table of values by time, for bounds that are asked for often.

/// Values by time, with the largest up to each and the smallest from each on.
pub(super) struct Steps {
    times: Vec<u64>,
    largest: Vec<u64>,
    smallest: Vec<u64>,
}

impl Steps {
    /// O(n log n).
    pub(super) fn new(pairs: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_unstable();
        let values = || pairs.iter().map(|(_, value)| *value);
        let running = |sum: &mut u64, value: u64| {
            *sum = value.max(*sum);
            Some(*sum)
        };
        let falling = |sum: &mut u64, value: u64| {
            *sum = value.min(*sum);
            Some(*sum)
        };
        let largest = values().scan(0, running).collect();
        let mut smallest: Vec<_> = values().rev().scan(u64::MAX, falling).collect();
        smallest.reverse();
        Self { times: pairs.iter().map(|(time, _)| *time).collect(), largest, smallest }
    }

    /// The largest value of those at `time` or before; 0 without any. O(log n).
    pub(super) fn largest_until(&self, time: u64) -> u64 {
        match self.times.partition_point(|at| *at <= time) {
            0 => 0,
            end => self.largest[end - 1],
        }
    }

    /// The smallest value of those at `time` or after. O(log n).
    pub(super) fn smallest_from(&self, time: u64) -> Option<u64> {
        self.smallest.get(self.times.partition_point(|at| *at < time)).copied()
    }
}
