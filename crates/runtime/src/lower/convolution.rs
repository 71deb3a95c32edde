//! Convolutions and pooling.
//!
//! Channels-last f32 with one or two spatial axes and constant weights runs on implicit-GEMM,
//! depthwise, 1×1 or (3×3 windows of step 1) Winograd kernels with packed weights; other f32
//! convolutions gather columns for a matrix product; everything else runs direct loops. The report
//! says which.

use landfall_graph::infer::Window;
use landfall_graph::{AutoPad, Op, PoolKind};
use landfall_kernels::elementwise::CastElement;
use landfall_kernels::generic::{
    DirectConv, DirectPool, MaxIndices, PoolFn, Scalar, Window3d, direct_conv, direct_max_pool,
    direct_pool,
};
use landfall_kernels::{
    Activation, Conv2d, ConvAlgorithm, Epilogue, RowsMut, RowsRef, Window2d, activate,
    average_pool, conv_planes, conv2d_bf16, conv2d_by, max_pool,
};
use landfall_tensor::{DType, Shape, Tensor};
use smallvec::SmallVec;

use super::activation::activation;
use super::bf16::OperandPrecision;
use super::types::{float_type, number_type};
use super::{Lowered, Site};
use crate::kernel::{Convolution, Io};
use crate::{Algorithms, Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    macro_rules! conv {
        ($op:expr, $auto_pad:expr, $activation:expr, $last:expr) => {
            Attributes {
                auto_pad: $auto_pad,
                strides: &$op.strides,
                dilations: &$op.dilations,
                pads: &$op.pads,
                group: $op.group,
                activation: $activation,
                channels_last: $last,
            }
        };
    }
    macro_rules! pool {
        ($op:expr, $auto_pad:expr, $function:expr, $last:expr) => {{
            let window = PoolAttributes {
                auto_pad: $auto_pad,
                kernel: &$op.kernel_shape,
                strides: &$op.strides,
                dilations: &$op.dilations,
                pads: &$op.pads,
                ceil_mode: $op.ceil_mode,
            };
            lower_pool(site, &window, $function, $last)
        }};
    }
    let average = |with_padding: bool| {
        if with_padding { PoolFn::AverageWithPadding } else { PoolFn::Average }
    };
    Some(match site.op {
        Op::Conv(op) => lower_conv(site, &conv!(op, op.auto_pad, Activation::None, false)),
        Op::FusedConv(op) => {
            let function = activation(op.activation);
            lower_conv(site, &conv!(op, AutoPad::NotSet, function, op.channels_last))
        }
        Op::MaxPool(op) => pool!(op, op.auto_pad, PoolFn::Max, false),
        Op::AveragePool(op) => pool!(op, op.auto_pad, average(op.count_include_pad), false),
        Op::LpPool(op) => pool!(op, op.auto_pad, PoolFn::Norm(op.p as f64), false),
        Op::ChannelsLastPool(op) => {
            let function = match op.kind {
                PoolKind::Max => PoolFn::Max,
                PoolKind::Average => average(op.count_include_pad),
            };
            pool!(op, AutoPad::NotSet, function, true)
        }
        Op::GlobalAveragePool => lower_global(site, PoolFn::Average),
        Op::GlobalMaxPool => lower_global(site, PoolFn::Max),
        Op::GlobalLpPool(op) => lower_global(site, PoolFn::Norm(op.p as f64)),
        _ => return None,
    })
}

fn boxed(kernel: impl Kernel + 'static) -> Result<Lowered, KernelError> {
    Ok(Lowered::Kernel(Box::new(kernel)))
}

struct Attributes<'a> {
    auto_pad: AutoPad,
    strides: &'a [i64],
    dilations: &'a [i64],
    pads: &'a [i64],
    group: i64,
    activation: Activation,
    channels_last: bool,
}

/// The spatial extents of an image batch.
pub(super) fn spatial(shape: &Shape, channels_last: bool) -> &[usize] {
    let range = if channels_last { 1..shape.rank() - 1 } else { 2..shape.rank() };
    shape.get(range).unwrap_or(&[])
}

pub(super) fn channels(shape: &Shape, channels_last: bool) -> usize {
    if channels_last { shape[shape.rank() - 1] } else { shape[1] }
}

/// Resolves a window and pads it with leading axes of extent 1. Returns it with the padding after
/// each axis.
pub(super) fn window3(
    window: &Window<'_>,
    input: &[usize],
) -> Result<(Window3d, [usize; 3]), KernelError> {
    let lead = 3usize
        .checked_sub(input.len())
        .ok_or_else(|| KernelError::Unsupported(format!("{} spatial axes", input.len())))?;
    let one = [1; 3];
    let mut resolved =
        Window3d { input: one, output: one, kernel: one, stride: one, dilation: one, pad: [0; 3] };
    let mut pad_end = [0; 3];
    for (axis, &extent) in input.iter().enumerate() {
        let found = window.resolve(axis, extent)?;
        let at = lead + axis;
        resolved.input[at] = extent;
        resolved.output[at] = found.output;
        resolved.kernel[at] = found.kernel;
        resolved.stride[at] = found.stride;
        resolved.dilation[at] = found.dilation;
        resolved.pad[at] = found.pad_begin;
        pad_end[at] = found.pad_end;
    }
    Ok((resolved, pad_end))
}

/// The two-dimensional form of a window whose first axis is trivial.
pub(super) fn window2(
    batch: usize,
    channels: usize,
    w: &Window3d,
    pad_end: &[usize; 3],
) -> Option<Window2d> {
    (w.kernel[0] == 1 && w.input[0] == 1 && w.output[0] == 1).then_some(Window2d {
        batch,
        height: w.input[1],
        width: w.input[2],
        channels,
        kernel: [w.kernel[1], w.kernel[2]],
        stride: [w.stride[1], w.stride[2]],
        dilation: [w.dilation[1], w.dilation[2]],
        pads: [w.pad[1], w.pad[2], pad_end[1], pad_end[2]],
        out_height: w.output[1],
        out_width: w.output[2],
    })
}

fn lower_conv(site: &Site<'_>, attributes: &Attributes<'_>) -> Result<Lowered, KernelError> {
    let (x, w) = (site.shape(0)?, site.shape(1)?);
    let kernel = w.get(2..).unwrap_or(&[]);
    let window = Window {
        auto_pad: attributes.auto_pad,
        kernel,
        strides: attributes.strides,
        dilations: attributes.dilations,
        pads: attributes.pads,
        ceil_mode: false,
    };
    let last = attributes.channels_last;
    let (window, pad_end) = window3(&window, spatial(&x, last))?;
    let (inputs, outputs) = (channels(&x, last), w[0]);
    let groups = usize::try_from(attributes.group).unwrap_or(0);
    if groups == 0 || inputs != w[1] * groups || outputs % groups != 0 {
        return KernelError::invalid(format!(
            "{inputs} input channels and {outputs} output channels do not divide into {groups} \
             groups of {} channels",
            w[1]
        ));
    }
    let image = window2(x[0], inputs, &window, &pad_end);
    if let (true, DType::F32, true, Some(window)) =
        (last, site.dtype(0)?, site.is_constant(1), image)
    {
        let conv = Conv2d { window, out_channels: outputs, groups };
        return lower_packed(site, conv, attributes.activation);
    }
    let conv = DirectConv {
        batch: x[0],
        channels: inputs,
        out_channels: outputs,
        groups,
        window,
        channels_last: last,
    };
    if site.dtype(0)? == DType::F32 && !last && !site.has(3) {
        let isa = site.target.cpu.isa().name();
        return boxed(Planes { isa, conv, activation: attributes.activation });
    }
    boxed(Direct { conv, activation: attributes.activation })
}

/// Channels-last convolution with packed weights, by the algorithm measured or expected to be
/// fastest in the precision asked for.
fn lower_packed(
    site: &Site<'_>,
    conv: Conv2d,
    activation: Activation,
) -> Result<Lowered, KernelError> {
    let mut operands = match conv.is_depthwise() {
        true => OperandPrecision::f32(site, "a depthwise convolution is not a matrix product"),
        false => OperandPrecision::of(site, conv.depth(), conv.group_outputs()),
    };
    let known = conv.algorithms();
    let names = names(&conv, operands.is_bf16());
    let place = |algorithm| known.iter().position(|&a| a == algorithm).unwrap_or(0);
    let default = match operands.is_bf16() {
        true => conv.algorithm_beyond_bf16().map_or(0, |algorithm| 1 + place(algorithm)),
        false => place(conv.algorithm()),
    };
    let chosen = site.algorithm(&names, default);
    let algorithm = match (operands.is_bf16(), chosen) {
        (true, 0) => ConvAlgorithm::Gemm,
        (true, chosen) => {
            operands = OperandPrecision::f32(
                site,
                match known[chosen - 1] {
                    ConvAlgorithm::Gemm => "measured to be faster in f32",
                    _ => "fewer multiply-adds in f32 are faster than a product in bf16",
                },
            );
            known[chosen - 1]
        }
        (false, chosen) => known[chosen],
    };
    let weights = packed(site, &conv, algorithm, &operands)?;
    boxed(PackedConv { operands, conv, algorithm, names, chosen, weights, activation })
}

/// Names of the ways to compute a convolution: first in bf16, if that was asked for.
fn names(conv: &Conv2d, in_bf16: bool) -> SmallVec<[&'static str; 4]> {
    let known = conv.algorithms().iter().map(|algorithm| algorithm.name());
    in_bf16.then_some("gemm_bf16").into_iter().chain(known).collect()
}

/// The weights of a channels-last convolution in the layout of its kernel.
fn packed(
    site: &Site<'_>,
    conv: &Conv2d,
    algorithm: ConvAlgorithm,
    operands: &OperandPrecision,
) -> Result<Tensor, KernelError> {
    if operands.is_bf16() {
        return site.packed(1, "conv_panels_bf16", |tensor| {
            Tensor::build(Shape::from([conv.packed_weights_bf16_len()]), |out| {
                conv.pack_weights_bf16(tensor.aligned().as_slice()?, out);
                Ok(())
            })
        });
    }
    let layout = match algorithm {
        ConvAlgorithm::Gemm if conv.is_depthwise() => "depthwise",
        ConvAlgorithm::Gemm => "conv_panels",
        ConvAlgorithm::Winograd2 => "winograd2_panels",
        ConvAlgorithm::Winograd4 => "winograd4_panels",
    };
    site.packed(1, layout, |tensor| {
        Tensor::build(Shape::from([conv.packed_len(algorithm)]), |out| {
            conv.pack(algorithm, tensor.aligned().as_slice()?, out);
            Ok(())
        })
    })
}

/// Convolution of channels before pixels, with weights as they are.
struct Planes {
    isa: &'static str,
    conv: DirectConv,
    activation: Activation,
}

impl Kernel for Planes {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (x, w) = (io.input(0)?.as_slice::<f32>()?, io.input(1)?.as_slice::<f32>()?);
        let bias = io.optional(2).map(|view| view.as_slice::<f32>()).transpose()?;
        let (exec, out) = (io.exec, io.outputs[0].as_mut_slice::<f32>()?);
        conv_planes(exec, &self.conv, [x, w], bias, out);
        activate(exec, self.activation, out);
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        let kernel = "conv_columns_gemm_f32";
        KernelInfo { kernel, isa: self.isa, precision: "f32", reason: String::new() }.because(
            "gathers columns: the image is not channels last, the weights are not constant, or \
             there are three spatial axes",
        )
    }
}

/// Channels-last convolution with packed weights.
struct PackedConv {
    operands: OperandPrecision,
    conv: Conv2d,
    algorithm: ConvAlgorithm,
    /// Of all ways to compute it.
    names: SmallVec<[&'static str; 4]>,
    /// The way it takes, of `names`.
    chosen: usize,
    weights: Tensor,
    activation: Activation,
}

impl Kernel for PackedConv {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?.as_slice::<f32>()?;
        let floats = |index: usize| io.optional(index).map(|v| v.as_slice::<f32>()).transpose();
        let (bias, residual) = (floats(2)?, floats(3)?);
        let stride = self.conv.out_channels;
        let epilogue = Epilogue {
            bias,
            residual: residual.map(|data| RowsRef { data, stride }),
            activation: self.activation,
        };
        let (exec, out) = (io.exec, io.outputs[0].as_mut_slice::<f32>()?);
        let out = RowsMut { data: out, stride };
        if self.operands.is_bf16() {
            conv2d_bf16(exec, &self.conv, input, self.weights.as_slice()?, &epilogue, out);
        } else {
            let weights = self.weights.as_slice()?;
            conv2d_by(exec, self.algorithm, &self.conv, input, weights, &epilogue, out);
        }
        Ok(())
    }

    fn algorithms(&self) -> Option<Algorithms> {
        let algorithms = Algorithms { names: self.names.to_vec(), chosen: self.chosen };
        (self.names.len() > 1).then_some(algorithms)
    }

    fn convolution(&self) -> Option<Convolution> {
        // Whoever measures algorithms must find each step to be what it is by itself.
        let plain = self.algorithm == ConvAlgorithm::Gemm && self.names.len() == 1;
        let (conv, weights, activation) = (self.conv, self.weights.clone(), self.activation);
        plain.then_some(Convolution { conv, weights, activation })
    }

    fn has_packed(&self, index: usize) -> bool {
        index == 1
    }

    fn info(&self) -> KernelInfo {
        let winograd = |name, reason: &str| {
            let info = self.operands.info(name, "");
            if info.reason.is_empty() { info.because(reason) } else { info }
        };
        match (self.algorithm, &self.conv) {
            (ConvAlgorithm::Winograd2, _) => winograd(
                "conv_winograd2_f32",
                "4 multiplications an output and channel, not 9; tiles of 4 by 4 would waste more \
                 at the edges or read more weights",
            ),
            (ConvAlgorithm::Winograd4, _) => {
                winograd("conv_winograd4_f32", "2.25 multiplications an output and channel, not 9")
            }
            (_, conv) if conv.is_depthwise() => self.operands.info("depthwise_f32", ""),
            (_, conv) if conv.window.taps() == 1 => {
                self.operands.info("conv1x1_gemm_f32", "conv1x1_gemm_bf16")
            }
            _ => self.operands.info("conv_implicit_gemm_f32", "conv_implicit_gemm_bf16"),
        }
    }
}

/// Convolution in direct loops.
struct Direct {
    conv: DirectConv,
    activation: Activation,
}

impl Direct {
    fn epilogue<T: Scalar + CastElement>(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (bias, residual) = (io.optional(2), io.optional(3));
        let pixels =
            if self.conv.channels_last { 1 } else { self.conv.window.output.iter().product() };
        let out = io.outputs[0].as_mut_slice::<T>()?;
        if let Some(bias) = bias {
            let bias = bias.as_slice::<T>()?;
            for (i, o) in out.iter_mut().enumerate() {
                *o = T::from_real(o.to_real() + bias[i / pixels % bias.len()].to_real());
            }
        }
        if let Some(residual) = residual {
            for (o, &r) in out.iter_mut().zip(residual.as_slice::<T>()?) {
                *o = T::from_real(o.to_real() + r.to_real());
            }
        }
        Ok(())
    }
}

impl Kernel for Direct {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (x, w, exec) = (io.input(0)?, io.input(1)?, io.exec);
        let dtype = x.dtype();
        number_type!(dtype, T => {
            let (x, w) = (x.as_slice::<T>()?, w.as_slice()?);
            direct_conv::<T>(exec, &self.conv, x, w, io.outputs[0].as_mut_slice()?);
            self.epilogue::<T>(io)?;
        });
        match (self.activation, dtype) {
            (Activation::None, _) => Ok(()),
            (function, DType::F32) => {
                activate(exec, function, io.outputs[0].as_mut_slice()?);
                Ok(())
            }
            _ => KernelError::unsupported("fused activations need f32"),
        }
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("conv_direct", "any").because(
            "fast kernels need f32, channels last, constant weights and at most two spatial axes",
        )
    }
}

struct PoolAttributes<'a> {
    auto_pad: AutoPad,
    kernel: &'a [i64],
    strides: &'a [i64],
    dilations: &'a [i64],
    pads: &'a [i64],
    ceil_mode: bool,
}

fn lower_pool(
    site: &Site<'_>,
    attributes: &PoolAttributes<'_>,
    function: PoolFn,
    channels_last: bool,
) -> Result<Lowered, KernelError> {
    let x = site.shape(0)?;
    let kernel: Vec<usize> =
        attributes.kernel.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect();
    let window = Window {
        auto_pad: attributes.auto_pad,
        kernel: &kernel,
        strides: attributes.strides,
        dilations: attributes.dilations,
        pads: attributes.pads,
        ceil_mode: attributes.ceil_mode,
    };
    let (window, pad_end) = window3(&window, spatial(&x, channels_last))?;
    if channels_last {
        let window = window2(x[0], channels(&x, true), &window, &pad_end);
        let dtype = site.dtype(0)?;
        let bytes = matches!(dtype, DType::U8 | DType::I8) && function == PoolFn::Max;
        let Some(window) = window.filter(|_| dtype == DType::F32 || bytes) else {
            return KernelError::unsupported(
                "channels-last pooling needs f32, or bytes of which the largest is wanted, and two \
                 spatial axes",
            );
        };
        return boxed(LastPool { window, function });
    }
    if let Op::MaxPool(op) = site.op {
        return boxed(MaxPlanes { window, column_major: op.storage_order });
    }
    boxed(PlanePool(DirectPool { window, pad_end, function }))
}

fn lower_global(site: &Site<'_>, function: PoolFn) -> Result<Lowered, KernelError> {
    let x = site.shape(0)?;
    let pixels = x.get(2..).unwrap_or(&[]).iter().product();
    let (one, line) = ([1; 3], [1, 1, pixels]);
    let window = Window3d {
        input: line,
        output: one,
        kernel: line,
        stride: one,
        dilation: one,
        pad: [0; 3],
    };
    boxed(PlanePool(DirectPool { window, pad_end: [0; 3], function }))
}

/// Pooling of channels-last images.
struct LastPool {
    window: Window2d,
    function: PoolFn,
}

impl Kernel for LastPool {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.input(0)?, io.exec);
        let out = &mut io.outputs[0];
        match input.dtype() {
            DType::U8 => {
                max_pool::<u8>(exec, &self.window, input.as_slice()?, out.as_mut_slice()?);
                return Ok(());
            }
            DType::I8 => {
                max_pool::<i8>(exec, &self.window, input.as_slice()?, out.as_mut_slice()?);
                return Ok(());
            }
            _ => {}
        }
        let (input, out) = (input.as_slice::<f32>()?, out.as_mut_slice()?);
        match self.function {
            PoolFn::Max => max_pool(exec, &self.window, input, out),
            PoolFn::Average => average_pool(exec, &self.window, false, input, out),
            PoolFn::AverageWithPadding => average_pool(exec, &self.window, true, input, out),
            PoolFn::Norm(_) => return KernelError::unsupported("Lp pooling, channels last"),
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("pool_channels_last", "any")
    }
}

/// Largest elements plane by plane, with their places if they are wanted.
struct MaxPlanes {
    window: Window3d,
    column_major: bool,
}

impl Kernel for MaxPlanes {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.input(0)?, io.exec);
        let (out, places) = io.outputs.split_at_mut(1);
        let indices = match places.first_mut() {
            Some(view) => {
                let (indices, column_major) = (view.as_mut_slice()?, self.column_major);
                Some(MaxIndices { indices, column_major })
            }
            None => None,
        };
        number_type!(input.dtype(), T => {
            let (input, out) = (input.as_slice::<T>()?, out[0].as_mut_slice::<T>()?);
            let lowest = T::from_real(f64::NEG_INFINITY);
            direct_max_pool(exec, &self.window, lowest, input, out, indices);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("max_pool_direct", "any").because("the image is not channels last")
    }
}

/// Pooling plane by plane.
struct PlanePool(DirectPool);

impl Kernel for PlanePool {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.input(0)?, io.exec);
        let out = &mut io.outputs[0];
        float_type!(input.dtype(), T => {
            direct_pool::<T>(exec, &self.0, input.as_slice()?, out.as_mut_slice()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("pool_direct", "any").because("the image is not channels last")
    }
}
