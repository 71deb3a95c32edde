//! JSON without an intermediate tree: numbers go straight into typed buffers.
//!
//! A general JSON value costs 32 bytes and a branch per number; prediction requests are mostly
//! numbers. The reader is a cursor that the caller drives, so a tensor is parsed by a loop over its
//! element type.
//!
//! Non-finite numbers: written as the strings `"NaN"`, `"Infinity"`, `"-Infinity"` (protobuf's JSON
//! mapping), so that every reply is valid JSON; read from those strings and from the bare words
//! that Python's `json` module writes.

mod array;
mod decimal;
mod reader;
mod write;

pub use array::{Array, ArrayError};
pub use decimal::Decimal;
pub use reader::{MAX_DEPTH, Reader};
pub(crate) use write::write_tensor_base64;
pub use write::{write_string, write_tensor_flat, write_tensor_nested};
