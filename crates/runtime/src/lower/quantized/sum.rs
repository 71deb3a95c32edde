//! Sums.

use landfall_kernels::{ByteRange, Bytes, add_int8};
use landfall_tensor::SumScales;

use super::super::quantization::floats;
use super::{Clamp, boxed, raw, signed, uniform};
use crate::kernel::Io;
use crate::lower::{Lowered, Site};
use crate::{Kernel, KernelError, KernelInfo};

/// `(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero)`, all parameters constant scalars.
struct Sum {
    isa: &'static str,
    signed: [bool; 2],
    zeros: [i32; 2],
    scales: SumScales,
    range: ByteRange,
}

pub(super) fn lower(site: &Site<'_>, clamp: Clamp) -> Result<Lowered, KernelError> {
    let (a, b) = (site.shape(0)?, site.shape(3)?);
    if a != b {
        return KernelError::invalid(format!("terms of the shapes {a} and {b}"));
    }
    let constant = |index: usize| {
        let missing = || KernelError::Unsupported(format!("operand {index} is not a constant"));
        site.tensor(index).ok_or_else(missing)
    };
    let scale = |index: usize| match floats(constant(index)?.view())?.as_slice() {
        &[scale] => Ok(f64::from(scale)),
        more => KernelError::invalid(format!("operand {index} has {} scales", more.len())),
    };
    let (a_scale, b_scale, result) = (scale(1)?, scale(4)?, scale(6)?);
    let Some(scales) = SumScales::new([a_scale / result, b_scale / result]) else {
        return KernelError::unsupported(format!(
            "scales {a_scale} and {b_scale} of the terms are too far from {result} of the result"
        ));
    };
    let (least, most) = if signed(site.dtype(7)?)? { (-128, 127) } else { (0, 255) };
    let bound = |bound: Option<i64>, default: i64| bound.unwrap_or(default).clamp(least, most);
    let (low, high) = (bound(clamp.low, least), bound(clamp.high, most));
    let range = ByteRange {
        zero_point: uniform(constant(7)?.view())?,
        low: low as i32,
        high: high.max(low) as i32,
    };
    boxed(Sum {
        isa: site.target.cpu.isa().name(),
        signed: [signed(site.dtype(0)?)?, signed(site.dtype(3)?)?],
        zeros: [uniform(constant(2)?.view())?, uniform(constant(5)?.view())?],
        scales,
        range,
    })
}

impl Kernel for Sum {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (a, b) = (raw(io.input(0)?)?, raw(io.input(3)?)?);
        let ([a_signed, b_signed], [a_zero, b_zero]) = (self.signed, self.zeros);
        let terms = [
            Bytes { data: a, signed: a_signed, zero_point: a_zero },
            Bytes { data: b, signed: b_signed, zero_point: b_zero },
        ];
        let exec = io.exec;
        let out = super::output::bytes(&mut io.outputs[0])?;
        add_int8(exec, terms, self.scales, self.range, out);
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        let reason = String::new();
        KernelInfo { kernel: "add_int8", isa: self.isa, precision: "int8", reason }
    }
}
