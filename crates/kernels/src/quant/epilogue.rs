//! From 32-bit sums to outputs: zero points taken out, bias added, then requantised, dequantised or
//! stored. The loops run over blocks of 16 columns and become vector code where they are inlined.

use landfall_tensor::{FixedPointScale, requantize};

use super::lanes::{Dot, DotOp};
use crate::gemm::PANEL;
use crate::math::Activation;

/// The smallest shift for which every product of an i32 and a mantissa, shifted, fits an i32.
const SHIFT_FITS: u32 = 31;

/// Makes every product of an i32 and a mantissa, its rounding included, non-negative.
const LIFT: u64 = 1 << 62;

/// One requantisation scale for each column, laid out for vectors.
///
/// With a shift of at least 31 the rule `(p + half + odd) >> s` (arithmetic) is computed without an
/// arithmetic shift, which AVX2 lacks: `((p + half + odd + 2^62) >> s) - (2^62 >> s)`, all exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnScales {
    scales: Vec<FixedPointScale>,
    mantissa: Vec<i64>,
    shift: Vec<u64>,
    /// `half + 2^62`.
    lifted_half: Vec<u64>,
    /// `2^62 >> shift`.
    lift: Vec<i32>,
    columns: usize,
    /// Whether all shifts are at least [`SHIFT_FITS`], as those of scales below 1 are.
    fits: bool,
}

impl ColumnScales {
    /// Scales of `columns` columns: one each, or one for all. `None` if there are neither.
    pub fn new(scales: &[FixedPointScale], columns: usize) -> Option<ColumnScales> {
        if scales.len() != columns && scales.len() != 1 {
            return None;
        }
        let zero = FixedPointScale { mantissa: 0, shift: SHIFT_FITS };
        let of = |column: usize| match scales[if scales.len() == 1 { 0 } else { column }] {
            scale if scale.mantissa == 0 => zero,
            scale => scale,
        };
        // A block may begin anywhere, at the first column of a group.
        let scales: Vec<_> = (0..columns).map(of).chain(std::iter::repeat_n(zero, PANEL)).collect();
        let fits = scales.iter().all(|scale| (SHIFT_FITS..=62).contains(&scale.shift));
        let shift = |scale: &FixedPointScale| scale.shift.clamp(SHIFT_FITS, 62);
        Some(ColumnScales {
            mantissa: scales.iter().map(|scale| scale.mantissa.into()).collect(),
            shift: scales.iter().map(|scale| shift(scale).into()).collect(),
            lifted_half: scales.iter().map(|s| (1 << (shift(s) - 1)) - 1 + LIFT).collect(),
            lift: scales.iter().map(|s| (LIFT >> shift(s)) as i32).collect(),
            scales,
            columns,
            fits,
        })
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// `landfall_tensor::requantize` of the sums of a block of columns.
    #[inline(always)]
    pub(super) fn requantize(&self, first: usize, sums: &Block) -> Block {
        let mut out = [0; PANEL];
        if !self.fits {
            for j in 0..PANEL {
                out[j] = requantize(sums[j], self.scales[first + j]);
            }
            return out;
        }
        let (mantissa, shift) = (block(&self.mantissa, first), block(&self.shift, first));
        let (half, lift) = (block(&self.lifted_half, first), block(&self.lift, first));
        for j in 0..PANEL {
            // Only the low halves are multiplied: one instruction for a vector.
            let product = i64::from(sums[j]) * i64::from(mantissa[j] as i32);
            let s = shift[j] & 63;
            let odd = (product as u64 >> s) & 1;
            let lifted = (product as u64).wrapping_add(half[j]).wrapping_add(odd);
            out[j] = ((lifted >> s) as i32).wrapping_sub(lift[j]);
        }
        out
    }
}

/// Sums of 16 columns.
pub(crate) type Block = [i32; PANEL];

#[inline(always)]
fn block<T>(values: &[T], first: usize) -> &[T; PANEL] {
    let (blocks, _) = values[first..].as_chunks::<PANEL>();
    &blocks[0]
}

/// Where results go, in their type.
#[derive(Clone, Copy)]
pub(crate) enum Output<'a> {
    I32(*mut i32),
    Bytes { data: *mut u8, scales: &'a ColumnScales, zero_point: i32, low: i32, high: i32 },
    F32 { data: *mut f32, factor: f32, scales: &'a [f32], bias: Option<&'a [f32]> },
}

// SAFETY: the pointers stand for exclusive borrows, and parts of a call write disjoint rectangles.
unsafe impl Sync for Output<'_> {}

/// The epilogue of a product.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    /// Sums of the stored right columns, whole panels of them.
    pub(crate) column_sums: &'a [i32],
    /// Zero point of the left operand once its bytes are unsigned.
    pub(crate) left_zero: i32,
    /// Depth, padding included.
    pub(crate) depth: i32,
    /// Zero points of the right columns.
    pub(crate) right_zeros: Option<&'a [i32]>,
    /// What was taken off the right elements to store them signed.
    pub(crate) right_offset: i32,
    pub(crate) bias: Option<&'a [i32]>,
    pub(crate) output: Output<'a>,
    pub(crate) stride: usize,
    /// First column of the output, scales, biases and zero points: those of a group.
    pub(crate) first: usize,
    /// Columns from there.
    pub(crate) n: usize,
    /// Applied to f32 results after they are stored.
    pub(crate) activation: Activation,
}

impl Finish<'_> {
    /// Whether sums of the left rows are needed: some right zero point does not vanish.
    pub(crate) fn needs_row_sums(&self) -> bool {
        let zeros = self.right_zeros;
        zeros.map_or(self.right_offset != 0, |z| z.iter().any(|&z| z != self.right_offset))
    }

    /// Finishes up to 16 columns of a row from column `col`, a multiple of 16 within the product.
    ///
    /// # Safety
    /// The row and columns are inside the output, and no other thread writes them.
    #[inline(always)]
    pub(crate) unsafe fn columns(&self, row: usize, col: usize, row_sum: i32, sums: &Block) {
        let count = PANEL.min(self.n - col);
        let columns = block(self.column_sums, col);
        let mut total = [0i32; PANEL];
        for j in 0..PANEL {
            total[j] = sums[j].wrapping_sub(self.left_zero.wrapping_mul(columns[j]));
        }
        if self.right_zeros.is_some() || self.right_offset != 0 {
            let left = self.depth.wrapping_mul(self.left_zero).wrapping_sub(row_sum);
            for (j, total) in total.iter_mut().enumerate().take(count) {
                let zero = self.right_zeros.map_or(0, |z| z[self.first + col + j]);
                let zero = zero - self.right_offset;
                *total = total.wrapping_add(left.wrapping_mul(zero));
            }
        }
        if let Some(bias) = self.bias {
            let bias = &bias[self.first + col..][..count];
            total.iter_mut().zip(bias).for_each(|(t, b)| *t = t.wrapping_add(*b));
        }
        // SAFETY: by the caller's promise.
        unsafe { self.store(row, self.first + col, count, &total) };
    }

    /// # Safety
    /// `count` elements from row and column are inside the output.
    #[inline(always)]
    unsafe fn store(&self, row: usize, col: usize, count: usize, total: &Block) {
        let at = row * self.stride + col;
        // SAFETY: `count` elements from `at` are inside the output by the caller's promise.
        unsafe {
            match self.output {
                Output::I32(data) => {
                    std::slice::from_raw_parts_mut(data.add(at), count)
                        .copy_from_slice(&total[..count]);
                }
                Output::Bytes { data, scales, zero_point, low, high } => {
                    let scaled = scales.requantize(col, total);
                    let (low, high) = (low - zero_point, high - zero_point);
                    let mut bytes = [0u8; PANEL];
                    for j in 0..PANEL {
                        bytes[j] = (scaled[j].clamp(low, high) + zero_point) as u8;
                    }
                    std::slice::from_raw_parts_mut(data.add(at), count)
                        .copy_from_slice(&bytes[..count]);
                }
                Output::F32 { data, factor, scales, bias } => {
                    let out = std::slice::from_raw_parts_mut(data.add(at), count);
                    for (j, y) in out.iter_mut().enumerate() {
                        let scale = factor * scales[if scales.len() == 1 { 0 } else { col + j }];
                        let bias = bias.map_or(0.0, |b| b[col + j]);
                        *y = (total[j] as f32).mul_add(scale, bias);
                    }
                }
            }
        }
    }
}

/// Finishes a tile whose sums lie in a buffer.
pub(super) struct FinishTile<'a> {
    pub(super) finish: &'a Finish<'a>,
    /// `[rows][stride]`.
    pub(super) sums: &'a [i32],
    /// Multiple of 16.
    pub(super) stride: usize,
    pub(super) first_row: usize,
    /// Sum of each row's unsigned bytes, or nothing if not needed.
    pub(super) row_sums: &'a [i32],
    pub(super) rows: usize,
    pub(super) col: usize,
}

impl DotOp for FinishTile<'_> {
    #[inline(always)]
    fn eval<D: Dot>(self, _: D) {
        for row in 0..self.rows {
            let row_sum = self.row_sums.get(row).copied().unwrap_or(0);
            for first in (0..self.stride).step_by(PANEL) {
                let col = self.col + first;
                if col < self.finish.n {
                    let sums = block(self.sums, row * self.stride + first);
                    // SAFETY: the driver's tile is inside its part of the output.
                    unsafe { self.finish.columns(self.first_row + row, col, row_sum, sums) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn vector_requantisation_is_the_scalar_one(
            acc in prop::array::uniform16(any::<i32>()),
            scales in prop::collection::vec(prop_oneof![0.0..1.0f64, 1e-9..1e-3, 0.5..1e5], 16),
        ) {
            let fixed: Vec<_> =
                scales.iter().map(|&s| FixedPointScale::new(s).unwrap()).collect();
            let all = ColumnScales::new(&fixed, 16).unwrap().requantize(0, &acc);
            for (j, &scale) in fixed.iter().enumerate() {
                prop_assert_eq!(all[j], requantize(acc[j], scale));
                let one = ColumnScales::new(&[scale], 16).unwrap().requantize(0, &acc);
                prop_assert_eq!(one[j], requantize(acc[j], scale));
            }
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        for scale in [1.0 - 1e-9, 0.5, 2f64.powi(-31), 0.0, 1.0, 3.5] {
            let fixed = FixedPointScale::new(scale).unwrap();
            let acc = [i32::MIN, i32::MAX, -1, 0, 1, 2, 3, 5, 7, -3, -5, -7, 9, 11, 13, 15];
            let got = ColumnScales::new(&[fixed], 16).unwrap().requantize(0, &acc);
            assert_eq!(got, acc.map(|a| requantize(a, fixed)), "scale {scale}");
        }
    }
}
