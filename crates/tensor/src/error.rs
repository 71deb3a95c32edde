//! What can be wrong with a tensor.

use crate::DType;

/// An error about a tensor's type, shape or memory; says what was expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The element type is not the one asked for.
    #[error("datatype is {found}, expected {expected}")]
    DType {
        /// The type asked for.
        expected: DType,
        /// The tensor's type.
        found: DType,
    },
    /// The bytes given do not fill the shape exactly.
    #[error("shape {shape} of {dtype} needs {expected} bytes, got {found}")]
    ByteLength {
        /// Element type.
        dtype: DType,
        /// Shape as text.
        shape: String,
        /// Bytes the shape needs.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The elements given do not fill the shape exactly.
    #[error("shape {shape} needs {expected} elements, got {found}")]
    Length {
        /// Shape as text.
        shape: String,
        /// Elements the shape needs.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// The number of elements or bytes of a shape does not fit the address space.
    #[error("shape {0} has too many elements for this machine")]
    TooLarge(String),
    /// Shapes that cannot be broadcast together.
    #[error("shapes {0} and {1} cannot be broadcast together")]
    Broadcast(String, String),
    /// The memory is not aligned for the element type; copy it with `Tensor::aligned` first.
    #[error("memory of a {0} tensor is not aligned")]
    Alignment(DType),
    /// Ranges handed to an arena overlap or lie outside it.
    #[error("arena range {start}..{end} overlaps another or lies outside {len} bytes")]
    ArenaRange {
        /// First byte.
        start: usize,
        /// One past the last byte.
        end: usize,
        /// Size of the arena.
        len: usize,
    },
}
