//! One output row of a depthwise convolution for one vector of channels: several columns at a time,
//! each pixel loaded once for all taps of a kernel row that it meets.

use std::array::from_fn;

use crate::simd::Simd;

/// Kernel rows that a row may have.
pub(super) const MAX_ROWS: usize = 8;

/// Widths of kernels that this file knows.
pub(super) fn has_width(kernel_width: usize, stride: usize, dilation: usize) -> bool {
    matches!(kernel_width, 3 | 5) && matches!(stride, 1 | 2) && dilation == 1
}

/// What one row of output for one vector of channels is computed from.
#[derive(Clone, Copy)]
pub(super) struct RowArgs {
    /// Where the input rows of the valid kernel rows begin, in their order.
    pub(super) rows: [*const f32; MAX_ROWS],
    /// Valid kernel rows.
    pub(super) count: usize,
    /// The first tap of the first valid kernel row.
    pub(super) weights: *const f32,
    /// Elements from a tap to the next.
    pub(super) tap: usize,
    /// Elements from an input column to the next.
    pub(super) column: usize,
    /// Input columns.
    pub(super) width: usize,
    /// Input columns before the first that are padding.
    pub(super) pad: usize,
    /// Output columns.
    pub(super) out_width: usize,
    pub(super) out: *mut f32,
    /// Elements from an output column to the next.
    pub(super) out_column: usize,
    /// Added first; null where absent.
    pub(super) bias: *const f32,
    /// Added next; null where absent.
    pub(super) residual: *const f32,
    /// Elements from an output column's residual to the next.
    pub(super) residual_column: usize,
    /// Bounds of the result.
    pub(super) low: f32,
    pub(super) high: f32,
}

/// Computes one row.
///
/// # Safety
/// All rows, weights and operands of the epilogue are readable for one vector at every column, the
/// output is writable, and `has_width` said yes.
#[inline(always)]
pub(super) unsafe fn row<S: Simd>(s: S, width: usize, stride: usize, args: &RowArgs) {
    // SAFETY: by the caller's promise.
    unsafe {
        match (width, stride) {
            (3, 1) => groups::<S, 3, 1>(s, args),
            (3, _) => groups::<S, 3, 2>(s, args),
            (_, 1) => groups::<S, 5, 1>(s, args),
            _ => groups::<S, 5, 2>(s, args),
        }
    }
}

/// # Safety
/// See [`row`].
#[inline(always)]
unsafe fn groups<S: Simd, const K: usize, const STRIDE: usize>(s: S, args: &RowArgs) {
    let sevens = !args.out_width.is_multiple_of(8) && args.out_width.is_multiple_of(7);
    let mut x = 0;
    while x < args.out_width {
        // SAFETY: by the caller's promise; every group ends inside the row.
        x += unsafe {
            match args.out_width - x {
                7.. if sevens => group::<S, K, STRIDE, 7>(s, args, x),
                8.. => group::<S, K, STRIDE, 8>(s, args, x),
                4.. => group::<S, K, STRIDE, 4>(s, args, x),
                2.. => group::<S, K, STRIDE, 2>(s, args, x),
                _ => group::<S, K, STRIDE, 1>(s, args, x),
            }
        };
    }
}

/// `P` output columns from `x` on; returns `P`.
///
/// # Safety
/// See [`row`]; the columns exist.
#[inline(always)]
unsafe fn group<S: Simd, const K: usize, const STRIDE: usize, const P: usize>(
    s: S,
    args: &RowArgs,
    x: usize,
) -> usize {
    let span = (P - 1) * STRIDE + K;
    let first = x * STRIDE;
    // SAFETY: by the caller's promise.
    unsafe {
        if first >= args.pad && first - args.pad + span <= args.width {
            columns::<S, K, STRIDE, P, false>(s, args, x);
        } else {
            columns::<S, K, STRIDE, P, true>(s, args, x);
        }
    }
    P
}

/// # Safety
/// See [`row`]; the columns exist, and unless `EDGE` all their taps are pixels.
#[inline(always)]
unsafe fn columns<
    S: Simd,
    const K: usize,
    const STRIDE: usize,
    const P: usize,
    const EDGE: bool,
>(
    s: S,
    args: &RowArgs,
    x: usize,
) {
    let mut acc = [s.splat(0.0); P];
    let first = (x * STRIDE) as isize - args.pad as isize;
    let inside = |j: usize| {
        let column = first + j as isize;
        column >= 0 && column < args.width as isize
    };
    let mut weights = args.weights;
    // SAFETY: by the caller's promise; columns outside the image are left out.
    unsafe {
        for row in &args.rows[..args.count] {
            let w: [S::F; K] = from_fn(|k| s.load(weights.add(k * args.tap)));
            weights = weights.wrapping_add(K * args.tap);
            let start = row.wrapping_offset(first * args.column as isize);
            for j in 0..(P - 1) * STRIDE + K {
                if EDGE && !inside(j) {
                    continue;
                }
                let pixel = s.load(start.wrapping_add(j * args.column));
                for (k, &w) in w.iter().enumerate() {
                    if j >= k && (j - k).is_multiple_of(STRIDE) && (j - k) / STRIDE < P {
                        let p = (j - k) / STRIDE;
                        acc[p] = s.fma(pixel, w, acc[p]);
                    }
                }
            }
        }
        let (low, high) = (s.splat(args.low), s.splat(args.high));
        let bias = (!args.bias.is_null()).then(|| s.load(args.bias));
        for (p, acc) in acc.iter().enumerate() {
            let mut sum = *acc;
            if let Some(bias) = bias {
                sum = s.add(sum, bias);
            }
            if !args.residual.is_null() {
                sum = s.add(sum, s.load(args.residual.add((x + p) * args.residual_column)));
            }
            s.store(args.out.add((x + p) * args.out_column), s.min(high, s.max(low, sum)));
        }
    }
}
