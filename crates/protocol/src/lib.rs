//! The wire formats of prediction, as pure functions between bytes and tensors.
//!
//! * [`oip`]: Open Inference Protocol v2: JSON, binary tensors, gRPC messages.
//! * [`tfs`]: TensorFlow Serving's REST form, by row and by column.
//! * [`inference`], [`health`]: generated gRPC messages and services (see `proto/`).
//!
//! Everything that arrives here is untrusted: recursion, sizes and counts are bounded, and no
//! allocation is larger than a small multiple of the bytes received.
//!
//! Architecture invariant: this crate knows nothing of sockets, models, versions, batching or time.

mod error;
pub mod json;
pub mod oip;
pub mod tfs;

pub use error::DecodeError;

/// Messages and services of `inference.GRPCInferenceService`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/"
)]
pub mod inference {
    include!("generated/inference.rs");
}

/// Messages and services of `grpc.health.v1.Health`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/"
)]
pub mod health {
    include!("generated/grpc.health.v1.rs");
}
