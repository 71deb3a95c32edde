//! Softmax.

use landfall_graph::Op;
use landfall_graph::infer::resolve_axis;
use landfall_kernels::elementwise::{CastElement, Float, Wide};
use landfall_kernels::{Softmax, softmax};
use landfall_tensor::DType;

use super::types::float_type;
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::Softmax(op) => lower_softmax(site, op.axis, false),
        Op::LogSoftmax(op) => lower_softmax(site, op.axis, true),
        _ => return None,
    })
}

fn boxed(kernel: impl Kernel + 'static) -> Result<Lowered, KernelError> {
    Ok(Lowered::Kernel(Box::new(kernel)))
}

/// Softmax along an axis whose elements lie `step` apart.
struct SoftmaxRows {
    isa: &'static str,
    len: usize,
    step: usize,
    log: bool,
    in_place: bool,
}

fn lower_softmax(site: &Site<'_>, axis: i64, log: bool) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    let axis = resolve_axis(axis, shape.rank())?;
    let step = shape[axis + 1..].iter().product();
    let in_place = step == 1 && site.dtype(0)? == DType::F32;
    let isa = site.target.cpu.isa().name();
    boxed(SoftmaxRows { isa, len: shape[axis], step, log, in_place })
}

impl Kernel for SoftmaxRows {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.optional(0), io.exec);
        let out = &mut io.outputs[0];
        let kind = Softmax { log: self.log, ..Softmax::default() };
        if self.len == 0 || out.elements() == 0 {
            return Ok(());
        }
        if self.in_place {
            let out = out.as_mut_slice::<f32>()?;
            if let Some(input) = input {
                out.copy_from_slice(input.as_slice()?);
            }
            softmax(exec, &kind, self.len, out);
            return Ok(());
        }
        let input = io.input(0)?;
        let out = &mut io.outputs[0];
        float_type!(input.dtype(), T => {
            let (input, out) = (input.as_slice::<T>()?, out.as_mut_slice::<T>()?);
            let block = self.len * self.step;
            for start in (0..input.len()).step_by(block).flat_map(|b| b..b + self.step) {
                softmax_column(&input[start..], &mut out[start..], self);
            }
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        let (kernel, precision) = ("softmax", "f32");
        let reason = if self.in_place {
            String::new()
        } else {
            "gathers rows: the axis is not innermost, or the type is not f32".into()
        };
        KernelInfo { kernel, isa: self.isa, precision, reason }
    }

    fn in_place(&self) -> Option<usize> {
        self.in_place.then_some(0)
    }
}

/// One softmax over elements `rows.step` apart, in `f64`.
fn softmax_column<T: Float + CastElement>(input: &[T], out: &mut [T], rows: &SoftmaxRows) {
    let real = |x: &T| x.widen().to_f64();
    let elements = || input.iter().step_by(rows.step).take(rows.len).map(real);
    let largest = elements().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = elements().map(|x| (x - largest).exp()).sum();
    for (o, x) in out.iter_mut().step_by(rows.step).zip(elements()) {
        let shifted = x - largest;
        *o = T::from_real(if rows.log { shifted - sum.ln() } else { shifted.exp() / sum });
    }
}
