//! Linear models, support vector machines, and what they and trees do to their scores.
//!
//! Rows are independent and computed in `f64`, as the trainers do. A [`RowModel`] describes one
//! row; [`score_rows`] divides the rows among threads.

mod linear;
mod rows;
mod svm;
#[cfg(test)]
mod tests;
mod transform;

pub use linear::{Linear, SecondClass};
pub use rows::{RowModel, score_rows};
pub use svm::{Machines, Probabilities, SvmClassifier, SvmKernel, SvmRegressor, Vectors};
pub use transform::Transform;

pub(crate) use transform::logistic;
