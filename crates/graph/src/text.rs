//! The text form of a graph: what pass tests, `inspect` and packages show.
//!
//! ```text
//! graph "classifier" {
//!   input %x: f32[batch,4]
//!   const %w: f32[4,3] = @0
//!   const %axes: i64[1] = [1]
//!   %h: f32[batch,3] = MatMul(%x, %w) "dense"
//!   %y: f32[batch,3] = Softmax(%h) {axis=1}
//!   output %y
//! }
//! ```
//!
//! `@n` refers to tensor `n` of a table beside the text; small constants stand inline. `_` is an
//! operand left out, `?` an unknown datatype or extent, `[*]` an unknown rank, `%#n` a value
//! without a name of its own. Operators outside `ai.onnx` are written with their domain:
//! `landfall.FusedConv`. Attributes left out have their default. Sub-graphs are attributes. A long
//! list among the attributes is `[@n]`; one of few different texts is these texts, then the index
//! of each element's: `["BRANCH_LEQ", "LEAF"][@n]`.

mod lexer;
mod parser;
mod printer;
#[cfg(test)]
mod tests;

/// Texts that stand for many elements of a list are at most this long: a text form must not ask for
/// much more memory than it takes itself.
const INDEXED_TEXT_BYTES_MAX: usize = 64;

pub use parser::{ParseError, parse};
pub use printer::{Printed, print, print_op};
