//! Running sums and products along an axis.

use super::Reducible;
use crate::{Exec, parallel};

/// A running combination along the middle axis of `[outer, len, step]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// Extent of the axis.
    pub len: usize,
    /// Distance of neighbours along the axis.
    pub step: usize,
    /// Products, not sums.
    pub product: bool,
    /// A result leaves out its own element.
    pub exclusive: bool,
    /// From the last element to the first.
    pub reverse: bool,
}

/// Neighbouring columns carried together.
const TILE: usize = 64;

/// The running sums or products of `input`, into `out` of the same shape.
///
/// # Panics
/// If a length does not fit.
pub fn scan<T: Reducible>(exec: Exec<'_>, kind: Scan, input: &[T], out: &mut [T]) {
    let Scan { len, step, .. } = kind;
    assert_eq!(input.len(), out.len());
    parallel::over_chunks(exec, out, len * step, 4, &|first, chunk| {
        let input = &input[first * len * step..][..chunk.len()];
        let blocks = input.chunks_exact(len * step).zip(chunk.chunks_exact_mut(len * step));
        for (input, out) in blocks {
            for column in (0..step).step_by(TILE) {
                columns(kind, input, out, column);
            }
        }
    });
}

fn columns<T: Reducible>(kind: Scan, input: &[T], out: &mut [T], first: usize) {
    let width = TILE.min(kind.step - first);
    let start = if kind.product { T::ONE } else { T::ZERO };
    let mut carried = [start; TILE];
    for at in 0..kind.len {
        let at = if kind.reverse { kind.len - 1 - at } else { at };
        let from = at * kind.step + first;
        let rows = input[from..][..width].iter().zip(&mut out[from..][..width]);
        for ((&x, o), carry) in rows.zip(&mut carried) {
            let x = x.accumulator();
            let next = if kind.product { T::multiply(*carry, x) } else { T::add(*carry, x) };
            *o = T::element(if kind.exclusive { *carry } else { next });
            *carry = next;
        }
    }
}
