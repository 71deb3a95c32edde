//! Products with weights of few bits.

use landfall_graph::Op;
use landfall_kernels::{NBits, PackedNBits, matmul_nbits};
use landfall_tensor::{DType, Shape, Tensor};

use super::quantization::floats;
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::MatMulNBits(op) => {
            shape(op.k, op.n, op.bits, op.block_size).and_then(|weights| lower_nbits(site, weights))
        }
        _ => return None,
    })
}

fn shape(k: i64, n: i64, bits: i64, block: i64) -> Result<NBits, KernelError> {
    let positive = |value: i64| usize::try_from(value).ok().filter(|&v| v > 0 && v < 1 << 31);
    match (positive(k), positive(n), bits, positive(block)) {
        (Some(k), Some(n), 4 | 8, Some(block)) if block.is_multiple_of(8) => {
            Ok(NBits { k, n, bits: bits as usize, block })
        }
        _ => KernelError::unsupported(format!(
            "needs positive K and N, 4 or 8 bits and a block_size divisible by 8, found K={k}, \
             N={n}, bits={bits}, block_size={block}"
        )),
    }
}

/// `a [..., K]` times `[K, N]`.
struct Product {
    isa: &'static str,
    shape: NBits,
    data: Tensor,
    scales: Tensor,
    zero_points: Tensor,
}

/// Of `(a, b, scales, zero_points?, g_idx?, bias?)`.
fn lower_nbits(site: &Site<'_>, shape: NBits) -> Result<Lowered, KernelError> {
    if site.dtype(0)? != DType::F32 || site.has(4) {
        return KernelError::unsupported("needs f32 operands and blocks in order (no g_idx)");
    }
    let a = site.shape(0)?;
    if a.last() != Some(&shape.k) {
        return KernelError::invalid(format!("an operand of shape {a} has not K={}", shape.k));
    }
    let (Some(scales), true) = (site.tensor(2), site.is_constant(3) || !site.has(3)) else {
        return KernelError::unsupported("needs constant weights, scales and zero points");
    };
    let scales = floats(scales.view())?;
    let expected = shape.n * shape.blocks();
    if scales.len() != expected {
        let found = scales.len();
        return KernelError::invalid(format!("expected {expected} scales, found {found}"));
    }
    let blocks = shape.blocks();
    let data = site.packed(1, "nbits_panels", |tensor| pack(tensor, shape))?;
    let parameters = |values: &[f32]| {
        let mut out = vec![0f32; shape.parameters_len()];
        shape.pack_parameters(|n, block| values[n * blocks + block], &mut out);
        Ok(Tensor::from_slice(Shape::from([out.len()]), &out)?)
    };
    let scales = site.packed(2, "nbits_scales", |_| parameters(&scales))?;
    let zeros = zero_points(site, shape)?;
    let zero_points = match site.tensor(3) {
        Some(_) => site.packed(3, "nbits_zeros", |_| parameters(&zeros))?,
        None => parameters(&zeros)?,
    };
    let isa = site.target.cpu.isa().name();
    Ok(Lowered::Kernel(Box::new(Product { isa, shape, data, scales, zero_points })))
}

fn pack(tensor: &Tensor, shape: NBits) -> Result<Tensor, KernelError> {
    let source = tensor.bytes().unwrap_or(&[]);
    if tensor.dtype() != DType::U8 || source.len() != shape.source_len() {
        return KernelError::invalid(format!(
            "expected {} bytes of weights, found {} of {}",
            shape.source_len(),
            source.len(),
            tensor.dtype()
        ));
    }
    let mut words = vec![0u32; shape.packed_len()];
    shape.pack(source, &mut words);
    Ok(Tensor::from_slice(Shape::from([words.len()]), &words)?)
}

/// One zero point for each column and block: the middle of the range unless given, as reals or as
/// packed as the weights.
fn zero_points(site: &Site<'_>, shape: NBits) -> Result<Vec<f32>, KernelError> {
    let (blocks, count) = (shape.blocks(), shape.n * shape.blocks());
    let Some(tensor) = site.tensor(3) else {
        return Ok(vec![(1u32 << (shape.bits - 1)) as f32; count]);
    };
    let row = (blocks * shape.bits).div_ceil(8);
    let zeros = match tensor.bytes() {
        Some(bytes) if tensor.dtype() == DType::U8 && bytes.len() == shape.n * row => (0..count)
            .map(|i| match (i / blocks * row, i % blocks) {
                (start, block) if shape.bits == 4 => {
                    f32::from(bytes[start + block / 2] >> (block % 2 * 4) & 15)
                }
                (start, block) => f32::from(bytes[start + block]),
            })
            .collect(),
        _ if tensor.dtype().is_float() => floats(tensor.view())?,
        _ => Vec::new(),
    };
    if zeros.len() != count {
        return KernelError::invalid(format!(
            "zero points of shape {} and {} do not fit {} columns of {blocks} blocks",
            tensor.shape(),
            tensor.dtype(),
            shape.n
        ));
    }
    Ok(zeros)
}

impl Kernel for Product {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (a, exec, shape) = (io.input(0)?.as_slice::<f32>()?, io.exec, self.shape);
        let bias = io.optional(5).map(|view| view.as_slice::<f32>()).transpose()?;
        if bias.is_some_and(|bias| bias.len() != shape.n) {
            return KernelError::invalid(format!("the bias does not have {} elements", shape.n));
        }
        let data = self.data.as_slice()?;
        let (scales, zero_points) = (self.scales.as_slice()?, self.zero_points.as_slice()?);
        let b = PackedNBits { shape, data, scales, zero_points };
        let m = a.len() / shape.k;
        matmul_nbits(exec, m, a, b, bias, io.outputs[0].as_mut_slice()?);
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        let kernel = if self.shape.bits == 4 { "matmul_4bits" } else { "matmul_8bits" };
        KernelInfo { kernel, isa: self.isa, precision: "f32", reason: String::new() }
    }
}
