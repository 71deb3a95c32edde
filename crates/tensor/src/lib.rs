//! Data types, shapes, tensors, arenas and quantisation parameters.
//!
//! The bottom layer: everything above speaks in these types. A [`Tensor`] is a dense row-major
//! array whose memory is owned, shared or mapped from a file; cloning one never copies elements.
//!
//! Architecture invariant: this crate knows nothing of graphs, ONNX, threads or SIMD.

mod arena;
mod buffer;
mod dtype;
mod error;
mod precision;
mod quant;
mod shape;
mod tensor;
mod view;

pub use arena::{Arena, Reads, SharedArena, Writes};
pub use buffer::{ALIGNMENT, Buffer, FileAccess};
pub use dtype::{DType, Element};
pub use error::TensorError;
pub use half::{bf16, f16};
pub use precision::Precision;
pub use quant::{FixedPointScale, QuantParams, SumScales, quantize_value, requantize};
pub use shape::{MAX_RANK, Shape, broadcast, row_major_strides};
pub use tensor::Tensor;
pub use view::{Data, DataMut, TensorMut, TensorView};
