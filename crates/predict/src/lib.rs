//! Online batching and bulk scoring over one path.
//!
//! Architecture invariant: this crate knows nothing of HTTP, JSON, ONNX, delivery or monitoring.

mod executable;
pub mod pipeline;
mod request;

pub use executable::Executable;
pub use request::{ErrorKind, PredictError, Reply, Request, Timing};
