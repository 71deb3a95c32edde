//! How one model is served.

use std::time::Duration;

use crate::Request;

/// Whether rows of different requests may share a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Batching {
    /// If the signature allows it (every input and output has a free leading axis, and the named
    /// ones have one name) and a trial at loading shows that rows do not influence one another.
    #[default]
    Auto,
    /// Without a trial; loading fails if the signature does not allow it.
    Required,
    /// Every request runs alone.
    Off,
}

/// An input axis that may be filled up so that requests of similar length share a run.
#[derive(Debug, Clone, PartialEq)]
pub struct PaddedInput {
    /// Name of the model's input.
    pub input: String,
    /// The axis whose extent differs between requests; not the leading one.
    pub axis: usize,
    /// What is filled in. A mask is an input like any other, usually padded with 0.
    pub value: f64,
}

/// An output axis that grows with a padded input and is cut back to the caller's own length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaddedOutput {
    /// Name of the model's output.
    pub output: String,
    /// The axis to cut; not the leading one.
    pub axis: usize,
    /// The padded input whose own extent the caller gets back.
    pub like: String,
}

/// A model's promise that padding changes nothing for the rows that are padded.
///
/// Lengths share a run if they fall on one rung of a ladder whose rungs lie at most a quarter
/// apart; a run is padded to the longest of its requests, never to the rung.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Padding {
    /// Every input axis that must grow together.
    pub inputs: Vec<PaddedInput>,
    /// Every output axis that grows with them.
    pub outputs: Vec<PaddedOutput>,
}

/// How one model version is served. The default suits a model of which nothing is known.
#[derive(Debug, Clone)]
pub struct ServingConfig {
    /// Whether rows of different requests may share a run.
    pub batching: Batching,
    /// The most rows that requests are joined to. A larger request runs alone, where rows are known
    /// to be independent in pieces: of so many rows, or of as many more as run in 50 ms.
    pub max_batch_rows: usize,
    /// The longest that a request waits for others to join it while an instance is idle, measured
    /// from the oldest request of a batch. Zero: an idle instance runs what there is.
    pub max_delay: Duration,
    /// Requests with more rows are refused.
    pub max_request_rows: Option<usize>,
    /// Requests whose outputs together have more bytes fail, before they are encoded: as JSON that
    /// takes several times as many. Where a request runs in pieces, so does it if what the graph
    /// gives, before post-processing, has more.
    pub max_reply_bytes: usize,
    /// Bound of the queue in requests.
    pub max_queue_requests: usize,
    /// Bound of the queue in rows. A single request over it is admitted to an empty queue.
    pub max_queue_rows: usize,
    /// The longest that a request without its own timeout waits in the queue.
    pub timeout: Option<Duration>,
    /// Runs of this model at one time.
    pub instances: usize,
    /// Threads of one run; 0 leaves it to the runtime. For the loader: nothing here reads it.
    pub threads: usize,
    /// Number of priority levels; level 1 is served first, strictly.
    pub priority_levels: u32,
    /// Level of a request that names none.
    pub default_priority: u32,
    /// Lengths that may be padded to share a run; without it only equal shapes do.
    pub padding: Option<Padding>,
    /// A model whose runs take less than this is run on the submitting thread while nothing waits:
    /// two thread switches cost more than the run.
    pub inline_limit: Duration,
    /// Run before the version becomes ready; a failure keeps it from becoming ready.
    pub warm_up: Vec<Request>,
}

impl Default for ServingConfig {
    fn default() -> ServingConfig {
        ServingConfig {
            batching: Batching::Auto,
            max_batch_rows: 64,
            max_delay: Duration::ZERO,
            max_request_rows: None,
            max_reply_bytes: 1 << 30,
            max_queue_requests: 1024,
            max_queue_rows: 65_536,
            timeout: None,
            instances: 1,
            threads: 0,
            priority_levels: 3,
            default_priority: 2,
            padding: None,
            inline_limit: Duration::from_micros(200),
            warm_up: Vec::new(),
        }
    }
}
