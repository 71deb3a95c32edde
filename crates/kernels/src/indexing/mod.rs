//! Reading and writing at positions that are data: gather and scatter, the largest of a row,
//! sequences of their own lengths, boxes that do not overlap, and distinct elements.
//!
//! Elements that are only moved are any `Clone` type: bytes of the element's size, or text.
//! Positions count from the end if negative. They are checked before anything is moved, so that a
//! bad one is the caller's error message and not a panic.

mod boxes;
mod distinct;
mod elements;
mod sequence;
#[cfg(test)]
mod tests;
mod top;
mod tuples;

pub use boxes::{BoxFormat, Suppression, select_boxes};
pub use distinct::{Distinct, Slices, distinct, total_order};
pub use elements::{ElementMap, gather_elements, scatter_elements};
pub use sequence::{CacheWrite, ReverseRows, reverse_rows, write_cache};
pub use top::{TopK, top_k};
pub use tuples::{TupleMap, gather_tuples, scatter_tuples};

use crate::reduce::{Reducible, larger, smaller};
use landfall_tensor::Element;

/// An element that is a position.
pub trait Position: Element {
    /// The position from the front along an axis of `extent`; `None` if it is outside.
    fn resolve(self, extent: usize) -> Option<usize>;
    /// The number as given.
    fn as_given(self) -> i64;
}

macro_rules! positions {
    ($($ty:ty)*) => {$(
        impl Position for $ty {
            #[inline(always)]
            fn resolve(self, extent: usize) -> Option<usize> {
                let signed = i64::from(self);
                let from_front = if signed < 0 { signed + extent as i64 } else { signed };
                usize::try_from(from_front).ok().filter(|&at| at < extent)
            }
            #[inline(always)]
            fn as_given(self) -> i64 { i64::from(self) }
        }
    )*};
}

positions! { i32 i64 }

/// A position outside its axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("index {index} is out of range for axis {axis} of extent {extent}")]
pub struct OutOfRange {
    /// The position as given.
    pub index: i64,
    /// The axis of the data.
    pub axis: usize,
    /// Its extent.
    pub extent: usize,
}

/// How an element that is written meets the one already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combine {
    /// Their sum; integers wrap.
    Add,
    /// Their product; integers wrap.
    Multiply,
    /// The larger; NaN if either is.
    Max,
    /// The smaller; NaN if either is.
    Min,
}

impl Combine {
    /// The combination as a function that updates the element already there.
    pub fn function<T: Reducible>(self) -> fn(&mut T, &T) {
        fn with<T: Reducible>(a: &mut T, b: &T, f: impl Fn(T::Acc, T::Acc) -> T::Acc) {
            *a = T::element(f(a.accumulator(), b.accumulator()));
        }
        match self {
            Combine::Add => |a, b| with(a, b, T::add),
            Combine::Multiply => |a, b| with(a, b, T::multiply),
            Combine::Max => |a, b| with(a, b, larger::<T>),
            Combine::Min => |a, b| with(a, b, smaller::<T>),
        }
    }
}
