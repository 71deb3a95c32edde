//! From 32-bit sums to outputs: zero points taken out, bias added, then requantised, dequantised or
//! stored, 16 columns at a time.

use landfall_tensor::{FixedPointScale, requantize};

use super::blocks::{Block, Blocks, Scales, real_scale};
use super::lanes::{Dot, DotOp};
use super::narrow::Limits;
use crate::gemm::PANEL;
use crate::math::Activation;

/// The smallest shift for which every product of an i32 and a mantissa, shifted, fits an i32.
const SHIFT_FITS: u32 = 31;

/// One requantisation scale for each column, laid out for vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnScales {
    scales: Vec<FixedPointScale>,
    /// The same numbers, exactly.
    real: Vec<f64>,
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
        Some(ColumnScales {
            fits: scales.iter().all(|scale| scale.shift >= SHIFT_FITS),
            real: scales.iter().copied().map(real_scale).collect(),
            scales,
            columns,
        })
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Those of the block that begins at a column.
    #[inline(always)]
    fn block(&self, first: usize) -> Scales<'_> {
        Scales { fixed: block(&self.scales, first), real: block(&self.real, first) }
    }

    /// The numbers from a column on, as many as there are columns left and 16 more; only if they
    /// all are below 1.
    pub(super) fn below_one(&self, first: usize) -> Option<&[f64]> {
        self.fits.then(|| &self.real[first..])
    }

    /// `landfall_tensor::requantize` of a block of columns whose scales do not fit vectors.
    #[inline(always)]
    fn slow<B: Blocks>(&self, b: B, first: usize, sums: B::Block) -> B::Block {
        let mut block = [0; PANEL];
        b.store(sums, &mut block);
        self.requantize_one_by_one(first, &mut block);
        b.load(&block)
    }

    // Apart, so that the usual case keeps its registers.
    #[cold]
    #[inline(never)]
    fn requantize_one_by_one(&self, first: usize, sums: &mut Block) {
        let scales = &self.scales[first..];
        sums.iter_mut().zip(scales).for_each(|(sum, &scale)| *sum = requantize(*sum, scale));
    }
}

#[inline(always)]
fn block<T>(values: &[T], first: usize) -> &[T; PANEL] {
    let (blocks, _) = values[first..].as_chunks::<PANEL>();
    &blocks[0]
}

/// Lets an expression write 16 values to `$out`, of which the first `$count` are stored from `$to`
/// on; all of them, the usual case, where they belong. Not a function that takes a closure: a
/// closure is compiled without the instruction set's features unless it happens to be inlined.
macro_rules! write {
    ($to:expr, $count:expr, $zero:expr, $out:ident => $fill:expr) => {
        if $count == PANEL {
            let $out = &mut *$to.cast::<[_; PANEL]>();
            $fill;
        } else {
            let mut values = [$zero; PANEL];
            let $out = &mut values;
            $fill;
            std::ptr::copy_nonoverlapping(values.as_ptr(), $to, $count);
        }
    };
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
    /// Zero point of the left operand once its bytes are unsigned; or signed: see
    /// [`Finish::with_left`].
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

/// An epilogue that stores bytes.
pub(super) struct FinishBytes<'a> {
    /// The first column of the first row.
    pub(super) to: *mut u8,
    pub(super) stride: usize,
    /// Of all columns, and 16 more.
    pub(super) scales: &'a [f64],
    pub(super) limits: Limits,
}

/// What the epilogue of up to 16 columns adds, whatever the row.
pub(crate) struct Columns {
    /// From this column of the product on, a multiple of 16.
    first: usize,
    /// How many.
    count: usize,
    /// Everything but the sums and what depends on the row.
    pub(super) base: Block,
    /// What the sum of a row's left elements is multiplied by and taken off.
    zeros: Option<Block>,
}

impl Finish<'_> {
    /// The same where left elements are multiplied and summed as signed bytes, which are 128 less
    /// than unsigned ones, if `signed`.
    pub(super) fn with_left(self, signed: bool) -> Self {
        Finish { left_zero: self.left_zero - if signed { 128 } else { 0 }, ..self }
    }

    /// Whether sums of the left rows are needed: some right zero point does not vanish.
    pub(crate) fn needs_row_sums(&self) -> bool {
        let zeros = self.right_zeros;
        zeros.map_or(self.right_offset != 0, |z| z.iter().any(|&z| z != self.right_offset))
    }

    /// Prepares up to 16 columns from `first`, a multiple of 16 within the product.
    #[inline(always)]
    pub(crate) fn columns(&self, first: usize) -> Columns {
        let count = PANEL.min(self.n - first);
        let sums = block(self.column_sums, first);
        let mut base = sums.map(|sum| self.left_zero.wrapping_mul(sum).wrapping_neg());
        if let Some(bias) = self.bias {
            let bias = &bias[self.first + first..][..count];
            base.iter_mut().zip(bias).for_each(|(t, b)| *t = t.wrapping_add(*b));
        }
        let mut zeros = [0; PANEL];
        match self.right_zeros {
            Some(right) => {
                let right = &right[self.first + first..][..count];
                zeros.iter_mut().zip(right).for_each(|(z, r)| *z = r - self.right_offset);
            }
            None => zeros[..count].fill(-self.right_offset),
        }
        let zeros = (zeros != [0; PANEL]).then_some(zeros);
        if let Some(zeros) = zeros {
            let all = self.depth.wrapping_mul(self.left_zero);
            base.iter_mut().zip(zeros).for_each(|(t, z)| *t = t.wrapping_add(all.wrapping_mul(z)));
        }
        Columns { first, count, base, zeros }
    }

    /// What the tiles that store bytes need, if this epilogue is one that they can apply: bytes of
    /// one type, scales below 1, nothing that depends on the row.
    pub(super) fn bytes(&self) -> Option<FinishBytes<'_>> {
        let Output::Bytes { data, scales, zero_point, low, high } = self.output else {
            return None;
        };
        let scales = scales.below_one(self.first)?;
        let limits = Limits::new(zero_point, low, high)?;
        (!self.needs_row_sums()).then_some(FinishBytes {
            to: data.wrapping_add(self.first),
            stride: self.stride,
            scales,
            limits,
        })
    }

    /// Finishes prepared columns of rows from `first_row` on.
    ///
    /// # Safety
    /// The rows and columns are inside the output, and no other thread writes them.
    #[inline(always)]
    pub(crate) unsafe fn rows<B: Blocks>(
        &self,
        b: B,
        first_row: usize,
        columns: &Columns,
        sums: &RowSums<'_>,
    ) {
        let (count, col) = (columns.count, self.first + columns.first);
        let at = |row: usize| (first_row + row) * self.stride + col;
        // SAFETY: `count` elements from `at` are inside the output by the caller's promise.
        unsafe {
            match self.output {
                Output::I32(data) => {
                    for row in 0..sums.rows {
                        let total = sums.total(b, row, columns);
                        write!(data.add(at(row)), count, 0, out => b.store(total, out));
                    }
                }
                Output::Bytes { data, scales, zero_point, low, high } => {
                    let (low, high) = (low - zero_point, high - zero_point);
                    if !scales.fits {
                        for row in 0..sums.rows {
                            let scaled = scales.slow(b, col, sums.total(b, row, columns));
                            write!(data.add(at(row)), count, 0, out => {
                                b.store_bytes(scaled, low, high, zero_point, out);
                            });
                        }
                        return;
                    }
                    let scales = scales.block(col);
                    for row in 0..sums.rows {
                        let scaled = b.requantize(sums.total(b, row, columns), scales);
                        write!(data.add(at(row)), count, 0, out => {
                            b.store_bytes(scaled, low, high, zero_point, out);
                        });
                    }
                }
                Output::F32 { data, factor, scales, bias } => {
                    let scales = match scales {
                        [one] => [*one; PANEL],
                        _ => padded(&scales[col..], count),
                    };
                    let bias = bias.map_or([0.0; PANEL], |bias| padded(&bias[col..], count));
                    for row in 0..sums.rows {
                        let total = sums.total(b, row, columns);
                        write!(data.add(at(row)), count, 0.0, out => {
                            b.store_floats(total, factor, &scales, &bias, out);
                        });
                    }
                }
            }
        }
    }
}

/// Sums of 16 columns of some rows.
pub(crate) struct RowSums<'a> {
    /// `[rows][stride]`, of which the first 16 count.
    pub(crate) sums: &'a [i32],
    pub(crate) stride: usize,
    pub(crate) rows: usize,
    /// Sum of each row's left elements as they are multiplied, or nothing if not needed.
    pub(crate) left: &'a [i32],
}

impl RowSums<'_> {
    /// A row's sums with everything added that does not depend on the output's scale.
    #[inline(always)]
    fn total<B: Blocks>(&self, b: B, row: usize, columns: &Columns) -> B::Block {
        let sums = b.load(block(self.sums, row * self.stride));
        let total = b.add(sums, b.load(&columns.base));
        let Some(zeros) = &columns.zeros else { return total };
        let left = self.left.get(row).copied().unwrap_or(0);
        b.sub(total, b.mul(b.splat(left), b.load(zeros)))
    }
}

/// The first `count` values, and zeros.
#[inline(always)]
fn padded(values: &[f32], count: usize) -> [f32; PANEL] {
    if let Some(whole) = values.first_chunk::<PANEL>() {
        return *whole;
    }
    let mut out = [0.0; PANEL];
    out[..count].copy_from_slice(&values[..count]);
    out
}

/// Finishes a tile whose sums lie in a buffer.
pub(super) struct FinishTile<'a> {
    pub(super) finish: &'a Finish<'a>,
    /// `[rows][stride]`.
    pub(super) sums: &'a [i32],
    /// Multiple of 16.
    pub(super) stride: usize,
    /// Columns of the tile, at most `stride`.
    pub(super) width: usize,
    pub(super) first_row: usize,
    /// Sum of each row's left elements as they are multiplied, or nothing if not needed.
    pub(super) row_sums: &'a [i32],
    pub(super) rows: usize,
    pub(super) col: usize,
}

impl DotOp for FinishTile<'_> {
    #[inline(always)]
    fn eval<D: Dot>(self, d: D) {
        let b = d.blocks();
        for first in (0..self.width).step_by(PANEL) {
            if self.col + first >= self.finish.n {
                break;
            }
            let columns = self.finish.columns(self.col + first);
            let sums = RowSums {
                sums: &self.sums[first..],
                stride: self.stride,
                rows: self.rows,
                left: self.row_sums,
            };
            // SAFETY: the driver's tile is inside its part of the output.
            unsafe { self.finish.rows(b, self.first_row, &columns, &sums) };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quant::lanes::dispatch;

    /// Requantises a block on this machine's best instruction set.
    struct Requantize<'a>(&'a ColumnScales, &'a mut Block);

    impl DotOp for Requantize<'_> {
        fn eval<D: Dot>(self, d: D) {
            let b = d.blocks();
            let (scales, x) = (self.0, b.load(self.1));
            let scaled = match scales.fits {
                true => b.requantize(x, scales.block(0)),
                false => scales.slow(b, 0, x),
            };
            b.store(scaled, self.1);
        }
    }

    fn check(acc: Block, fixed: &[FixedPointScale]) -> Result<(), TestCaseError> {
        let scales = ColumnScales::new(fixed, PANEL).unwrap();
        let scale = |j: usize| fixed[if fixed.len() == 1 { 0 } else { j }];
        let expected: Block = std::array::from_fn(|j| requantize(acc[j], scale(j)));
        for cpu in crate::Cpu::tested() {
            let mut block = acc;
            if dispatch(cpu, Requantize(&scales, &mut block)) {
                prop_assert_eq!(block, expected, "{}", cpu.isa());
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn vector_requantisation_is_the_scalar_one(
            acc in prop::array::uniform16(any::<i32>()),
            scales in prop::collection::vec(prop_oneof![0.0..1.0f64, 1e-9..1e-3, 0.5..1e5], 16),
        ) {
            let fixed: Vec<_> =
                scales.iter().map(|&s| FixedPointScale::new(s).unwrap()).collect();
            check(acc, &fixed)?;
            for scale in fixed {
                check(acc, &[scale])?;
            }
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        for scale in [1.0 - 1e-9, 0.5, 2f64.powi(-31), 0.0, 1.0, 3.5] {
            let fixed = FixedPointScale::new(scale).unwrap();
            let acc = [i32::MIN, i32::MAX, -1, 0, 1, 2, 3, 5, 7, -3, -5, -7, 9, 11, 13, 15];
            check(acc, &[fixed]).unwrap();
        }
    }
}
