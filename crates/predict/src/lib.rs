//! Online batching and bulk scoring over one path.
//!
//! Architecture invariant: this crate knows nothing of HTTP, JSON, ONNX, delivery or monitoring,
//! and reads no clock: monotonic time comes from a [`Clock`], wall-clock time from callers.

mod batch;
mod bulk;
mod catalog;
mod clock;
mod config;
mod departure;
mod executable;
#[cfg(test)]
mod fakes;
mod lock;
pub mod pipeline;
mod request;
mod router;
mod servable;
mod sink;
mod statistics;
mod steps;
mod validate;

pub use bulk::{BulkError, BulkOptions, Columns, Quarantined, Score, Scored, score};
pub use catalog::{
    Available, Catalog, Loader, ModelSettings, Reconciled, VersionChoice, VersionPolicy,
    VersionState, VersionStatus,
};
pub use clock::Clock;
pub use config::{Batching, PaddedInput, PaddedOutput, Padding, ServingConfig};
pub use executable::Executable;
pub use request::{ErrorKind, PredictError, Reply, Request, Timing};
pub use router::VersionRouter;
pub use servable::{LoadedModel, Servable, Ticket};
pub use sink::{PredictionEvent, PredictionSink};
pub use statistics::{
    BUCKETS_S, BatchStatistics, DurationCount, HistogramSnapshot, StatisticsSnapshot,
};
pub use steps::{Preprocessed, Steps};
