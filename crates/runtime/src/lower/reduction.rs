//! Reductions, positions of extremes, and running sums and products.

use landfall_graph::Op;
use landfall_graph::infer::resolve_axis;
use landfall_kernels::reduce::{
    ArgExtreme, ReduceKind, ReduceLayout, Scan, arg_extreme, hard_max, reduce, scan,
};
use landfall_tensor::{DType, TensorView};

use super::movement::{boxed, known_ints};
use super::types::{float_type, number_type};
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    macro_rules! lower_reduce {
        ($op:expr, $kind:ident) => {
            lower_reduce(site, ReduceKind::$kind, $op.noop_with_empty_axes)
        };
    }
    Some(match site.op {
        Op::ReduceL1(op) => lower_reduce!(op, L1),
        Op::ReduceL2(op) => lower_reduce!(op, L2),
        Op::ReduceLogSum(op) => lower_reduce!(op, LogSum),
        Op::ReduceLogSumExp(op) => lower_reduce!(op, LogSumExp),
        Op::ReduceMax(op) => lower_reduce!(op, Max),
        Op::ReduceMean(op) => lower_reduce!(op, Mean),
        Op::ReduceMin(op) => lower_reduce!(op, Min),
        Op::ReduceProd(op) => lower_reduce!(op, Product),
        Op::ReduceSum(op) => lower_reduce!(op, Sum),
        Op::ReduceSumSquare(op) => lower_reduce!(op, SumSquare),
        Op::ArgMax(op) => lower_arg(site, op.axis, true, op.select_last_index),
        Op::ArgMin(op) => lower_arg(site, op.axis, false, op.select_last_index),
        Op::CumSum(op) => {
            boxed(Running { product: false, exclusive: op.exclusive, reverse: op.reverse })
        }
        Op::CumProd(op) => {
            boxed(Running { product: true, exclusive: op.exclusive, reverse: op.reverse })
        }
        Op::Hardmax(op) => lower_hardmax(site, op.axis),
        _ => return None,
    })
}

/// Extents of an axis and of everything inside it.
pub(super) fn len_and_step(dims: &[usize], axis: i64) -> Result<(usize, usize), KernelError> {
    let axis = resolve_axis(axis, dims.len())?;
    Ok((dims[axis], dims[axis + 1..].iter().product()))
}

struct Reduce {
    kind: ReduceKind,
    layout: ReduceLayout,
    isa: &'static str,
    precision: &'static str,
}

fn lower_reduce(
    site: &Site<'_>,
    kind: ReduceKind,
    empty_is_none: bool,
) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    let axes = known_ints(site, 1)?.unwrap_or_default();
    let mut reduced = vec![axes.is_empty() && !empty_is_none; shape.rank()];
    for &axis in &axes {
        reduced[resolve_axis(axis, shape.rank())?] = true;
    }
    let layout = ReduceLayout::new(&shape, &reduced);
    let isa = site.target.cpu.isa().name();
    boxed(Reduce { kind, layout, isa, precision: site.dtype(0)?.name() })
}

impl Kernel for Reduce {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.input(0)?, io.exec);
        let out = &mut io.outputs[0];
        if input.dtype() == DType::Bool {
            if !matches!(self.kind, ReduceKind::Max | ReduceKind::Min) {
                return KernelError::unsupported("only Max and Min reduce booleans");
            }
            let out = out.as_mut_slice::<u8>()?;
            reduce::<u8>(exec, self.kind, &self.layout, input.as_slice()?, out);
            // The highest value of a byte stands for true.
            out.iter_mut().for_each(|o| *o = (*o).min(1));
            return Ok(());
        }
        number_type!(input.dtype(), T => {
            let (input, out) = (input.as_slice::<T>()?, out.as_mut_slice::<T>()?);
            reduce(exec, self.kind, &self.layout, input, out);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        let (isa, precision) = (self.isa, self.precision);
        KernelInfo { kernel: "reduce", isa, precision, reason: String::new() }
    }
}

struct Arg(ArgExtreme, &'static str);

fn lower_arg(
    site: &Site<'_>,
    axis: i64,
    largest: bool,
    last: bool,
) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    let (len, step) = len_and_step(&shape, axis)?;
    if len == 0 && site.output_shape(0)?.elements() > 0 {
        return KernelError::invalid(format!("axis {axis} is empty and has no extreme"));
    }
    boxed(Arg(ArgExtreme { len, step, largest, last }, site.target.cpu.isa().name()))
}

impl Kernel for Arg {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.input(0)?, io.exec);
        let out = io.outputs[0].as_mut_slice::<i64>()?;
        number_type!(input.dtype(), T => arg_extreme::<T>(exec, self.0, input.as_slice()?, out));
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo { kernel: "arg_extreme", isa: self.1, precision: "any", reason: String::new() }
    }
}

/// Running sums or products; the axis is an operand.
struct Running {
    product: bool,
    exclusive: bool,
    reverse: bool,
}

/// The one element of an integer operand.
pub(super) fn one_integer(view: &TensorView<'_>, what: &str) -> Result<i64, KernelError> {
    let found = match view.dtype() {
        DType::I32 => view.as_slice::<i32>()?.iter().map(|&n| n.into()).collect::<Vec<i64>>(),
        _ => view.as_slice::<i64>()?.to_vec(),
    };
    match found.as_slice() {
        &[n] => Ok(n),
        other => KernelError::invalid(format!("{what} is one integer, found {}", other.len())),
    }
}

impl Kernel for Running {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.input(0)?, io.exec);
        let axis = one_integer(&io.input(1)?, "the axis")?;
        let (len, step) = len_and_step(input.shape(), axis)?;
        let Running { product, exclusive, reverse } = *self;
        let kind = Scan { len, step, product, exclusive, reverse };
        let out = &mut io.outputs[0];
        number_type!(input.dtype(), T => {
            scan::<T>(exec, kind, input.as_slice()?, out.as_mut_slice()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable(if self.product { "running_product" } else { "running_sum" }, "any")
    }
}

struct HardMax {
    len: usize,
    step: usize,
}

fn lower_hardmax(site: &Site<'_>, axis: i64) -> Result<Lowered, KernelError> {
    let (len, step) = len_and_step(&site.shape(0)?, axis)?;
    boxed(HardMax { len, step })
}

impl Kernel for HardMax {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?;
        let out = &mut io.outputs[0];
        float_type!(input.dtype(), T => {
            hard_max::<T>(self.len, self.step, input.as_slice()?, out.as_mut_slice()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("hard_max", "any")
    }
}
