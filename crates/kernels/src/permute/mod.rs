//! Permutation of axes: runs are copied whole, transpositions go block by block.

mod block;
#[cfg(test)]
mod tests;

use landfall_tensor::MAX_RANK;

use crate::shared::SharedMut;
use crate::{Exec, parallel};
pub(crate) use block::transpose_block;

/// Columns that one task transposes: enough for whole cache lines on both sides.
const TASK_COLUMNS: usize = 64;
/// Elements that one task transposes, if its columns are short.
const TASK_ELEMENTS: usize = 4096;

/// One axis of the output.
#[derive(Clone, Copy, Default)]
struct Axis {
    len: usize,
    /// Elements between neighbours in the source.
    source: usize,
    /// Elements between neighbours in the output.
    output: usize,
}

/// Output axes without those of length 1, axes that stay neighbours merged.
struct Axes {
    axes: [Axis; MAX_RANK],
    count: usize,
}

impl Axes {
    fn new(dims: &[usize], perm: &[usize]) -> Axes {
        let mut strides = [1; MAX_RANK];
        for axis in (1..dims.len()).rev() {
            strides[axis - 1] = strides[axis] * dims[axis];
        }
        let mut result = Axes { axes: [Axis::default(); MAX_RANK], count: 0 };
        for &from in perm.iter().filter(|&&from| dims[from] != 1) {
            let (len, source) = (dims[from], strides[from]);
            match result.axes[..result.count].last_mut() {
                Some(last) if last.source == len * source => {
                    (last.len, last.source) = (last.len * len, source);
                }
                _ => {
                    result.axes[result.count] = Axis { len, source, output: 0 };
                    result.count += 1;
                }
            }
        }
        let mut stride = 1;
        for axis in result.axes[..result.count].iter_mut().rev() {
            axis.output = stride;
            stride *= axis.len;
        }
        result
    }

    /// Takes an axis out.
    fn remove(&mut self, index: usize) -> Axis {
        let axis = self.axes[index];
        self.axes.copy_within(index + 1..self.count, index);
        self.count -= 1;
        axis
    }

    fn len(&self) -> usize {
        self.axes[..self.count].iter().map(|axis| axis.len).product()
    }

    /// Source and output offsets of an element, counted over the axes.
    fn offsets(&self, mut index: usize) -> (usize, usize) {
        let (mut source, mut output) = (0, 0);
        for axis in self.axes[..self.count].iter().rev() {
            let at = index % axis.len;
            index /= axis.len;
            source += at * axis.source;
            output += at * axis.output;
        }
        (source, output)
    }
}

/// Writes `source`, an array of shape `dims`, with its axes reordered: output axis `i` is source
/// axis
/// `perm[i]`.
///
/// # Panics
/// If `perm` is not a permutation of the axes, there are more than `MAX_RANK`, or a length is
/// wrong.
pub fn permute<T: Copy + Send + Sync>(
    exec: Exec<'_>,
    dims: &[usize],
    perm: &[usize],
    source: &[T],
    out: &mut [T],
) {
    let len = dims.iter().product::<usize>();
    assert!(dims.len() <= MAX_RANK, "more than {MAX_RANK} axes");
    assert!(source.len() == len && out.len() == len, "array of the wrong length");
    let contains = |axis| perm.contains(&axis);
    assert!(perm.len() == dims.len() && (0..dims.len()).all(contains), "not a permutation");
    if len == 0 {
        return;
    }
    let mut axes = Axes::new(dims, perm);
    let out = SharedMut::new(out);
    let inner = axes.axes[..axes.count].iter().position(|axis| axis.source == 1);
    match inner {
        // SAFETY: both arrays have `len` elements; nothing else writes the output.
        None => unsafe { out.range(0, len) }.copy_from_slice(source),
        Some(inner) if inner + 1 == axes.count => {
            let run = axes.remove(inner).len;
            parallel::over_range(exec, axes.len(), run.div_ceil(8) + 8, &|range| {
                for index in range {
                    let (from, to) = axes.offsets(index);
                    // SAFETY: runs of the output are disjoint.
                    let out = unsafe { out.range(to, run) };
                    out.copy_from_slice(&source[from..from + run]);
                }
            });
        }
        Some(inner) => {
            let rows = axes.remove(axes.count - 1);
            let columns = axes.remove(inner);
            transpose_all(exec, &axes, rows, columns, source, out);
        }
    }
}

/// Does a strided copy that is a transposition, block by block: some axis reads neighbours, and the
/// last one does not. Other copies are left undone, which `false` tells. Every read lies in
/// `source`, which begins at the first element read, and `out` is the whole result.
pub(crate) fn transposed<T: Copy + Send + Sync>(
    exec: Exec<'_>,
    copy: &[crate::movement::Axis],
    source: &[T],
    out: &mut [T],
) -> bool {
    let columns = copy.iter().position(|axis| axis.step == 1);
    let Some(columns) = columns.filter(|&at| at + 1 < copy.len() && copy.len() <= MAX_RANK) else {
        return false;
    };
    let mut axes = Axes { axes: [Axis::default(); MAX_RANK], count: copy.len() };
    let mut output = 1;
    for (axis, from) in axes.axes.iter_mut().zip(copy).rev() {
        let Ok(source) = usize::try_from(from.step) else { return false };
        *axis = Axis { len: from.extent, source, output };
        output *= from.extent;
    }
    let rows = axes.remove(axes.count - 1);
    let columns = axes.remove(columns);
    transpose_all(exec, &axes, rows, columns, source, SharedMut::new(out));
    true
}

/// Transposes `rows` × `columns` (which are contiguous in the source) for each element of `axes`.
fn transpose_all<T: Copy + Send + Sync>(
    exec: Exec<'_>,
    axes: &Axes,
    rows: Axis,
    columns: Axis,
    source: &[T],
    out: SharedMut<'_, T>,
) {
    let task_columns = (TASK_ELEMENTS / rows.len).next_multiple_of(TASK_COLUMNS).max(TASK_COLUMNS);
    let blocks = columns.len.div_ceil(task_columns);
    let cost = rows.len * task_columns.min(columns.len);
    parallel::over_range(exec, axes.len() * blocks, cost, &|range| {
        for task in range {
            let (from, to) = axes.offsets(task / blocks);
            let first = task % blocks * task_columns;
            let count = task_columns.min(columns.len - first);
            // SAFETY: all offsets are inside both arrays, as the caller checked; tasks write
            // disjoint columns.
            unsafe {
                transpose_block(
                    exec.cpu,
                    (rows.len, count),
                    (source.as_ptr().add(from + first), rows.source),
                    (out.ptr().add(to + first * columns.output), columns.output),
                );
            }
        }
    });
}
