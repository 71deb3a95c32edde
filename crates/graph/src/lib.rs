//! The graph IR: operators, shape inference, verifier and text form.
//!
//! Architecture invariant: this crate knows nothing of protobuf, kernels, instruction sets or threads.

mod spec;

pub use spec::{DimSpec, Dims, Signature, TensorSpec};
