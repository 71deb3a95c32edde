//! Counters and histograms of one model version: always on, a few relaxed atomic additions each.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::Timing;
use crate::clock::nanos;
use crate::lock::lock;

/// Different batch sizes that are told apart; larger requests run alone, so callers choose sizes.
const MAX_BATCH_SIZES: usize = 1024;

/// How often something happened and how long it took in total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DurationCount {
    /// Times it happened.
    pub count: u64,
    /// Total nanoseconds.
    pub ns: u64,
}

/// Statistics of runs of one batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchStatistics {
    /// Rows in the run.
    pub batch_size: u64,
    /// Joining and padding inputs, per run.
    pub compute_input: DurationCount,
    /// The model, per run.
    pub compute_infer: DurationCount,
    /// Splitting outputs, per run.
    pub compute_output: DurationCount,
}

/// A histogram of seconds with the buckets of [`BUCKETS_S`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HistogramSnapshot {
    /// Observations at or below each bound of [`BUCKETS_S`], cumulative.
    pub cumulative: Vec<u64>,
    /// All observations, including those over the last bound.
    pub count: u64,
    /// Sum of all observations in seconds.
    pub sum_s: f64,
}

/// Upper bounds of histogram buckets, in seconds.
pub const BUCKETS_S: [f64; 21] = [
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// [`BUCKETS_S`] in nanoseconds.
const BUCKETS_NS: [u64; 21] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// Counters of one model version, in the words of the OIP statistics extension, with histograms.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StatisticsSnapshot {
    /// Name of the model.
    pub name: String,
    /// Version.
    pub version: u64,
    /// Milliseconds since the epoch at the end of the newest inference; 0 before the first.
    pub last_inference_ms: u64,
    /// Rows inferred: a request with 3 rows counts 3.
    pub inference_count: u64,
    /// Runs of the model.
    pub execution_count: u64,
    /// Requests that succeeded, with their whole time.
    pub success: DurationCount,
    /// Requests that failed, with their whole time.
    pub fail: DurationCount,
    /// Waiting, per successful request.
    pub queue: DurationCount,
    /// Pre-processing, joining and padding, per successful request.
    pub compute_input: DurationCount,
    /// The model, per successful request.
    pub compute_infer: DurationCount,
    /// Splitting and post-processing, per successful request.
    pub compute_output: DurationCount,
    /// Requests answered from a cache: there is none yet, so zero.
    pub cache_hit: DurationCount,
    /// Requests that missed the cache.
    pub cache_miss: DurationCount,
    /// Runs by batch size, ascending; at most 1024 different sizes are kept.
    pub batch_stats: Vec<BatchStatistics>,
    /// Requests refused because the queue was full.
    pub refused_queue_full: u64,
    /// Requests whose time ran out in the queue.
    pub expired: u64,
    /// Requests whose caller went away.
    pub cancelled: u64,
    /// Requests waiting now.
    pub queued_requests: u64,
    /// Rows waiting now.
    pub queued_rows: u64,
    /// Runs going on now.
    pub running: u64,
    /// Waiting, in seconds.
    pub queue_seconds: HistogramSnapshot,
    /// Pre-processing, in seconds.
    pub preprocess_seconds: HistogramSnapshot,
    /// The model, in seconds, per request.
    pub compute_seconds: HistogramSnapshot,
    /// Post-processing, in seconds.
    pub postprocess_seconds: HistogramSnapshot,
    /// Admission to reply, in seconds.
    pub total_seconds: HistogramSnapshot,
}

#[derive(Default)]
struct Total {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Total {
    fn add(&self, duration: Duration) {
        self.count.fetch_add(1, Relaxed);
        self.ns.fetch_add(nanos(duration), Relaxed);
    }

    fn get(&self) -> DurationCount {
        DurationCount { count: self.count.load(Relaxed), ns: self.ns.load(Relaxed) }
    }
}

#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS_NS.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    fn add(&self, duration: Duration) {
        let ns = nanos(duration);
        self.buckets[BUCKETS_NS.partition_point(|&bound| bound < ns)].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    fn snapshot(&self) -> HistogramSnapshot {
        let mut count = 0;
        let mut cumulative: Vec<u64> = self
            .buckets
            .iter()
            .map(|bucket| {
                count += bucket.load(Relaxed);
                count
            })
            .collect();
        cumulative.truncate(BUCKETS_NS.len());
        HistogramSnapshot { cumulative, count, sum_s: self.sum_ns.load(Relaxed) as f64 * 1e-9 }
    }
}

/// Stages of one run of the model.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RunTimes {
    /// Joining and padding.
    pub(crate) join: Duration,
    /// The model.
    pub(crate) infer: Duration,
    /// Splitting.
    pub(crate) split: Duration,
}

/// What a queue holds at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) requests: usize,
    pub(crate) rows: usize,
    pub(crate) running: usize,
}

/// Live counters of one model version.
#[derive(Default)]
pub(crate) struct Statistics {
    last_inference_ns: AtomicU64,
    inferences: AtomicU64,
    executions: AtomicU64,
    success: Total,
    fail: Total,
    queue: Total,
    compute_input: Total,
    compute_infer: Total,
    compute_output: Total,
    batches: Mutex<BTreeMap<u64, BatchStatistics>>,
    refused_queue_full: AtomicU64,
    expired: AtomicU64,
    cancelled: AtomicU64,
    queue_seconds: Histogram,
    preprocess_seconds: Histogram,
    compute_seconds: Histogram,
    postprocess_seconds: Histogram,
    total_seconds: Histogram,
}

impl Statistics {
    /// One successful run of `rows` rows that ended at `end_ns`.
    pub(crate) fn ran(&self, rows: usize, times: &RunTimes, end_ns: u64) {
        self.executions.fetch_add(1, Relaxed);
        self.last_inference_ns.fetch_max(end_ns.max(1), Relaxed);
        let size = rows as u64;
        let mut batches = lock(&self.batches);
        if batches.len() >= MAX_BATCH_SIZES && !batches.contains_key(&size) {
            return;
        }
        let batch = batches.entry(size).or_default();
        batch.batch_size = size;
        for (total, duration) in [
            (&mut batch.compute_input, times.join),
            (&mut batch.compute_infer, times.infer),
            (&mut batch.compute_output, times.split),
        ] {
            total.count += 1;
            total.ns += nanos(duration);
        }
    }

    /// A request of `rows` rows was answered.
    pub(crate) fn succeeded(&self, rows: usize, timing: &Timing, run: &RunTimes, total: Duration) {
        self.inferences.fetch_add(rows as u64, Relaxed);
        self.success.add(total);
        self.queue.add(timing.queue);
        self.compute_input.add(timing.preprocess + run.join);
        self.compute_infer.add(timing.compute);
        self.compute_output.add(run.split + timing.postprocess);
        self.queue_seconds.add(timing.queue);
        self.preprocess_seconds.add(timing.preprocess);
        self.compute_seconds.add(timing.compute);
        self.postprocess_seconds.add(timing.postprocess);
        self.total_seconds.add(total);
    }

    /// A request failed or was refused.
    pub(crate) fn failed(&self, total: Duration) {
        self.fail.add(total);
    }

    pub(crate) fn refused(&self) {
        self.refused_queue_full.fetch_add(1, Relaxed);
    }

    pub(crate) fn expired(&self) {
        self.expired.fetch_add(1, Relaxed);
    }

    pub(crate) fn cancelled(&self) {
        self.cancelled.fetch_add(1, Relaxed);
    }

    pub(crate) fn snapshot(
        &self,
        name: &str,
        version: u64,
        load: Load,
        now_ns: u64,
        epoch_ms_now: u64,
    ) -> StatisticsSnapshot {
        let last_inference_ms = match self.last_inference_ns.load(Relaxed) {
            0 => 0,
            ns => epoch_ms_now.saturating_sub(now_ns.saturating_sub(ns) / 1_000_000),
        };
        StatisticsSnapshot {
            name: name.to_owned(),
            version,
            last_inference_ms,
            inference_count: self.inferences.load(Relaxed),
            execution_count: self.executions.load(Relaxed),
            success: self.success.get(),
            fail: self.fail.get(),
            queue: self.queue.get(),
            compute_input: self.compute_input.get(),
            compute_infer: self.compute_infer.get(),
            compute_output: self.compute_output.get(),
            cache_hit: DurationCount::default(),
            cache_miss: DurationCount::default(),
            batch_stats: lock(&self.batches).values().copied().collect(),
            refused_queue_full: self.refused_queue_full.load(Relaxed),
            expired: self.expired.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            queued_requests: load.requests as u64,
            queued_rows: load.rows as u64,
            running: load.running as u64,
            queue_seconds: self.queue_seconds.snapshot(),
            preprocess_seconds: self.preprocess_seconds.snapshot(),
            compute_seconds: self.compute_seconds.snapshot(),
            postprocess_seconds: self.postprocess_seconds.snapshot(),
            total_seconds: self.total_seconds.snapshot(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_agree_in_both_units() {
        for (s, ns) in BUCKETS_S.iter().zip(BUCKETS_NS) {
            assert_eq!((s * 1e9).round() as u64, ns);
        }
    }

    #[test]
    fn an_observation_at_a_bound_belongs_to_it() {
        let histogram = Histogram::default();
        for us in [10, 11, 25, 100_000_000] {
            histogram.add(Duration::from_micros(us));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.cumulative[..3], [1, 3, 3]);
        assert_eq!((snapshot.cumulative[20], snapshot.count), (3, 4));
        assert!((snapshot.sum_s - 100.000046).abs() < 1e-9);
    }

    #[test]
    fn the_last_inference_is_dated_by_the_wall_clock() {
        let statistics = Statistics::default();
        let load = Load { requests: 0, rows: 0, running: 0 };
        assert_eq!(statistics.snapshot("m", 1, load, 9, 1_000).last_inference_ms, 0);
        statistics.ran(3, &RunTimes::default(), 5_000_000);
        assert_eq!(statistics.snapshot("m", 1, load, 8_000_000, 1_000).last_inference_ms, 997);
    }

    #[test]
    fn batch_sizes_are_bounded() {
        let statistics = Statistics::default();
        for rows in 0..2 * MAX_BATCH_SIZES {
            statistics.ran(rows, &RunTimes::default(), 1);
        }
        assert_eq!(lock(&statistics.batches).len(), MAX_BATCH_SIZES);
    }
}
