//! Products and convolutions of 8-bit operands.
//!
//! Constant right operands are packed once with their column sums and shared by every plan. The
//! sums are exact, and one fixed-point rule turns them into results, so every kernel here gives the
//! same bits.

mod conv;
mod matmul;
mod output;
mod sum;

use landfall_graph::{Activation, Op};
use landfall_kernels::Bytes;
use landfall_tensor::{Buffer, DType, Shape, Tensor, TensorView};

use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError};
use output::{Clamp, Parameters};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    macro_rules! window {
        ($op:expr, $auto_pad:expr, $last:expr) => {
            conv::Attributes {
                auto_pad: $auto_pad,
                strides: &$op.strides,
                dilations: &$op.dilations,
                pads: &$op.pads,
                group: $op.group,
                channels_last: $last,
            }
        };
    }
    let all = Clamp { low: None, high: None };
    Some(match site.op {
        Op::MatMulInteger => matmul::lower(site, Ports::INTEGER, all),
        Op::QLinearMatMul => matmul::lower(site, Ports::LINEAR, all),
        Op::QuantizedMatMul(op) => {
            matmul::lower(site, Ports::LINEAR, Clamp { low: op.low, high: op.high })
        }
        Op::QuantizedAdd(op) => sum::lower(site, Clamp { low: op.low, high: op.high }),
        Op::DynamicQuantMatMul(op) => matmul::lower_dynamic(site, op.activation),
        Op::DynamicQuantizeMatMul => matmul::lower_dynamic(site, Activation::None),
        Op::ConvInteger(op) => {
            conv::lower(site, Ports::INTEGER, &window!(op, op.auto_pad, false), all)
        }
        Op::QLinearConv(op) => {
            conv::lower(site, Ports::LINEAR, &window!(op, op.auto_pad, false), all)
        }
        Op::QuantizedConv(op) => {
            let window = window!(op, landfall_graph::AutoPad::NotSet, op.channels_last);
            conv::lower(site, Ports::LINEAR, &window, Clamp { low: op.low, high: op.high })
        }
        _ => return None,
    })
}

fn boxed(kernel: impl Kernel + 'static) -> Result<Lowered, KernelError> {
    Ok(Lowered::Kernel(Box::new(kernel)))
}

/// Which operand is what.
#[derive(Debug, Clone, Copy)]
struct Ports {
    left_zero: usize,
    right: usize,
    right_zero: usize,
    /// Whether scales, an output and a bias belong to the operator.
    scaled: bool,
}

impl Ports {
    /// `(a, b, a_zero?, b_zero?)`, to sums.
    const INTEGER: Ports = Ports { left_zero: 2, right: 1, right_zero: 3, scaled: false };
    /// `(a, a_scale, a_zero, b, b_scale, b_zero, y_scale?, y_zero?, bias?)`.
    const LINEAR: Ports = Ports { left_zero: 2, right: 3, right_zero: 5, scaled: true };

    /// The operands that parameters are read from.
    fn parameters(&self) -> &'static [usize] {
        if self.scaled { &[1, 4, 5, 6, 7, 8] } else { &[3] }
    }
}

/// Whether elements are signed; only 8-bit types are.
fn signed(dtype: DType) -> Result<bool, KernelError> {
    match dtype {
        DType::I8 => Ok(true),
        DType::U8 => Ok(false),
        other => KernelError::unsupported(format!("operands of {other} are not 8-bit integers")),
    }
}

fn raw(view: TensorView<'_>) -> Result<&[u8], KernelError> {
    view.bytes().ok_or_else(|| KernelError::Invalid("an operand is text".into()))
}

/// The left operand with its zero point, which must be the same for the whole tensor.
fn left<'a>(io: &Io<'a>, ports: &Ports) -> Result<Bytes<'a>, KernelError> {
    let view = io.input(0)?;
    let zero_point = match io.optional(ports.left_zero) {
        None => 0,
        Some(zero) if zero.dtype() != view.dtype() => {
            return KernelError::invalid(format!(
                "the zero point of an operand of {} is of {}",
                view.dtype(),
                zero.dtype()
            ));
        }
        Some(zero) => uniform(zero)?,
    };
    Ok(Bytes { data: raw(view)?, signed: signed(view.dtype())?, zero_point })
}

fn uniform(zero: TensorView<'_>) -> Result<i32, KernelError> {
    let is_signed = signed(zero.dtype())?;
    match raw(zero)? {
        [] => KernelError::invalid("a zero point without elements"),
        [first, rest @ ..] if rest.iter().all(|byte| byte == first) => {
            Ok(if is_signed { i32::from(*first as i8) } else { i32::from(*first) })
        }
        _ => KernelError::unsupported("zero points that differ along the left operand's rows"),
    }
}

/// The parameters, if all their operands are constants.
fn known(
    site: &Site<'_>,
    ports: &Ports,
    columns: usize,
    clamp: Clamp,
) -> Result<Option<Parameters>, KernelError> {
    let constant = |&index: &usize| !site.has(index) || site.is_constant(index);
    if !ports.parameters().iter().all(constant) {
        return Ok(None);
    }
    let tensors: Vec<Option<Tensor>> = (0..site.inputs.len())
        .map(|index| site.tensor(index).filter(|_| ports.parameters().contains(&index)))
        .collect();
    let get = |index: usize| tensors.get(index)?.as_ref().map(Tensor::view);
    Parameters::read(&get, ports, columns, clamp).map(Some)
}

/// Calls `f` with the parameters, read now if they are known only while running.
fn with_parameters(
    known: Option<&Parameters>,
    io: &mut Io<'_>,
    (ports, columns, clamp): (&Ports, usize, Clamp),
    f: impl FnOnce(&Parameters, &mut Io<'_>) -> Result<(), KernelError>,
) -> Result<(), KernelError> {
    match known {
        Some(parameters) => f(parameters, io),
        None => {
            let parameters = Parameters::read(&|index| io.optional(index), ports, columns, clamp)?;
            f(&parameters, io)
        }
    }
}

/// A packed right operand: its bytes, their column sums, and the groups it was packed for.
#[derive(Clone)]
struct Packed {
    tensor: Tensor,
    bytes: usize,
    sums: usize,
}

impl Packed {
    /// Packs operand `index`, or finds it packed. A constant that convolutions of different groups
    /// share is packed for each.
    fn new(
        site: &Site<'_>,
        index: usize,
        (layout, groups): (&'static str, usize),
        (bytes, sums): (usize, usize),
        pack: impl Fn(&Tensor, &mut [i8], &mut [i32]) -> Result<(), KernelError>,
    ) -> Result<Packed, KernelError> {
        let padded = bytes.next_multiple_of(size_of::<i32>());
        let len = padded + (sums + 1) * size_of::<i32>();
        let mark = i32::try_from(groups).unwrap_or(i32::MAX);
        let make = |tensor: &Tensor| {
            let buffer = Buffer::try_build(len, |out| {
                let (data, rest) = out.split_at_mut(padded);
                let rest: &mut [i32] = bytemuck::cast_slice_mut(rest);
                let (column_sums, groups) = rest.split_at_mut(sums);
                groups.fill(mark);
                pack(tensor, bytemuck::cast_slice_mut(&mut data[..bytes]), column_sums)
            })?;
            Ok(Tensor::from_buffer(DType::U8, Shape::from([len]), buffer)?)
        };
        let mut tensor = site.packed(index, layout, make)?;
        let same = tensor.elements() == len
            && tensor.bytes().is_some_and(|bytes| bytes.ends_with(&mark.to_ne_bytes()));
        if !same && let Some(source) = site.tensor(index) {
            tensor = make(&source)?;
        }
        Ok(Packed { tensor, bytes, sums })
    }

    fn parts(&self) -> Result<(&[i8], &[i32]), KernelError> {
        let padded = self.bytes.next_multiple_of(size_of::<i32>());
        let (data, rest) = raw(self.tensor.view())?.split_at(padded);
        let rest: &[i32] = bytemuck::try_cast_slice(rest)
            .map_err(|_| KernelError::Invalid("packed weights are not aligned".into()))?;
        Ok((bytemuck::cast_slice(&data[..self.bytes]), &rest[..self.sums]))
    }
}
