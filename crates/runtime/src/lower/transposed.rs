//! Transposed convolution.

use landfall_graph::infer::transposed_axis;
use landfall_graph::{Op, ops};
use landfall_kernels::elementwise::CastElement;
use landfall_kernels::generic::{Scalar, Window3d, direct_transposed};
use landfall_kernels::{TransposedConv, transposed_conv};
use landfall_tensor::{DType, Shape, Tensor};

use super::types::float_type;
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    match site.op {
        Op::ConvTranspose(op) => Some(lower_transposed(site, op)),
        _ => None,
    }
}

fn lower_transposed(site: &Site<'_>, op: &ops::ConvTranspose) -> Result<Lowered, KernelError> {
    let (x, w) = (site.shape(0)?, site.shape(1)?);
    let groups = usize::try_from(op.group).unwrap_or(0);
    let rank = x.rank().saturating_sub(2);
    if x.rank() < 2 || x.rank() != w.rank() || rank > 3 {
        return KernelError::unsupported(format!(
            "input of rank {} with weights of rank {}; both need one to three spatial axes",
            x.rank(),
            w.rank()
        ));
    }
    if groups == 0 || x[1] != w[0] || !x[1].is_multiple_of(groups) {
        return KernelError::invalid(format!(
            "{} input channels do not divide into {groups} groups for weights of {} channels",
            x[1], w[0]
        ));
    }
    let one = [1; 3];
    let mut window =
        Window3d { input: one, output: one, kernel: one, stride: one, dilation: one, pad: [0; 3] };
    for axis in 0..rank {
        let (input, kernel) = (x[2 + axis], w[2 + axis]);
        let found = transposed_axis(op, [axis, rank], input, kernel)?;
        let at = 3 - rank + axis;
        (window.input[at], window.output[at], window.kernel[at]) = (input, found.output, kernel);
        (window.stride[at], window.dilation[at]) = (found.stride, found.dilation);
        window.pad[at] = found.pad_begin;
    }
    let out_channels = w[1] * groups;
    if site.has(2) && site.shape(2)?.elements() != out_channels {
        return KernelError::invalid(format!("the bias needs {out_channels} elements"));
    }
    let conv = TransposedConv { batch: x[0], channels: x[1], out_channels, groups, window };
    if site.dtype(0)? == DType::F32 && site.is_constant(1) {
        let pack = |tensor: &Tensor| {
            let mut out = vec![0f32; tensor.elements()];
            conv.pack_weights(tensor.aligned().as_slice()?, &mut out);
            Ok(Tensor::from_slice(Shape::from([out.len()]), &out)?)
        };
        // The order depends on the groups, which a layout's name does not tell.
        let weights = match site.tensor(1).filter(|_| groups > 1) {
            Some(weights) => pack(&weights)?,
            None => site.packed(1, "transposed_conv", pack)?,
        };
        let isa = site.target.cpu.isa().name();
        return Ok(Lowered::Kernel(Box::new(Packed { isa, conv, weights })));
    }
    Ok(Lowered::Kernel(Box::new(Direct(conv))))
}

/// f32 with packed weights.
struct Packed {
    isa: &'static str,
    conv: TransposedConv,
    weights: Tensor,
}

impl Kernel for Packed {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (x, exec) = (io.input(0)?.as_slice::<f32>()?, io.exec);
        let bias = io.optional(2).map(|view| view.as_slice::<f32>()).transpose()?;
        let out = io.outputs[0].as_mut_slice()?;
        transposed_conv(exec, &self.conv, [x, self.weights.as_slice()?], bias, out);
        Ok(())
    }

    fn has_packed(&self, index: usize) -> bool {
        index == 1
    }

    fn info(&self) -> KernelInfo {
        let kernel = "conv_transposed_gemm_f32";
        KernelInfo { kernel, isa: self.isa, precision: "f32", reason: String::new() }
    }
}

/// Any type, in direct loops.
struct Direct(TransposedConv);

impl Direct {
    fn run_typed<T: Scalar + CastElement>(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (x, w) = (io.input(0)?.as_slice::<T>()?, io.input(1)?.as_slice::<T>()?);
        let bias = io.optional(2).map(|view| view.as_slice::<T>()).transpose()?;
        let exec = io.exec;
        let out = io.outputs[0].as_mut_slice::<T>()?;
        direct_transposed(exec, &self.0, [x, w], out);
        let pixels: usize = self.0.window.output.iter().product();
        if let (Some(bias), true) = (bias, pixels > 0) {
            for (i, plane) in out.chunks_exact_mut(pixels).enumerate() {
                let bias = bias[i % bias.len()].to_real();
                plane.iter_mut().for_each(|x| *x = T::from_real(x.to_real() + bias));
            }
        }
        Ok(())
    }
}

impl Kernel for Direct {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        float_type!(io.input(0)?.dtype(), T => self.run_typed::<T>(io))
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("conv_transposed_direct", "any")
            .because("the fast kernel needs f32 and constant weights")
    }
}
