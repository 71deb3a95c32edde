//! Broadcast patterns: which element of each operand meets which element of the result.

use landfall_tensor::{MAX_RANK, Shape, TensorError, row_major_strides};

/// The walk over a result of broadcast operands, axes that behave alike merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    /// Extents of the merged axes, outermost first; the last is the row.
    dims: Vec<usize>,
    /// For every operand, its stride along every merged axis: 0 where it is stretched.
    strides: Vec<Vec<usize>>,
}

impl Broadcast {
    /// The pattern of operands of these shapes for a result of shape `out`.
    pub fn new(out: &[usize], operands: &[&[usize]]) -> Result<Broadcast, TensorError> {
        let mut strides: Vec<Vec<usize>> = Vec::with_capacity(operands.len());
        for shape in operands {
            strides.push(stretched(shape, out)?);
        }
        let mut dims: Vec<usize> = Vec::new();
        let mut merged: Vec<Vec<usize>> = vec![Vec::new(); operands.len()];
        for axis in 0..out.len() {
            if out[axis] == 1 {
                continue;
            }
            let joins = !dims.is_empty()
                && strides.iter().zip(&merged).all(|(strides, merged)| {
                    merged.last().is_some_and(|&outer| outer == strides[axis] * out[axis])
                });
            if joins {
                if let Some(last) = dims.last_mut() {
                    *last *= out[axis];
                }
                for (strides, merged) in strides.iter().zip(&mut merged) {
                    merged.pop();
                    merged.push(strides[axis]);
                }
            } else {
                dims.push(out[axis]);
                for (strides, merged) in strides.iter().zip(&mut merged) {
                    merged.push(strides[axis]);
                }
            }
        }
        if dims.is_empty() {
            dims.push(1);
            merged.iter_mut().for_each(|strides| strides.push(0));
        }
        Ok(Broadcast { dims, strides: merged })
    }

    /// Elements in one row.
    pub fn row(&self) -> usize {
        self.dims.last().copied().unwrap_or(1)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.dims[..self.dims.len() - 1].iter().product()
    }

    /// Step of operand `index` along a row: 0 or 1 for dense operands.
    pub fn row_stride(&self, index: usize) -> usize {
        self.strides[index].last().copied().unwrap_or(0)
    }

    /// Calls `visit(row, offsets)` for rows `first..first + count`; `offsets` are the operands'
    /// first elements.
    pub fn walk<const N: usize>(
        &self,
        first: usize,
        count: usize,
        mut visit: impl FnMut(usize, [usize; N]),
    ) {
        if count == 0 {
            return;
        }
        let outer = self.dims.len() - 1;
        let mut position = [0usize; MAX_RANK];
        let mut rest = first;
        for axis in (0..outer).rev() {
            position[axis] = rest % self.dims[axis];
            rest /= self.dims[axis];
        }
        for row in first..first + count {
            let mut offsets = [0usize; N];
            for (offset, strides) in offsets.iter_mut().zip(&self.strides) {
                *offset = (0..outer).map(|axis| position[axis] * strides[axis]).sum();
            }
            visit(row, offsets);
            for axis in (0..outer).rev() {
                position[axis] += 1;
                if position[axis] < self.dims[axis] {
                    break;
                }
                position[axis] = 0;
            }
        }
    }
}

/// Strides of `shape` along the axes of `out`, 0 where it is stretched.
fn stretched(shape: &[usize], out: &[usize]) -> Result<Vec<usize>, TensorError> {
    let mismatch =
        || TensorError::Broadcast(Shape::from(shape).to_string(), Shape::from(out).to_string());
    let lead = out.len().checked_sub(shape.len()).ok_or_else(mismatch)?;
    let own = row_major_strides(shape);
    let mut strides = vec![0; out.len()];
    for (axis, (&dim, &stride)) in shape.iter().zip(&own).enumerate() {
        if dim == out[lead + axis] {
            strides[lead + axis] = if dim == 1 { 0 } else { stride };
        } else if dim != 1 {
            return Err(mismatch());
        }
    }
    Ok(strides)
}
