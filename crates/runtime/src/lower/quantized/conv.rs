//! Convolutions.

use landfall_graph::AutoPad;
use landfall_graph::infer::Window;
use landfall_kernels::generic::{DirectConv, direct_conv};
use landfall_kernels::{
    Conv2d, ConvWeightsInt8, conv_column_sums_len, conv2d_int8, conv2d_int8_planar, pack_conv_int8,
    packed_conv_int8_len,
};

use super::super::convolution::{channels, spatial, window2, window3};
use super::super::quantization::integers;
use super::{Clamp, Packed, Parameters, Ports, boxed, known, left, raw, signed, with_parameters};
use crate::kernel::Io;
use crate::lower::{Lowered, Site};
use crate::{Kernel, KernelError, KernelInfo};

pub(super) struct Attributes<'a> {
    pub(super) auto_pad: AutoPad,
    pub(super) strides: &'a [i64],
    pub(super) dilations: &'a [i64],
    pub(super) pads: &'a [i64],
    pub(super) group: i64,
    pub(super) channels_last: bool,
}

pub(super) fn lower(
    site: &Site<'_>,
    ports: Ports,
    attributes: &Attributes<'_>,
    clamp: Clamp,
) -> Result<Lowered, KernelError> {
    let (x, w) = (site.shape(0)?, site.shape(ports.right)?);
    signed(site.dtype(0)?)?;
    let right_signed = signed(site.dtype(ports.right)?)?;
    if w.rank() < 3 || x.rank() != w.rank() {
        return KernelError::invalid(format!("an input of shape {x} and weights of shape {w}"));
    }
    let window = Window {
        auto_pad: attributes.auto_pad,
        kernel: &w[2..],
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
    let parameters = known(site, &ports, outputs, clamp)?;
    let product = Product { ports, clamp, outputs, parameters };
    let image = window2(x[0], inputs, &window, &pad_end);
    if let (Some(window), true) = (image, site.is_constant(ports.right)) {
        let conv = Conv2d { window, out_channels: outputs, groups };
        let layout = if conv.is_depthwise() { "int8_depthwise" } else { "int8_conv_panels" };
        let lens = (packed_conv_int8_len(&conv), conv_column_sums_len(&conv));
        let packed =
            Packed::new(site, ports.right, (layout, groups), lens, |tensor, data, sums| {
                pack_conv_int8(&conv, raw(tensor.view())?, right_signed, data, sums);
                Ok(())
            })?;
        let isa = site.target.cpu.isa().name();
        return boxed(Fast { isa, product, conv, packed, right_signed, planar: !last });
    }
    let conv = DirectConv {
        batch: x[0],
        channels: inputs,
        out_channels: outputs,
        groups,
        window,
        channels_last: last,
    };
    boxed(Direct { product, conv })
}

/// What every convolution needs to know beside its windows.
struct Product {
    ports: Ports,
    clamp: Clamp,
    outputs: usize,
    parameters: Option<Parameters>,
}

impl Product {
    fn with_parameters(
        &self,
        io: &mut Io<'_>,
        f: impl FnOnce(&Parameters, &mut Io<'_>) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let how = (&self.ports, self.outputs, self.clamp);
        with_parameters(self.parameters.as_ref(), io, how, f)
    }
}

/// One or two spatial axes and constant weights.
struct Fast {
    isa: &'static str,
    product: Product,
    conv: Conv2d,
    packed: Packed,
    right_signed: bool,
    /// Channels come first.
    planar: bool,
}

impl Kernel for Fast {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        self.product.with_parameters(io, |parameters, io| {
            let (input, exec) = (left(io, &self.product.ports)?, io.exec);
            let (data, sums) = self.packed.parts()?;
            let weights = ConvWeightsInt8 { data, sums, signed: self.right_signed };
            let epilogue = parameters.epilogue(&mut io.outputs[0], self.product.outputs)?;
            if self.planar {
                conv2d_int8_planar(exec, &self.conv, input, weights, epilogue);
            } else {
                conv2d_int8(exec, &self.conv, input, weights, epilogue);
            }
            Ok(())
        })
    }

    fn info(&self) -> KernelInfo {
        let kernel = match &self.conv {
            conv if conv.is_depthwise() => "depthwise_int8",
            conv if conv.window.taps() == 1 => "conv1x1_gemm_int8",
            _ => "conv_implicit_gemm_int8",
        };
        let info = KernelInfo { kernel, isa: self.isa, precision: "int8", reason: String::new() };
        match self.planar {
            true => info.because("transposes the image in and out: its channels are not last"),
            false => info,
        }
    }
}

/// Convolution in direct loops over `i32`.
struct Direct {
    product: Product,
    conv: DirectConv,
}

impl Kernel for Direct {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        self.product.with_parameters(io, |parameters, io| {
            let ports = &self.product.ports;
            let (zero, exec) = (left(io, ports)?.zero_point, io.exec);
            let mut x = integers(io.input(0)?)?;
            let mut w = integers(io.input(ports.right)?)?;
            x.iter_mut().for_each(|x| *x -= zero);
            let filter = w.len() / self.conv.out_channels.max(1);
            for (channel, filter) in w.chunks_exact_mut(filter.max(1)).enumerate() {
                let zero = parameters.right_zero(channel);
                filter.iter_mut().for_each(|w| *w -= zero);
            }
            let out = &mut io.outputs[0];
            let mut sums = vec![0i32; out.elements()];
            direct_conv::<i32>(exec, &self.conv, &x, &w, &mut sums);
            let (channels, pixels) =
                (self.conv.out_channels, self.conv.window.output.iter().product::<usize>());
            let last = self.conv.channels_last;
            parameters.finish(&sums, out, |i| match last {
                true => i % channels,
                false => i / pixels % channels,
            })
        })
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("conv_direct_int8", "int8")
            .because("fast kernels need constant weights and at most two spatial axes")
    }
}
