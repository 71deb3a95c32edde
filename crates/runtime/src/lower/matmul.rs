//! Matrix products.
//!
//! A constant right operand is packed once and shared by every plan (`gemm_f32`, or `gemm_bf16`
//! where bf16 is asked for and pays). Two operands known only while running are multiplied in place
//! (`matmul_f32`). Other types run direct loops.

use landfall_graph::Op;
use landfall_kernels::elementwise::Broadcast;
use landfall_kernels::generic::{Product, matmul_direct};
use landfall_kernels::{
    Activation, Epilogue, MatMul, MatrixLayout, PANEL, PackedB, PackedBf16, RowsMut, RowsRef, gemm,
    gemm_bf16, matmul, pack_b, pack_bf16, packed_b_len, packed_bf16_len,
};
use landfall_tensor::{DType, Element, Shape, Tensor};

use super::activation::activation;
use super::bf16::OperandPrecision;
use super::types::number_type;
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::MatMul => lower_matmul(site, Activation::None, false),
        Op::FusedMatMul(op) => lower_matmul(site, activation(op.activation), op.trans_b),
        Op::Gemm(_) => lower_gemm(site),
        _ => return None,
    })
}

fn boxed(kernel: impl Kernel + 'static) -> Result<Lowered, KernelError> {
    Ok(Lowered::Kernel(Box::new(kernel)))
}

/// Bytes of a transposed matrix that are brought into aligned memory at a time.
const PIECE_BYTES: usize = 4 << 20;

/// The constant operand `index`, `[k, n]` or transposed, in panels of f32 or bf16.
fn packed(
    site: &Site<'_>,
    index: usize,
    (k, n, transposed): (usize, usize, bool),
    operands: &OperandPrecision,
) -> Result<Tensor, KernelError> {
    if operands.is_bf16() {
        let name = if transposed { "panels_bf16_of_transposed" } else { "panels_bf16" };
        return site.packed(index, name, |tensor| {
            pack(tensor, (k, n, transposed), packed_bf16_len(k, n), pack_bf16)
        });
    }
    let name = if transposed { "panels_of_transposed" } else { "panels" };
    site.packed(index, name, |tensor| pack(tensor, (k, n, transposed), packed_b_len(k, n), pack_b))
}

/// Packs a matrix that may lie across its alignment, the columns of a transposed one piece by
/// piece.
fn pack<T: Element>(
    tensor: &Tensor,
    (k, n, transposed): (usize, usize, bool),
    len: usize,
    pack: impl Fn(&[f32], MatrixLayout, &mut [T]),
) -> Result<Tensor, KernelError> {
    Tensor::build(Shape::from([len]), |out| {
        if !transposed {
            pack(tensor.aligned().as_slice()?, MatrixLayout::k_by_n(k, n), out);
            return Ok(());
        }
        let each = len / n.div_ceil(PANEL).max(1);
        let panels = (PIECE_BYTES / (k * PANEL * size_of::<f32>()).max(1)).max(1);
        for first in (0..n).step_by(panels * PANEL) {
            let columns = first..n.min(first + panels * PANEL);
            let missing = || KernelError::Invalid("a matrix of the wrong size".into());
            let piece = tensor.rows(columns.clone()).ok_or_else(missing)?;
            let layout = MatrixLayout::n_by_k(k, columns.len());
            let out = &mut out[first / PANEL * each..columns.end.div_ceil(PANEL) * each];
            pack(piece.aligned().as_slice()?, layout, out);
            piece.release();
        }
        Ok(())
    })
}

/// `out [m, n] = activation(a [m, k] b + bias + residual)` with packed `b`.
struct Packed {
    operands: OperandPrecision,
    m: usize,
    k: usize,
    n: usize,
    b: Tensor,
    activation: Activation,
    bias: Option<usize>,
    residual: Option<usize>,
}

impl Kernel for Packed {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let a = io.input(0)?.as_slice::<f32>()?;
        let bias =
            self.bias.and_then(|i| io.optional(i)).map(|v| v.as_slice::<f32>()).transpose()?;
        let residual = self.residual.and_then(|i| io.optional(i));
        let residual = residual.map(|view| view.as_slice::<f32>()).transpose()?;
        let residual = residual.map(|data| RowsRef { data, stride: self.n });
        let epilogue = Epilogue { bias, residual, activation: self.activation };
        let (exec, out) = (io.exec, io.outputs[0].as_mut_slice::<f32>()?);
        let (rows, out) =
            (RowsRef { data: a, stride: self.k }, RowsMut { data: out, stride: self.n });
        let wrong = || KernelError::Invalid("packed weights of the wrong size".into());
        if self.operands.is_bf16() {
            let b = PackedBf16::new(self.b.as_slice()?, self.k, self.n).ok_or_else(wrong)?;
            gemm_bf16(exec, self.m, rows, b, &epilogue, out);
        } else {
            let b = PackedB::new(self.b.as_slice()?, self.k, self.n).ok_or_else(wrong)?;
            gemm(exec, self.m, rows, b, &epilogue, out);
        }
        Ok(())
    }

    fn has_packed(&self, index: usize) -> bool {
        index == 1
    }

    fn info(&self) -> KernelInfo {
        self.operands.info("gemm_f32", "gemm_bf16")
    }
}

fn lower_matmul(
    site: &Site<'_>,
    activation: Activation,
    trans_b: bool,
) -> Result<Lowered, KernelError> {
    let (a, b) = (site.shape(0)?, site.shape(1)?);
    let isa = site.target.cpu.isa().name();
    let f32s = site.dtype(0)? == DType::F32;
    if f32s && site.is_constant(1) && b.rank() == 2 && a.rank() >= 2 {
        let (k, n) = if trans_b { (b[1], b[0]) } else { (b[0], b[1]) };
        let m = a[..a.rank() - 1].iter().product();
        let operands = OperandPrecision::of(site, k, n);
        let b = packed(site, 1, (k, n, trans_b), &operands)?;
        let (bias, residual) = (Some(2), Some(3));
        return boxed(Packed { operands, m, k, n, b, activation, bias, residual });
    }
    if trans_b {
        return KernelError::unsupported(
            "a transposed operand that is variable or of another type",
        );
    }
    // A vector is a matrix of one row or one column, which the result then drops.
    let a_matrix = if a.rank() == 1 { Shape::from([1, a[0]]) } else { a };
    let b_matrix = if b.rank() == 1 { Shape::from([b[0], 1]) } else { b };
    let (m, k) = (a_matrix[a_matrix.rank() - 2], a_matrix[a_matrix.rank() - 1]);
    let n = b_matrix[b_matrix.rank() - 1];
    let (a_batch, b_batch) = (&a_matrix[..a_matrix.rank() - 2], &b_matrix[..b_matrix.rank() - 2]);
    let batch = landfall_tensor::broadcast(a_batch, b_batch)?;
    let pattern = Broadcast::new(&batch, &[a_batch, b_batch])?;
    let epilogue = activation != Activation::None || site.has(2) || site.has(3);
    if epilogue && (!f32s || site.has(3)) {
        return KernelError::unsupported("a fused product of variable operands or another type");
    }
    boxed(Batched { isa, m, k, n, pattern, activation })
}

/// Products of operands known only while running.
struct Batched {
    isa: &'static str,
    m: usize,
    k: usize,
    n: usize,
    /// Of (a, b) over the batch axes.
    pattern: Broadcast,
    activation: Activation,
}

impl Kernel for Batched {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (a, b, exec) = (io.input(0)?, io.input(1)?, io.exec);
        let bias = io.optional(2).map(|view| view.as_slice::<f32>()).transpose()?;
        let Batched { m, k, n, .. } = *self;
        let out = &mut io.outputs[0];
        let (row, steps) =
            (self.pattern.row(), [self.pattern.row_stride(0), self.pattern.row_stride(1)]);
        if a.dtype() == DType::F32 {
            let (a, b, out) = (a.as_slice()?, b.as_slice()?, out.as_mut_slice()?);
            let shape = MatMul {
                a_batch_stride: steps[0] * m * k,
                b_batch_stride: steps[1] * k * n,
                ..MatMul::contiguous(row, m, k, n)
            };
            self.pattern.walk::<2>(0, self.pattern.rows(), |r, [i, j]| {
                let (a, b) = (&a[i * m * k..], &b[j * k * n..]);
                let out = &mut out[r * row * m * n..][..row * m * n];
                matmul(exec, &shape, a, b, bias, self.activation, out);
            });
            return Ok(());
        }
        let product = Product { m, k, n, a: [k, 1], b: [n, 1] };
        number_type!(a.dtype(), T => {
            let (a, b, out) = (a.as_slice::<T>()?, b.as_slice()?, out.as_mut_slice()?);
            self.pattern.walk::<2>(0, self.pattern.rows(), |r, [i, j]| {
                for s in 0..row {
                    let a = &a[(i + s * steps[0]) * m * k..];
                    let b = &b[(j + s * steps[1]) * k * n..];
                    let out = &mut out[(r * row + s) * m * n..][..m * n];
                    matmul_direct::<T>(exec, &product, a, b, out);
                }
            });
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo {
            kernel: "matmul",
            isa: self.isa,
            precision: "any",
            reason: "neither operand is a constant matrix".into(),
        }
    }
}

/// `alpha A' B' + beta C` in direct loops, where the packed kernel does not fit.
struct DirectGemm {
    product: Product,
    alpha: f32,
    beta: f32,
    /// Of (result, C).
    c: Option<Broadcast>,
}

fn lower_gemm(site: &Site<'_>) -> Result<Lowered, KernelError> {
    let Op::Gemm(op) = site.op else { return KernelError::unsupported("not a Gemm") };
    let (a, b, out) = (site.shape(0)?, site.shape(1)?, site.output_shape(0)?);
    let (m, n) = (out[0], out[1]);
    let k = if op.trans_a { a[0] } else { a[1] };
    let c_shape = if site.has(2) { Some(site.shape(2)?) } else { None };
    let plain_c = c_shape.as_ref().is_none_or(|c| **c == [n] || **c == [1, n]);
    let fits = site.dtype(0)? == DType::F32
        && site.is_constant(1)
        && !op.trans_a
        && op.alpha == 1.0
        && (c_shape.is_none() || (op.beta == 1.0 && plain_c));
    if fits {
        let operands = OperandPrecision::of(site, k, n);
        let b = packed(site, 1, (k, n, op.trans_b), &operands)?;
        let activation = Activation::None;
        return boxed(Packed { operands, m, k, n, b, activation, bias: Some(2), residual: None });
    }
    let product = Product {
        m,
        k,
        n,
        a: if op.trans_a { [1, a[1]] } else { [a[1], 1] },
        b: if op.trans_b { [1, b[1]] } else { [b[1], 1] },
    };
    let c = c_shape.map(|c| Broadcast::new(&out, &[&out, &c])).transpose()?;
    boxed(DirectGemm { product, alpha: op.alpha, beta: op.beta, c })
}

impl Kernel for DirectGemm {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (a, b, exec) = (io.input(0)?, io.input(1)?, io.exec);
        let c = io.optional(2);
        let out = &mut io.outputs[0];
        number_type!(a.dtype(), T => {
            use landfall_kernels::elementwise::CastElement;
            let out = out.as_mut_slice::<T>()?;
            matmul_direct::<T>(exec, &self.product, a.as_slice()?, b.as_slice()?, out);
            let (alpha, beta) = (f64::from(self.alpha), f64::from(self.beta));
            if alpha != 1.0 {
                out.iter_mut().for_each(|o| *o = T::from_real(o.to_real() * alpha));
            }
            if let (Some(pattern), Some(c)) = (&self.c, c) {
                let c = c.as_slice::<T>()?;
                let (row, step) = (pattern.row(), pattern.row_stride(1));
                pattern.walk::<2>(0, pattern.rows(), |r, [_, j]| {
                    for s in 0..row {
                        let o = &mut out[r * row + s];
                        *o = T::from_real(o.to_real() + beta * c[j + s * step].to_real());
                    }
                });
            }
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("gemm_direct", "any").because(
            "needs f32, a constant right operand, no transposed left operand, alpha 1 and a bias \
             along the columns",
        )
    }
}
