//! Counters and histograms of one model version.

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
    10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3,
    250e-3, 500e-3, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
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
    /// Waiting, per successful request. This and the following ones are as in Triton.
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
