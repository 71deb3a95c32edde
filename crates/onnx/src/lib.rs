//! ONNX bytes to and from the graph IR.
//!
//! [`import_file`] maps a model and turns it into a [`landfall_graph::Graph`] in which every
//! operator means what the newest ONNX operator set says. Weights are never copied: they stay
//! slices of the mapped file.
//!
//! Architecture invariant: this crate knows nothing of passes, kernels or the runtime. What depends
//! on ONNX versions lives in `upgrade` and `export::opset`; nothing above this crate knows of them.

mod dtype;
mod error;
mod export;
mod external;
mod import;
#[cfg(test)]
mod model_builder;
mod proto;
mod tensor;
mod upgrade;
mod wire;

pub use error::{ImportError, Malformed, UnsupportedNode};
pub use export::{ExportError, OLDEST as OLDEST_EXPORTED_OPSET, export};
pub use import::{
    ClassLabels, Imported, Metadata, import_bytes, import_file, import_file_with, tensor_from_proto,
};
