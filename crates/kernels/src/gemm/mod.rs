//! Matrix products `out[M, N] = activation(a[M, K] · b[K, N] + bias[N] + residual[M, N])` of f32,
//! with operands as they are or rounded to bf16 (`bf16`).

mod bf16;
mod drive;
mod pack;
mod reference;
#[cfg(test)]
mod tests;
mod tile;

pub(crate) use bf16::pack_bf16_with;
pub use bf16::{PackedBf16, gemm_bf16, pack_bf16, packed_bf16_len};
pub(crate) use drive::{Extents, Product, Right, grid, run, run_part};
pub use pack::{MatrixLayout, PANEL, PackedB, pack_b, packed_b_len, unpack_b};
pub(crate) use tile::{Finish, widths};

use std::ptr;

use crate::math::Activation;
use crate::rows::DenseRows;
use crate::shared::SharedMut;
use crate::{Exec, parallel};

/// Rows of f32 at a constant distance.
#[derive(Debug, Clone, Copy)]
pub struct RowsRef<'a> {
    /// Elements, the first row at 0.
    pub data: &'a [f32],
    /// Elements from one row to the next.
    pub stride: usize,
}

/// Rows of f32 to write; what lies between them is untouched, so a concatenation along columns is
/// several calls with one stride.
#[derive(Debug)]
pub struct RowsMut<'a> {
    /// Elements, the first row at 0.
    pub data: &'a mut [f32],
    /// Elements from one row to the next, at least the number of columns.
    pub stride: usize,
}

/// What follows the sums while they are in registers or L1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// `[N]`, added first.
    pub bias: Option<&'a [f32]>,
    /// `[M, N]`, added before the activation.
    pub residual: Option<RowsRef<'a>>,
    /// Applied last.
    pub activation: Activation,
}

impl<'a> Epilogue<'a> {
    /// Makes a product of checked operands.
    ///
    /// # Panics
    /// If an operand is shorter than `[rows, n]` demands.
    pub(crate) fn product<'p>(
        &self,
        rows: &'p dyn crate::rows::RowSource,
        right: Right,
        n: usize,
        out: &'p mut RowsMut<'_>,
    ) -> Product<'p>
    where
        'a: 'p,
    {
        let m = rows.rows();
        let fits = |len: usize, stride: usize| m == 0 || n == 0 || (m - 1) * stride + n <= len;
        assert!(fits(out.data.len(), out.stride), "output shorter than [{m}, {n}]");
        assert!(m < 2 || out.stride >= n, "output rows overlap");
        assert!(self.bias.is_none_or(|b| b.len() == n), "bias is not [{n}]");
        assert!(self.residual.is_none_or(|r| fits(r.data.len(), r.stride)), "residual too short");
        Product {
            rows,
            right,
            n,
            out: out.data.as_mut_ptr(),
            out_stride: out.stride,
            bias: self.bias.map_or(ptr::null(), <[f32]>::as_ptr),
            residual: self.residual.map_or(ptr::null(), |r| r.data.as_ptr()),
            residual_stride: self.residual.map_or(0, |r| r.stride),
            activation: self.activation,
        }
    }
}

/// `out[m, n] = activation(a[m, k] · b[k, n] + bias + residual)` with a packed `b`.
///
/// # Panics
/// If an operand is shorter than its shape.
pub fn gemm(
    exec: Exec<'_>,
    m: usize,
    a: RowsRef<'_>,
    b: PackedB<'_>,
    epilogue: &Epilogue<'_>,
    mut out: RowsMut<'_>,
) {
    let rows = DenseRows::new(a.data, m, b.k(), a.stride);
    run(exec, &epilogue.product(&rows, Right::Packed(b.as_ptr()), b.n(), &mut out));
}

/// The same with a `b` that a call just before read too: it lies in caches as far as it can.
///
/// # Panics
/// If an operand is shorter than its shape.
pub(crate) fn gemm_again(
    exec: Exec<'_>,
    m: usize,
    a: RowsRef<'_>,
    b: PackedB<'_>,
    epilogue: &Epilogue<'_>,
    mut out: RowsMut<'_>,
) {
    let rows = DenseRows::new(a.data, m, b.k(), a.stride);
    run(exec, &epilogue.product(&rows, Right::PackedAgain(b.as_ptr()), b.n(), &mut out));
}

/// A batch of products of matrices known only at run time: `batch` pairs, each operand with its
/// distance from one batch index to the next (0 repeats it).
#[derive(Debug, Clone, Copy)]
pub struct MatMul {
    /// Products.
    pub batch: usize,
    /// Rows of each left matrix.
    pub m: usize,
    /// Elements between left rows; the depth is contiguous.
    pub a_stride: usize,
    /// Elements between left matrices.
    pub a_batch_stride: usize,
    /// Shape and strides of each right matrix.
    pub b: MatrixLayout,
    /// Elements between right matrices.
    pub b_batch_stride: usize,
    /// Elements between output rows.
    pub out_stride: usize,
    /// Elements between output matrices; at least what one spans.
    pub out_batch_stride: usize,
}

impl MatMul {
    /// Contiguous `a[batch, m, k]`, `b[batch, k, n]`, `out[batch, m, n]`.
    pub fn contiguous(batch: usize, m: usize, k: usize, n: usize) -> MatMul {
        MatMul {
            batch,
            m,
            a_stride: k,
            a_batch_stride: m * k,
            b: MatrixLayout::k_by_n(k, n),
            b_batch_stride: k * n,
            out_stride: n,
            out_batch_stride: m * n,
        }
    }

    fn check(&self, a: &[f32], b: &[f32], out: &[f32]) {
        let MatMul { m, b: MatrixLayout { k, n, .. }, .. } = *self;
        let span = |rows: usize, stride: usize, cols: usize| match (rows, cols) {
            (0, _) | (_, 0) => 0,
            _ => (rows - 1) * stride + cols,
        };
        let last = self.batch - 1;
        let out_span = span(m, self.out_stride, n);
        assert!(last * self.a_batch_stride + span(m, self.a_stride, k) <= a.len(), "a too short");
        assert!(last * self.b_batch_stride + self.b.span() <= b.len(), "b too short");
        assert!(last * self.out_batch_stride + out_span <= out.len(), "output too short");
        assert!(m < 2 || self.out_stride >= n, "output rows overlap");
        assert!(self.disjoint_outputs(out_span), "output matrices overlap");
    }

    /// Output matrices may also interleave by columns, as the heads of attention do.
    fn disjoint_outputs(&self, span: usize) -> bool {
        let interleaved = self.out_batch_stride >= self.b.n
            && (self.batch - 1) * self.out_batch_stride + self.b.n <= self.out_stride;
        self.batch == 1 || self.out_batch_stride >= span || interleaved
    }
}

/// `out[i] = activation(a[i] · b[i] + bias)` for each batch index `i`.
///
/// # Panics
/// If an operand is shorter than its shape and strides demand, or output matrices overlap.
pub fn matmul(
    exec: Exec<'_>,
    shape: &MatMul,
    a: &[f32],
    b: &[f32],
    bias: Option<&[f32]>,
    activation: Activation,
    out: &mut [f32],
) {
    if shape.batch == 0 {
        return;
    }
    shape.check(a, b, out);
    let MatMul { m, b: MatrixLayout { k, n, k_stride, n_stride }, .. } = *shape;
    assert!(bias.is_none_or(|bias| bias.len() == n), "bias is not [{n}]");
    let shared = SharedMut::new(out);
    let one = |exec: Exec<'_>, index: usize| {
        let rows = DenseRows {
            start: a.as_ptr().wrapping_add(index * shape.a_batch_stride),
            rows: m,
            depth: k,
            stride: shape.a_stride,
        };
        let start = b.as_ptr().wrapping_add(index * shape.b_batch_stride);
        let product = Product {
            rows: &rows,
            right: Right::Strided { start, k_stride, n_stride },
            n,
            out: shared.ptr().wrapping_add(index * shape.out_batch_stride),
            out_stride: shape.out_stride,
            bias: bias.map_or(ptr::null(), <[f32]>::as_ptr),
            residual: ptr::null(),
            residual_stride: 0,
            activation,
        };
        run(exec, &product);
    };
    if shape.batch < exec.pool.threads() {
        (0..shape.batch).for_each(|index| one(exec, index));
    } else {
        let cost = m.saturating_mul(n).saturating_mul(k) / 8;
        parallel::over_range(exec, shape.batch, cost, &|range| {
            let exec = Exec { cpu: exec.cpu, pool: crate::Pool::inline() };
            range.for_each(|index| one(exec, index));
        });
    }
}
