//! Tensors made from a few numbers: ranges, identity and triangular patterns, one-hot rows, images
//! from columns, and random numbers.

mod columns;
mod pattern;
mod random;

pub use columns::columns_to_image;
pub use pattern::{keep_triangle, one_hot, range_float, range_integer, write_diagonal};
pub use random::{Random, sample_bernoulli, sample_classes, sample_normal, sample_uniform};
