//! A histogram of durations with four buckets for each doubling.
//!
//! Such buckets, as in `HdrHistogram`, are exact to within a quarter for durations of any scale.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets for each doubling, as a power of two.
const SUB_BITS: u32 = 2;
const SUB: u64 = 1 << SUB_BITS;
/// The longest duration that has a bucket of its own, as a power of two: 2^27 µs, some two minutes.
const TOP_BITS: u32 = 27;
const BUCKETS: usize = ((TOP_BITS - SUB_BITS + 1) as usize) << SUB_BITS;

/// A histogram that any thread can add to.
pub(in crate::http) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Adds a duration `count` times. O(1).
    pub(super) fn add(&self, count: u64, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(ns / 1000)].fetch_add(count, Relaxed);
        self.ns.fetch_add(ns.saturating_mul(count), Relaxed);
    }
}

/// The bucket of a duration.
fn bucket(us: u64) -> usize {
    let us = us.min((1 << TOP_BITS) - 1);
    let index = match us.checked_ilog2() {
        Some(bits) if bits >= SUB_BITS => {
            let doubling = u64::from(bits - SUB_BITS);
            SUB + doubling * SUB + ((us >> doubling) - SUB)
        }
        _ => us,
    };
    usize::try_from(index).expect("few buckets")
}

/// The shortest duration in a bucket, in µs.
fn lower_bound_us(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB { bucket } else { (SUB + bucket % SUB) << (bucket / SUB - 1) }
}

/// The content of a [`Histogram`] at about one moment.
#[derive(Clone)]
pub(in crate::http) struct Snapshot {
    buckets: [u64; BUCKETS],
    ns: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], ns: 0 }
    }
}

impl Snapshot {
    pub(super) fn add(&mut self, histogram: &Histogram) {
        for (sum, count) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += count.load(Relaxed);
        }
        self.ns = self.ns.wrapping_add(histogram.ns.load(Relaxed));
    }

    pub(super) fn merge(&mut self, added: &Self) {
        for (sum, count) in self.buckets.iter_mut().zip(&added.buckets) {
            *sum += count;
        }
        self.ns = self.ns.wrapping_add(added.ns);
    }

    /// What was added since `earlier`.
    pub(in crate::http) fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        for (count, before) in difference.buckets.iter_mut().zip(&earlier.buckets) {
            *count = count.saturating_sub(*before);
        }
        difference.ns = self.ns.wrapping_sub(earlier.ns);
        difference
    }

    /// How many durations.
    pub(in crate::http) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum, in seconds.
    pub(in crate::http) fn sum_s(&self) -> f64 {
        Duration::from_nanos(self.ns).as_secs_f64()
    }

    /// Bounds in seconds, each twice the previous one, with the number of shorter durations. Durations
    /// beyond the last bound may be of any length.
    pub(in crate::http) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut count = 0;
        self.buckets.chunks(1 << SUB_BITS).zip(SUB_BITS..TOP_BITS).map(move |(buckets, bits)| {
            count += buckets.iter().sum::<u64>();
            (Duration::from_micros(1 << bits).as_secs_f64(), count)
        })
    }

    /// The duration in µs that a share of all durations are shorter than, to within a quarter. `None`
    /// without any duration.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests, durations in microseconds")]
    pub(in crate::http) fn quantile_us(&self, share: f64) -> Option<f64> {
        let rank = share * self.count() as f64;
        let mut below = 0;
        let found = self.buckets.iter().enumerate().find(|(_, count)| {
            below += **count;
            **count > 0 && below as f64 >= rank
        });
        let (bucket, count) = found?;
        let (from, to) = (lower_bound_us(bucket) as f64, lower_bound_us(bucket + 1) as f64);
        let inside = (rank - (below - count) as f64) / *count as f64;
        Some(from + (to - from) * inside.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_falls_between_the_bounds_of_its_bucket() {
        let times = (0..300).chain((3..40).flat_map(|bits| {
            let us = 1_u64 << bits;
            [us - 1, us, us + 1, us + us / 2, us + us / 4]
        }));
        for us in times {
            let bucket = bucket(us);
            let us = us.min((1 << TOP_BITS) - 1);
            assert!(lower_bound_us(bucket) <= us && us < lower_bound_us(bucket + 1), "{us}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(lower_bound_us(BUCKETS), 1 << TOP_BITS);
    }

    #[test]
    fn a_snapshot_has_counts_sums_and_quantiles() {
        let histogram = Histogram::default();
        for us in 1..=1000 {
            histogram.add(2, Duration::from_micros(us));
        }
        let mut all = Snapshot::default();
        all.add(&histogram);
        assert_eq!(all.count(), 2000);
        assert!((all.sum_s() - 1.001).abs() < 1e-9);
        for (share, us) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let found = all.quantile_us(share).unwrap();
            assert!((found / us - 1.0).abs() < 0.05, "{share}: {found}");
        }
        let below: Vec<_> = all.cumulative().collect();
        assert_eq!(below[0], (0.000_004, 2 * 3));
        assert_eq!(below[7], (0.000_512, 2 * 511));
        assert_eq!(below.last(), Some(&(67.108_864, 2000)));
        assert_eq!(all.since(&all).count(), 0);
        assert_eq!(all.since(&all).quantile_us(0.5), None);
        histogram.add(1, Duration::from_secs(1));
        let mut later = Snapshot::default();
        later.add(&histogram);
        let mut last = later.since(&all);
        assert_eq!(last.count(), 1);
        assert!((last.quantile_us(0.5).unwrap() / 1e6 - 1.0).abs() < 0.25);
        histogram.add(1, Duration::from_secs(100_000));
        last = Snapshot::default();
        last.add(&histogram);
        assert_eq!(last.cumulative().last(), Some((67.108_864, 2001)));
    }
}
