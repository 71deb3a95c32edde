//! Between real tensors and quantised ones.

use landfall_graph::Op;
use landfall_graph::infer::resolve_axis;
use landfall_kernels::{Division, Parameters, Spread, dequantize, dynamic_parameters, quantize};
use landfall_tensor::{DType, Shape, TensorView};

use super::types::{dispatch, number_type};
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::QuantizeLinear(op) => lower_quantize(site, op.axis, op.block_size, op.precision),
        Op::DequantizeLinear(op) => lower_dequantize(site, op.axis, op.block_size),
        Op::DynamicQuantizeLinear => boxed(DynamicQuantize { isa: site.target.cpu.isa().name() }),
        _ => return None,
    })
}

fn boxed(kernel: impl Kernel + 'static) -> Result<Lowered, KernelError> {
    Ok(Lowered::Kernel(Box::new(kernel)))
}

/// The elements as `f32`.
pub(super) fn floats(view: TensorView<'_>) -> Result<Vec<f32>, KernelError> {
    use landfall_kernels::elementwise::CastElement;
    number_type!(view.dtype(), T => {
        Ok(view.as_slice::<T>()?.iter().map(|x| x.to_real() as f32).collect())
    })
}

/// The elements of an integer tensor of at most 32 bits.
pub(super) fn integers(view: TensorView<'_>) -> Result<Vec<i32>, KernelError> {
    if view.dtype() == DType::I32 {
        return Ok(view.as_slice::<i32>()?.to_vec());
    }
    dispatch!(view.dtype(), T => {
        Ok(view.as_slice::<T>()?.iter().map(|&x| i32::from(x)).collect())
    }, U8 u8, I8 i8, U16 u16, I16 i16)
}

/// Scales and zero points of a tensor.
struct Steps {
    scales: Vec<f32>,
    zero_points: Vec<i32>,
}

impl Steps {
    fn read(
        scale: TensorView<'_>,
        zero_point: Option<TensorView<'_>>,
        spread: &Spread,
    ) -> Result<Steps, KernelError> {
        let scales = floats(scale)?;
        let zero_points = match zero_point {
            Some(view) => integers(view)?,
            None => vec![0; scales.len()],
        };
        let count = spread.parameters();
        if scales.len() != count || zero_points.len() != count {
            return KernelError::invalid(format!(
                "expected {count} scales and as many zero points, found {} and {}",
                scales.len(),
                zero_points.len()
            ));
        }
        Ok(Steps { scales, zero_points })
    }

    fn borrow(&self) -> Parameters<'_> {
        Parameters { scales: &self.scales, zero_points: &self.zero_points }
    }
}

/// How the scales in operand 1 spread over operand 0, and the parameters themselves if they are
/// known already.
struct Layout {
    spread: Spread,
    known: Option<Steps>,
}

impl Layout {
    fn new(site: &Site<'_>, axis: i64, block: i64) -> Result<Layout, KernelError> {
        let (x, scale) = (site.shape(0)?, site.shape(1)?);
        let spread = spread(&x, &scale, axis, block)?;
        let zero_point = site.tensor(2);
        let zero_point = zero_point.as_ref().map(|tensor| tensor.view());
        let known = match site.tensor(1) {
            Some(scale) if zero_point.is_some() || !site.has(2) => {
                Some(Steps::read(scale.view(), zero_point, &spread)?)
            }
            _ => None,
        };
        Ok(Layout { spread, known })
    }

    /// Calls `f` with the parameters, read now if they are known only while running.
    fn with(
        &self,
        io: &Io<'_>,
        f: impl FnOnce(Parameters<'_>) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        match &self.known {
            Some(steps) => f(steps.borrow()),
            None => f(Steps::read(io.input(1)?, io.optional(2), &self.spread)?.borrow()),
        }
    }
}

fn spread(x: &Shape, scale: &Shape, axis: i64, block: i64) -> Result<Spread, KernelError> {
    if block == 0 && scale.elements() == 1 {
        return Ok(Spread::per_tensor(x.elements()));
    }
    let axis = resolve_axis(axis, x.rank())?;
    let block = usize::try_from(block)
        .map_err(|_| KernelError::Invalid(format!("block_size is {block}, not positive")))?;
    let mut expected = x.clone();
    if block == 0 {
        expected = Shape::from([x[axis]]);
    } else {
        let blocks = x[axis].div_ceil(block);
        expected =
            expected.iter().enumerate().map(|(i, &n)| if i == axis { blocks } else { n }).collect();
    }
    if *scale != expected {
        return KernelError::invalid(format!(
            "the scale of a tensor of shape {x} along axis {axis} has shape {scale}, expected \
             {expected}"
        ));
    }
    Ok(match block {
        0 => Spread::per_axis(x, axis),
        _ => Spread::blocked(x, axis, block),
    })
}

/// `QuantizeLinear`.
struct Quantize {
    isa: &'static str,
    layout: Layout,
    division: Division,
}

fn lower_quantize(
    site: &Site<'_>,
    axis: i64,
    block: i64,
    precision: i64,
) -> Result<Lowered, KernelError> {
    const F32: i64 = 1;
    const F16: i64 = 10;
    const BF16: i64 = 16;
    let layout = Layout::new(site, axis, block)?;
    let division = match (precision, site.dtype(1)?) {
        (F32, _) | (0, DType::F32 | DType::I32) => Division::F32,
        (F16, _) | (0, DType::F16) => Division::F16,
        (BF16, _) | (0, DType::BF16) => Division::BF16,
        (other, dtype) => {
            return KernelError::unsupported(format!(
                "division in precision {other} by a scale of {dtype} is not supported"
            ));
        }
    };
    let out = site.output_dtype(0)?;
    if !matches!(out, DType::U8 | DType::I8 | DType::U16 | DType::I16) {
        return KernelError::unsupported(format!("quantisation to {out} is not supported"));
    }
    boxed(Quantize { isa: site.target.cpu.isa().name(), layout, division })
}

impl Kernel for Quantize {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (x, exec) = (io.input(0)?, io.exec);
        let mut out = io.outputs.swap_remove(0);
        let (spread, division) = (&self.layout.spread, self.division);
        let out_dtype = out.dtype();
        self.layout.with(io, |parameters| {
            dispatch!(x.dtype(), X => {
                dispatch!(out_dtype, Q => {
                    let (x, out) = (x.as_slice::<X>()?, out.as_mut_slice::<Q>()?);
                    quantize(exec, spread, parameters, division, x, out);
                }, U8 u8, I8 i8, U16 u16, I16 i16);
            }, F32 f32, F16 landfall_tensor::f16, BF16 landfall_tensor::bf16, I32 i32);
            Ok(())
        })
    }

    fn info(&self) -> KernelInfo {
        let precision = match self.division {
            Division::F32 => "f32",
            Division::F16 => "f16",
            Division::BF16 => "bf16",
        };
        KernelInfo { kernel: "quantize", isa: self.isa, precision, reason: String::new() }
    }
}

/// `DequantizeLinear`.
struct Dequantize {
    isa: &'static str,
    layout: Layout,
}

fn lower_dequantize(site: &Site<'_>, axis: i64, block: i64) -> Result<Lowered, KernelError> {
    let layout = Layout::new(site, axis, block)?;
    let (from, to) = (site.dtype(0)?, site.output_dtype(0)?);
    let small = matches!(from, DType::U8 | DType::I8 | DType::U16 | DType::I16 | DType::I32);
    if !small || !matches!(to, DType::F32 | DType::F16 | DType::BF16) {
        return KernelError::unsupported(format!("dequantisation of {from} to {to}"));
    }
    boxed(Dequantize { isa: site.target.cpu.isa().name(), layout })
}

impl Kernel for Dequantize {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (q, exec) = (io.input(0)?, io.exec);
        let mut out = io.outputs.swap_remove(0);
        let (spread, out_dtype) = (&self.layout.spread, out.dtype());
        self.layout.with(io, |parameters| {
            dispatch!(q.dtype(), Q => {
                dispatch!(out_dtype, Y => {
                    let (q, out) = (q.as_slice::<Q>()?, out.as_mut_slice::<Y>()?);
                    dequantize(exec, spread, parameters, q, out);
                }, F32 f32, F16 landfall_tensor::f16, BF16 landfall_tensor::bf16);
            }, U8 u8, I8 i8, U16 u16, I16 i16, I32 i32);
            Ok(())
        })
    }

    fn info(&self) -> KernelInfo {
        let reason = String::new();
        KernelInfo { kernel: "dequantize", isa: self.isa, precision: "f32", reason }
    }
}

/// `DynamicQuantizeLinear`.
struct DynamicQuantize {
    isa: &'static str,
}

impl Kernel for DynamicQuantize {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (x, exec) = (io.input(0)?.as_slice::<f32>()?, io.exec);
        let (scale, zero) = dynamic_parameters(exec, x);
        let [out, rest @ ..] = io.outputs.as_mut_slice() else {
            return KernelError::invalid("a quantisation without a result");
        };
        let parameters = Parameters { scales: &[scale], zero_points: &[i32::from(zero)] };
        let spread = Spread::per_tensor(x.len());
        quantize(exec, &spread, parameters, Division::F32, x, out.as_mut_slice::<u8>()?);
        if let Some(out) = rest.get_mut(0) {
            out.as_mut_slice::<f32>()?.fill(scale);
        }
        if let Some(out) = rest.get_mut(1) {
            out.as_mut_slice::<u8>()?.fill(zero);
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        let reason = String::new();
        KernelInfo { kernel: "quantize_dynamic", isa: self.isa, precision: "f32", reason }
    }
}
