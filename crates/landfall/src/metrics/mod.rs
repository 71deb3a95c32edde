//! What operators see: request counters here, model statistics from the catalog.

mod histogram;
mod requests;
mod text;

pub use histogram::Histogram;
pub use requests::{GrpcMethod, HttpMethod, Metrics};
pub use text::render;
