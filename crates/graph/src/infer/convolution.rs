//! Convolutions and pooling: the window arithmetic.

use landfall_tensor::DType;

use super::Fact;
use super::context::{InferError, Operands};
use crate::{AutoPad, Dim, Op};

/// A sliding window's attributes, empty lists meaning their defaults.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// How padding is chosen.
    pub auto_pad: AutoPad,
    /// Extent of the kernel along every spatial axis.
    pub kernel: &'a [usize],
    /// Step along every spatial axis; empty for 1.
    pub strides: &'a [i64],
    /// Distance between kernel elements along every spatial axis; empty for 1.
    pub dilations: &'a [i64],
    /// Padding before every spatial axis, then after every one; empty for 0.
    pub pads: &'a [i64],
    /// Round output extents up instead of down.
    pub ceil_mode: bool,
}

/// One spatial axis of a window, resolved for a known extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowAxis {
    /// Kernel extent.
    pub kernel: usize,
    /// Step.
    pub stride: usize,
    /// Distance between kernel elements.
    pub dilation: usize,
    /// Padding before; with `SAME_*` it is computed.
    pub pad_begin: usize,
    /// Padding after.
    pub pad_end: usize,
    /// Output extent.
    pub output: usize,
}

impl Window<'_> {
    /// Resolves axis `axis` for an input extent.
    pub fn resolve(&self, axis: usize, input: usize) -> Result<WindowAxis, InferError> {
        let rank = self.kernel.len();
        let Some(&kernel) = self.kernel.get(axis) else {
            return InferError::because(format!(
                "the window has {rank} axes, the input has more spatial ones"
            ));
        };
        let stride = at(self.strides, axis, 1, 1)?;
        let dilation = at(self.dilations, axis, 1, 1)?;
        let reach = kernel
            .checked_sub(1)
            .and_then(|n| n.checked_mul(dilation))
            .map(|n| n + 1)
            .ok_or_else(|| InferError(format!("kernel extent {kernel} is not possible")))?;
        let (pad_begin, pad_end) = match self.auto_pad {
            AutoPad::NotSet => (at(self.pads, axis, 0, 0)?, at(self.pads, axis + rank, 0, 0)?),
            AutoPad::Valid => (0, 0),
            AutoPad::SameUpper | AutoPad::SameLower => {
                let output = input.div_ceil(stride);
                let covered = output.saturating_sub(1).saturating_mul(stride);
                let total = covered.saturating_add(reach).saturating_sub(input);
                let (less, more) = (total / 2, total - total / 2);
                if self.auto_pad == AutoPad::SameUpper { (less, more) } else { (more, less) }
            }
        };
        let padded = input.saturating_add(pad_begin).saturating_add(pad_end);
        let Some(room) = padded.checked_sub(reach) else {
            return InferError::because(format!(
                "a kernel reaching over {reach} elements does not fit the padded extent {padded}"
            ));
        };
        let mut output = if self.ceil_mode && self.auto_pad == AutoPad::NotSet {
            room.div_ceil(stride) + 1
        } else {
            room / stride + 1
        };
        if self.ceil_mode && output > 1 && (output - 1) * stride >= input + pad_begin {
            output -= 1;
        }
        Ok(WindowAxis { kernel, stride, dilation, pad_begin, pad_end, output })
    }

    fn dim(&self, axis: usize, input: &Dim) -> Result<Dim, InferError> {
        if let Dim::Known(n) = input {
            return Ok(Dim::Known(self.resolve(axis, *n)?.output));
        }
        // An extent survives unchanged where stride 1 meets padding of the kernel's reach.
        let stride = at(self.strides, axis, 1, 1)?;
        let reach = (self.kernel[axis].saturating_sub(1)) * at(self.dilations, axis, 1, 1)?;
        let pads = match self.auto_pad {
            AutoPad::NotSet => {
                at(self.pads, axis, 0, 0)? + at(self.pads, axis + self.kernel.len(), 0, 0)?
            }
            AutoPad::Valid => 0,
            _ => reach,
        };
        Ok(if stride == 1 && pads == reach { input.clone() } else { Dim::Unknown })
    }
}

pub(super) fn at(
    list: &[i64],
    index: usize,
    default: usize,
    min: usize,
) -> Result<usize, InferError> {
    let Some(&value) = list.get(index) else { return Ok(default) };
    usize::try_from(value)
        .ok()
        .filter(|&n| n >= min && n <= i32::MAX as usize)
        .ok_or_else(|| InferError(format!("{value} is not a possible stride, dilation or pad")))
}

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let dtype = operands.dtype(0);
    macro_rules! conv {
        ($op:expr, $x:expr, $w:expr, $dtype:expr) => {{
            let (x, w) = (operands.dims($x), operands.dims($w));
            conv(x, w, $dtype, $op.auto_pad, &$op.strides, &$op.dilations, &$op.pads, false)
        }};
    }
    macro_rules! pool {
        ($op:expr) => {{
            let kernel = kernel_shape(&$op.kernel_shape);
            kernel.and_then(|kernel| {
                let window = Window {
                    auto_pad: $op.auto_pad,
                    kernel: &kernel,
                    strides: &$op.strides,
                    dilations: &$op.dilations,
                    pads: &$op.pads,
                    ceil_mode: $op.ceil_mode,
                };
                pool(operands.dims(0), &window, 2, dtype)
            })
        }};
    }
    let result = match operands.op {
        Op::Conv(op) => conv!(op, 0, 1, dtype),
        Op::ConvInteger(op) => conv!(op, 0, 1, Some(DType::I32)),
        Op::QLinearConv(op) => conv!(op, 0, 3, operands.dtype(7)),
        Op::FusedConv(op) => {
            let (x, w) = (operands.dims(0), operands.dims(1));
            let auto_pad = AutoPad::NotSet;
            let last = op.channels_last;
            conv(x, w, dtype, auto_pad, &op.strides, &op.dilations, &op.pads, last)
        }
        Op::QuantizedConv(op) => {
            let (x, w) = (operands.dims(0), operands.dims(3));
            let dtype = if operands.has(7) { operands.dtype(7) } else { Some(DType::F32) };
            let last = op.channels_last;
            conv(x, w, dtype, AutoPad::NotSet, &op.strides, &op.dilations, &op.pads, last)
        }
        Op::ChannelsLastPool(op) => kernel_shape(&op.kernel_shape).and_then(|kernel| {
            let window = Window {
                auto_pad: AutoPad::NotSet,
                kernel: &kernel,
                strides: &op.strides,
                dilations: &op.dilations,
                pads: &op.pads,
                ceil_mode: op.ceil_mode,
            };
            pool(operands.dims(0), &window, 1, dtype)
        }),
        Op::AveragePool(op) => pool!(op),
        Op::LpPool(op) => pool!(op),
        Op::MaxPool(op) => {
            return Some(pool!(op).map(|fact| {
                let indices = Fact::new(Some(DType::I64), fact.dims.clone());
                vec![fact, indices]
            }));
        }
        Op::GlobalAveragePool | Op::GlobalMaxPool | Op::GlobalLpPool(_) => {
            let dims = operands.dims(0).map(|dims| {
                let ones = dims.iter().skip(2).map(|_| Dim::Known(1));
                dims.iter().take(2).cloned().chain(ones).collect()
            });
            Ok(Fact::new(dtype, dims))
        }
        _ => return None,
    };
    Some(result.map(|fact| vec![fact]))
}

fn kernel_shape(list: &[i64]) -> Result<Vec<usize>, InferError> {
    (0..list.len()).map(|axis| at(list, axis, 1, 1)).collect()
}

#[allow(clippy::too_many_arguments, reason = "the attributes of one convolution")]
fn conv(
    x: Option<&[Dim]>,
    w: Option<&[Dim]>,
    dtype: Option<DType>,
    auto_pad: AutoPad,
    strides: &[i64],
    dilations: &[i64],
    pads: &[i64],
    channels_last: bool,
) -> Result<Fact, InferError> {
    let (Some(x), Some(w)) = (x, w) else { return Ok(Fact::new(dtype, None)) };
    let [features, _, spatial_kernel @ ..] = w else {
        return InferError::because(format!("weights have rank {}, expected 3 or more", w.len()));
    };
    if x.len() != spatial_kernel.len() + 2 {
        return InferError::because(format!(
            "input has rank {}, weights have rank {}",
            x.len(),
            spatial_kernel.len() + 2
        ));
    }
    let kernel: Option<Vec<usize>> = spatial_kernel.iter().map(Dim::known).collect();
    let first = if channels_last { 1 } else { 2 };
    let spatial: Vec<Dim> = match &kernel {
        None => vec![Dim::Unknown; spatial_kernel.len()],
        Some(kernel) => {
            let window = Window { auto_pad, kernel, strides, dilations, pads, ceil_mode: false };
            (0..kernel.len())
                .map(|axis| window.dim(axis, &x[first + axis]))
                .collect::<Result<_, _>>()?
        }
    };
    let mut dims = vec![x[0].clone()];
    if channels_last {
        dims.extend(spatial);
        dims.push(features.clone());
    } else {
        dims.push(features.clone());
        dims.extend(spatial);
    }
    Ok(Fact::new(dtype, Some(dims)))
}

/// Pools the spatial axes, which start at `first`: 2, or 1 if channels are last.
fn pool(
    x: Option<&[Dim]>,
    window: &Window<'_>,
    first: usize,
    dtype: Option<DType>,
) -> Result<Fact, InferError> {
    let Some(x) = x else { return Ok(Fact::new(dtype, None)) };
    if x.len() != window.kernel.len() + 2 {
        return InferError::because(format!(
            "input has rank {}, kernel_shape has {} axes",
            x.len(),
            window.kernel.len()
        ));
    }
    let mut dims = x.to_vec();
    for axis in 0..window.kernel.len() {
        dims[first + axis] = window.dim(axis, &x[first + axis])?;
    }
    Ok(Fact::new(dtype, Some(dims)))
}
