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

/// The most elements of a tensor of `BYTES`. One takes 3 to 4 bytes of a request and tens of bytes
/// of memory, so that without a bound a body within its limit could still exhaust memory.
pub const MAX_TEXTS: usize = 1 << 22;

fn too_many_texts() -> String {
    format!("a tensor of BYTES may have at most {MAX_TEXTS} elements")
}

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
