//! Matrix products.

use landfall_graph::Activation;
use landfall_kernels::elementwise::Broadcast;
use landfall_kernels::{
    Bytes, DynamicEpilogue, Int8Epilogue, Int8Output, MatrixLayout, PackedInt8, column_sums_len,
    gemm_int8, matmul_dynamic_int8, matmul_int8, pack_int8, packed_int8_len,
};
use landfall_tensor::{DType, Shape};

use super::super::activation::activation;
use super::super::quantization::{floats, integers};
use super::{Clamp, Packed, Parameters, Ports, boxed, known, left, raw, signed, with_parameters};
use crate::kernel::Io;
use crate::lower::{Lowered, Site};
use crate::{Kernel, KernelError, KernelInfo};

fn packed(site: &Site<'_>, index: usize, [k, n]: [usize; 2]) -> Result<Packed, KernelError> {
    let is_signed = signed(site.dtype(index)?)?;
    let lens = (packed_int8_len(k, n), column_sums_len(n));
    Packed::new(site, index, ("int8_panels", 1), lens, |tensor, data, sums| {
        pack_int8(raw(tensor.view())?, is_signed, MatrixLayout::k_by_n(k, n), data, sums);
        Ok(())
    })
}

fn view(
    packed: &Packed,
    shape: (usize, usize),
    signed: bool,
) -> Result<PackedInt8<'_>, KernelError> {
    let (data, sums) = packed.parts()?;
    PackedInt8::new(data, sums, shape, signed)
        .ok_or_else(|| KernelError::Invalid("packed weights of the wrong size".into()))
}

/// `[..., M, K]` times `[..., K, N]`.
struct Product {
    isa: &'static str,
    ports: Ports,
    clamp: Clamp,
    m: usize,
    k: usize,
    n: usize,
    /// The right operand, if it is one constant matrix.
    packed: Option<Packed>,
    right_signed: bool,
    parameters: Option<Parameters>,
    /// Of (a, b) over the batch axes.
    batch: Broadcast,
}

pub(super) fn lower(site: &Site<'_>, ports: Ports, clamp: Clamp) -> Result<Lowered, KernelError> {
    let (a, b) = (site.shape(0)?, site.shape(ports.right)?);
    signed(site.dtype(0)?)?;
    let right_signed = signed(site.dtype(ports.right)?)?;
    // A vector is a matrix of one row or one column, which the result then drops.
    let a = if a.rank() == 1 { Shape::from([1, a[0]]) } else { a };
    let b = if b.rank() == 1 { Shape::from([b[0], 1]) } else { b };
    if a.rank() < 2 || b.rank() < 2 {
        return KernelError::invalid("a scalar cannot be an operand of a matrix product");
    }
    let (a_batch, a_tail) = a.split_at(a.rank() - 2);
    let (b_batch, b_tail) = b.split_at(b.rank() - 2);
    let (mut m, k, n) = (a_tail[0], a_tail[1], b_tail[1]);
    if b_tail[0] != k {
        return KernelError::invalid(format!("inner extents {k} and {} differ", b_tail[0]));
    }
    let constant = site.is_constant(ports.right) && b.rank() == 2;
    let batch = if constant {
        m = a[..a.rank() - 1].iter().product();
        Broadcast::new(&[], &[&[], &[]])?
    } else {
        let batch = landfall_tensor::broadcast(a_batch, b_batch)?;
        Broadcast::new(&batch, &[a_batch, b_batch])?
    };
    let packed = constant.then(|| packed(site, ports.right, [k, n])).transpose()?;
    let parameters = known(site, &ports, n, clamp)?;
    let isa = site.target.cpu.isa().name();
    boxed(Product { isa, ports, clamp, m, k, n, packed, right_signed, parameters, batch })
}

impl Product {
    fn multiply(&self, parameters: &Parameters, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (left, exec) = (left(io, &self.ports)?, io.exec);
        let Product { m, k, n, .. } = *self;
        let right = io.input(self.ports.right)?;
        let out = &mut io.outputs[0];
        if let Some(packed) = &self.packed {
            let b = view(packed, (k, n), self.right_signed)?;
            gemm_int8(exec, m, left, k, b, parameters.epilogue(out, n)?);
            return Ok(());
        }
        let right = raw(right)?;
        let (row, steps) = (self.batch.row(), [0, 1].map(|i| self.batch.row_stride(i)));
        let Int8Epilogue { right_zeros, bias, mut output, .. } = parameters.epilogue(out, n)?;
        self.batch.walk::<2>(0, self.batch.rows(), |r, [i, j]| {
            for s in 0..row {
                let data = &left.data[(i + s * steps[0]) * m * k..][..m * k];
                let b = &right[(j + s * steps[1]) * k * n..][..k * n];
                let output = part(&mut output, (r * row + s) * m * n, m * n);
                let epilogue = Int8Epilogue { right_zeros, bias, output, stride: n };
                let left = Bytes { data, ..left };
                matmul_int8(exec, [m, k, n], left, b, self.right_signed, epilogue);
            }
        });
        Ok(())
    }
}

/// Elements `start..start + len` of an output.
fn part<'a>(output: &'a mut Int8Output<'_>, start: usize, len: usize) -> Int8Output<'a> {
    match output {
        Int8Output::I32(data) => Int8Output::I32(&mut data[start..][..len]),
        Int8Output::Bytes { data, scales, zero_point, low, high } => Int8Output::Bytes {
            data: &mut data[start..][..len],
            scales,
            zero_point: *zero_point,
            low: *low,
            high: *high,
        },
        Int8Output::F32 { data, factor, scales, bias, activation } => Int8Output::F32 {
            data: &mut data[start..][..len],
            factor: *factor,
            scales,
            bias: *bias,
            activation: *activation,
        },
    }
}

impl Kernel for Product {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let how = (&self.ports, self.n, self.clamp);
        let known = self.parameters.as_ref();
        with_parameters(known, io, how, |parameters, io| self.multiply(parameters, io))
    }

    fn info(&self) -> KernelInfo {
        let info = KernelInfo {
            kernel: "gemm_int8",
            isa: self.isa,
            precision: "int8",
            reason: String::new(),
        };
        match self.packed {
            Some(_) => info,
            None => info.because("packs the right operand in each run: it is not constant"),
        }
    }
}

/// `f32` rows, quantised while running, times constant 8-bit weights.
struct Dynamic {
    isa: &'static str,
    m: usize,
    k: usize,
    n: usize,
    b: Packed,
    right_signed: bool,
    right_zeros: Option<Vec<i32>>,
    scales: Vec<f32>,
    activation: landfall_kernels::Activation,
}

/// Of `(a, b, b_scale, b_zero?, bias?)`.
pub(super) fn lower_dynamic(site: &Site<'_>, function: Activation) -> Result<Lowered, KernelError> {
    let (a, b) = (site.shape(0)?, site.shape(1)?);
    let (Some(scale), true) = (site.tensor(2), site.is_constant(3) || !site.has(3)) else {
        return KernelError::unsupported("needs constant scales and zero points of the weights");
    };
    if !site.is_constant(1) || b.rank() != 2 || a.rank() < 2 || a[a.rank() - 1] != b[0] {
        return KernelError::unsupported(format!(
            "needs a constant matrix whose rows are the columns of the left operand, found shapes \
             {a} and {b}"
        ));
    }
    if site.dtype(0)? != DType::F32 {
        return KernelError::unsupported("the left operand must be f32");
    }
    let (k, n) = (b[0], b[1]);
    let m = a[..a.rank() - 1].iter().product();
    let scales = floats(scale.view())?;
    let right_zeros = match site.tensor(3) {
        Some(zero) => match integers(zero.view())? {
            one if one.len() == 1 => Some(vec![one[0]; n]),
            zeros => Some(zeros),
        },
        None => None,
    };
    let fits = |len: usize| len == 1 || len == n;
    if !fits(scales.len()) || right_zeros.as_ref().is_some_and(|zeros| zeros.len() != n) {
        return KernelError::unsupported(format!("needs one scale and zero point, or {n} of each"));
    }
    let right_zeros = right_zeros.filter(|zeros| zeros.iter().any(|&zero| zero != 0));
    let right_signed = signed(site.dtype(1)?)?;
    let b = packed(site, 1, [k, n])?;
    let activation = activation(function);
    let isa = site.target.cpu.isa().name();
    boxed(Dynamic { isa, m, k, n, b, right_signed, right_zeros, scales, activation })
}

impl Kernel for Dynamic {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let a = io.input(0)?.as_slice::<f32>()?;
        let bias = io.optional(4).map(|view| view.as_slice::<f32>()).transpose()?;
        if bias.is_some_and(|bias| bias.len() != self.n) {
            return KernelError::invalid(format!("the bias does not have {} elements", self.n));
        }
        let epilogue = DynamicEpilogue {
            right_zeros: self.right_zeros.as_deref(),
            scales: &self.scales,
            bias,
            activation: self.activation,
        };
        let b = view(&self.b, (self.k, self.n), self.right_signed)?;
        let exec = io.exec;
        matmul_dynamic_int8(exec, self.m, a, b, epilogue, io.outputs[0].as_mut_slice()?);
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        let reason = String::new();
        KernelInfo { kernel: "gemm_dynamic_int8", isa: self.isa, precision: "int8", reason }
    }
}
