//! Concrete shapes, row-major strides and broadcasting.

use std::fmt;
use std::ops::{Deref, DerefMut};

use smallvec::SmallVec;

use crate::TensorError;

/// The largest number of axes a tensor may have; bounds recursion and stack arrays.
pub const MAX_RANK: usize = 16;

/// The extent of every axis of a dense tensor, outermost first. A scalar has no axes.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(SmallVec<[usize; 6]>);

impl Shape {
    /// The shape of a scalar.
    pub fn scalar() -> Shape {
        Shape::default()
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Number of elements: the product of the extents, 1 for a scalar.
    ///
    /// Saturates; use [`Shape::checked_elements`] for shapes from outside.
    pub fn elements(&self) -> usize {
        self.0.iter().fold(1usize, |acc, &dim| acc.saturating_mul(dim))
    }

    /// Number of elements, or an error if it does not fit `isize`.
    pub fn checked_elements(&self) -> Result<usize, TensorError> {
        if self.0.contains(&0) {
            return Ok(0);
        }
        self.0
            .iter()
            .try_fold(1usize, |acc, &dim| acc.checked_mul(dim))
            .filter(|&n| isize::try_from(n).is_ok())
            .ok_or_else(|| TensorError::TooLarge(self.to_string()))
    }

    /// Row-major strides in elements.
    pub fn strides(&self) -> SmallVec<[usize; 6]> {
        row_major_strides(&self.0)
    }

    /// Appends an innermost axis.
    pub fn push(&mut self, dim: usize) {
        self.0.push(dim);
    }

    /// Inserts an axis before `axis`.
    pub fn insert(&mut self, axis: usize, dim: usize) {
        self.0.insert(axis, dim);
    }

    /// Removes an axis and returns its extent.
    pub fn remove(&mut self, axis: usize) -> usize {
        self.0.remove(axis)
    }
}

/// Row-major strides in elements of a shape.
pub fn row_major_strides(dims: &[usize]) -> SmallVec<[usize; 6]> {
    let mut strides: SmallVec<[usize; 6]> = SmallVec::from_elem(1, dims.len());
    for axis in (0..dims.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1].saturating_mul(dims[axis + 1]);
    }
    strides
}

/// The common shape of two shapes under the multidirectional rule: aligned at the innermost axis,
/// an extent of 1 stretches. Source: ONNX "Broadcasting in ONNX".
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Shape, TensorError> {
    let rank = a.len().max(b.len());
    let mut out: SmallVec<[usize; 6]> = SmallVec::from_elem(1, rank);
    for (i, dim) in out.iter_mut().enumerate() {
        let at = |s: &[usize]| (i + s.len()).checked_sub(rank).map_or(1, |k| s[k]);
        *dim = match (at(a), at(b)) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => {
                return Err(TensorError::Broadcast(
                    Shape::from(a).to_string(),
                    Shape::from(b).to_string(),
                ));
            }
        };
    }
    Ok(Shape(out))
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl DerefMut for Shape {
    fn deref_mut(&mut self) -> &mut [usize] {
        &mut self.0
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Shape {
        Shape(SmallVec::from_slice(dims))
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Shape {
        Shape(SmallVec::from_slice(&dims))
    }
}

impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Shape {
        Shape(SmallVec::from_vec(dims))
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(iter: I) -> Shape {
        Shape(iter.into_iter().collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_stretches_ones_only() {
        assert_eq!(broadcast(&[3, 1], &[4]).unwrap(), Shape::from([3, 4]));
        assert_eq!(broadcast(&[], &[2]).unwrap(), Shape::from([2]));
        assert_eq!(broadcast(&[0, 1], &[1, 5]).unwrap(), Shape::from([0, 5]));
        assert!(broadcast(&[3], &[4]).is_err());
    }

    #[test]
    fn huge_shapes_are_refused_and_empty_ones_are_not() {
        assert!(Shape::from([usize::MAX, 2]).checked_elements().is_err());
        assert_eq!(Shape::from([usize::MAX, 2, 0]).checked_elements(), Ok(0));
        assert_eq!(Shape::scalar().checked_elements(), Ok(1));
    }

    #[test]
    fn strides_are_row_major() {
        assert_eq!(Shape::from([2, 3, 4]).strides().as_slice(), &[12, 4, 1]);
    }
}
