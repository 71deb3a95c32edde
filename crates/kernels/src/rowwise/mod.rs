//! Kernels over rows `[rows, len]`: softmax and normalisation. A row is never split between
//! threads, so its result does not depend on their number.

mod norm;
mod softmax;
#[cfg(test)]
mod tests;

pub use norm::{NormKind, Normalize, normalize};
pub use softmax::{Mask, Softmax, softmax};

use crate::simd::{Simd, SimdOp};

/// Runs `body` for each vector of a row: `(offset, lanes)`, `lanes < S::LANES` only in the last.
#[inline(always)]
pub(crate) fn each_vector<S: Simd>(_: S, len: usize, mut body: impl FnMut(usize, usize)) {
    let mut i = 0;
    while i + S::LANES <= len {
        body(i, S::LANES);
        i += S::LANES;
    }
    if i < len {
        body(i, len - i);
    }
}

/// A possibly partial vector; absent lanes are zero.
///
/// # Safety
/// `lanes` elements are readable.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(s: S, p: *const f32, lanes: usize) -> S::F {
    // SAFETY: by the caller's promise.
    unsafe { if lanes == S::LANES { s.load(p) } else { s.load_n(p, lanes) } }
}

/// # Safety
/// `lanes` elements are writable.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd>(s: S, p: *mut f32, x: S::F, lanes: usize) {
    // SAFETY: by the caller's promise.
    unsafe { if lanes == S::LANES { s.store(p, x) } else { s.store_n(p, x, lanes) } }
}

/// Work over consecutive rows on one thread.
pub(crate) trait RowKernel {
    fn row<S: Simd>(&self, s: S, row: usize, data: &mut [f32]);
}

/// Rows `first..` of a kernel, in place.
pub(crate) struct EachRow<'a, K> {
    pub(crate) kernel: &'a K,
    pub(crate) first: usize,
    pub(crate) rows: &'a mut [f32],
    pub(crate) len: usize,
}

impl<K: RowKernel> SimdOp for EachRow<'_, K> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        for (i, row) in self.rows.chunks_exact_mut(self.len).enumerate() {
            self.kernel.row(s, self.first + i, row);
        }
    }
}
