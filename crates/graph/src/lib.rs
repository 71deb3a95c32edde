//! The graph IR: operators, shape inference, verifier and text form.
//!
//! Architecture invariant: this crate knows nothing of protobuf, kernels, instruction sets or
//! threads.

pub mod attribute;
mod choice;
pub mod cost;
mod dim;
mod graph;
mod ids;
pub mod infer;
mod op;
mod op_macro;
mod spec;
pub mod text;
mod verify;

pub use attribute::{Attribute, AttributeError, Attributes};
pub use choice::*;
pub use dim::Dim;
pub use graph::{CycleError, Graph, Node, Origin, Value};
pub use ids::{NodeId, ValueId};
pub use op::Op;
pub use spec::{DimSpec, Dims, Signature, TensorSpec};
pub use verify::{VerifyError, verify};

/// The operators' attribute types, one for each operator that has attributes.
pub mod ops {
    pub use crate::op::*;
}
