//! A histogram that costs two atomic additions an observation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use landfall_predict::{BUCKETS_S, HistogramSnapshot};

/// Durations by bucket, with the bounds of [`BUCKETS_S`].
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last one holds what is over the last bound.
    buckets: [AtomicU64; BUCKETS_S.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BUCKETS_S.partition_point(|&bound| bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// The counts now.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut count = 0;
        let mut cumulative: Vec<u64> = self
            .buckets
            .iter()
            .map(|bucket| {
                count += bucket.load(Ordering::Relaxed);
                count
            })
            .collect();
        cumulative.pop();
        let sum_s = self.sum_ns.load(Ordering::Relaxed) as f64 * 1e-9;
        HistogramSnapshot { cumulative, count, sum_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_their_bucket() {
        let histogram = Histogram::default();
        for micros in [10, 11, 100_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.cumulative[0], 1);
        assert_eq!(snapshot.cumulative[1], 2);
        assert_eq!(snapshot.cumulative.last(), Some(&2));
        assert_eq!(snapshot.count, 3);
        assert!((snapshot.sum_s - 100.000021).abs() < 1e-9);
    }
}
