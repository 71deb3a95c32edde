//! Normalisations.
//!
//! Layer and root-mean-square normalisation of f32 whose scale covers a row run on vector kernels
//! in place; other types and scales, and results that want the statistics, run in `f64`.

use landfall_graph::infer::resolve_axis;
use landfall_graph::{Op, ops};
use landfall_kernels::elementwise::{CastElement, Float, Wide};
use landfall_kernels::norm::{
    GroupNorm, LineNorm, Lines, LocalResponse, Planes, RowNorm, Spread, affine_channels,
    channel_moments, group_normalize, local_response, normalize_lines, normalize_rows,
    row_statistics,
};
use landfall_kernels::{NormKind, Normalize, normalize};
use landfall_tensor::{DType, Shape, TensorView, row_major_strides};

use super::types::float_type;
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::BatchNormalization(op) => lower_batch(site, op),
        Op::GroupNormalization(op) => lower_group(site, Some(op.num_groups), op.epsilon),
        Op::InstanceNormalization(op) => lower_group(site, None, op.epsilon),
        Op::LayerNormalization(op) => lower_rows(site, op.axis, op.epsilon, NormKind::Layer),
        Op::Lrn(op) => lower_response(site, op),
        Op::LpNormalization(op) => lower_lp(site, op),
        Op::MeanVarianceNormalization(op) => {
            lower_lines(site, LineNorm::MeanVariance, &op.axes, "mean_variance_norm")
        }
        Op::RmsNormalization(op) => lower_rows(site, op.axis, op.epsilon, NormKind::RootMeanSquare),
        _ => return None,
    })
}

fn boxed(kernel: impl Kernel + 'static) -> Result<Lowered, KernelError> {
    Ok(Lowered::Kernel(Box::new(kernel)))
}

/// A shape as images of channels; a vector is one channel.
fn planes(shape: &Shape) -> Planes {
    match **shape {
        [] => Planes { batch: 1, channels: 1, pixels: 1 },
        [batch] => Planes { batch, channels: 1, pixels: 1 },
        [batch, channels, ref rest @ ..] => {
            Planes { batch, channels, pixels: rest.iter().product() }
        }
    }
}

/// Fails unless operands `indices` have one element for each channel.
fn check_channels(
    site: &Site<'_>,
    indices: std::ops::Range<usize>,
    channels: usize,
) -> Result<(), KernelError> {
    for index in indices {
        let elements = site.shape(index)?.elements();
        if elements != channels {
            return KernelError::invalid(format!(
                "operand {index} has {elements} elements, the input has {channels} channels"
            ));
        }
    }
    Ok(())
}

/// Batch normalisation; with more than one result, by the batch's own statistics.
struct Batch {
    planes: Planes,
    epsilon: f32,
    momentum: f32,
    training: bool,
}

fn lower_batch(site: &Site<'_>, op: &ops::BatchNormalization) -> Result<Lowered, KernelError> {
    let planes = planes(&site.shape(0)?);
    check_channels(site, 1..5, planes.channels)?;
    if !op.training_mode && site.outputs.len() > 1 {
        return KernelError::unsupported("statistics are results in training mode only");
    }
    let training = op.training_mode;
    boxed(Batch { planes, epsilon: op.epsilon, momentum: op.momentum, training })
}

/// A list of reals in any floating-point type.
fn reals(view: TensorView<'_>) -> Result<Vec<f64>, KernelError> {
    float_type!(view.dtype(), T => {
        Ok(view.as_slice::<T>()?.iter().map(|x| x.to_real()).collect())
    })
}

impl Batch {
    /// Writes a running statistic: the old one and the batch's, weighted by the momentum.
    fn running(&self, io: &mut Io<'_>, index: usize, batch: &[f64]) -> Result<(), KernelError> {
        let old = reals(io.input(index + 2)?)?;
        let Some(out) = io.outputs.get_mut(index) else { return Ok(()) };
        let momentum = f64::from(self.momentum);
        float_type!(out.dtype(), T => {
            for (i, o) in out.as_mut_slice::<T>()?.iter_mut().enumerate() {
                *o = T::from_real(old[i] * momentum + batch[i] * (1.0 - momentum));
            }
        });
        Ok(())
    }

    fn normalize<T: Float>(
        &self,
        io: &mut Io<'_>,
        [scale, shift, mean, variance]: [&[f64]; 4],
    ) -> Result<(), KernelError> {
        let of = |list: &[f64]| -> Vec<T::Wide> {
            list.iter().map(|&x| <T::Wide as Wide>::of(x)).collect()
        };
        let epsilon = f64::from(self.epsilon);
        let factors = scale.iter().zip(variance).map(|(scale, v)| scale / (v + epsilon).sqrt());
        let factors: Vec<f64> = factors.collect();
        let lists = [of(mean), of(&factors), of(shift)];
        let lists = [&lists[0][..], &lists[1], &lists[2]];
        let (x, exec) = (io.input(0)?.as_slice::<T>()?, io.exec);
        affine_channels(exec, &self.planes, lists, x, io.outputs[0].as_mut_slice::<T>()?);
        Ok(())
    }
}

impl Kernel for Batch {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let dtype = io.input(0)?.dtype();
        let (scale, shift) = (reals(io.input(1)?)?, reals(io.input(2)?)?);
        let (mut mean, mut variance) = (reals(io.input(3)?)?, reals(io.input(4)?)?);
        if self.training {
            float_type!(dtype, T => {
                let x = io.input(0)?.as_slice::<T>()?;
                let moments = |c| channel_moments::<T>(&self.planes, c, x);
                (mean, variance) = (0..self.planes.channels).map(moments).unzip();
            });
            self.running(io, 1, &mean)?;
            self.running(io, 2, &variance)?;
        }
        float_type!(dtype, T => {
            self.normalize::<T>(io, [&scale, &shift, &mean, &variance])
        })
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("batch_norm", "f32")
            .because("the statistics are not constant, so that it cannot be folded")
    }
}

/// Group and instance normalisation.
struct Group(GroupNorm);

fn lower_group(site: &Site<'_>, groups: Option<i64>, epsilon: f32) -> Result<Lowered, KernelError> {
    let planes = planes(&site.shape(0)?);
    check_channels(site, 1..3, planes.channels)?;
    let groups = match groups {
        Some(groups) => usize::try_from(groups).unwrap_or(0),
        None => planes.channels.max(1),
    };
    if groups == 0 || !planes.channels.is_multiple_of(groups) {
        return KernelError::invalid(format!(
            "{} channels do not divide into {groups} groups",
            planes.channels
        ));
    }
    boxed(Group(GroupNorm { planes, groups, epsilon }))
}

impl Kernel for Group {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (x, scale, bias, exec) = (io.input(0)?, io.input(1)?, io.input(2)?, io.exec);
        let out = &mut io.outputs[0];
        float_type!(x.dtype(), T => {
            let lists = [scale.as_slice::<T>()?, bias.as_slice()?];
            group_normalize(exec, &self.0, lists, x.as_slice()?, out.as_mut_slice()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        let instance = self.0.groups == self.0.planes.channels;
        KernelInfo::portable(if instance { "instance_norm" } else { "group_norm" }, "f32")
    }
}

/// Local response normalisation.
struct Response(LocalResponse);

fn lower_response(site: &Site<'_>, op: &ops::Lrn) -> Result<Lowered, KernelError> {
    let planes = planes(&site.shape(0)?);
    let Some(size) = usize::try_from(op.size).ok().filter(|&size| size > 0) else {
        return KernelError::invalid(format!("size is {}, at least 1 is needed", op.size));
    };
    let (alpha, beta, bias) = (op.alpha, op.beta, op.bias);
    boxed(Response(LocalResponse { planes, size, alpha, beta, bias }))
}

impl Kernel for Response {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (x, exec) = (io.input(0)?, io.exec);
        let out = &mut io.outputs[0];
        float_type!(x.dtype(), T => {
            local_response::<T>(exec, &self.0, x.as_slice()?, out.as_mut_slice()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("local_response_norm", "f32")
    }
}

/// Normalisation over any axes.
struct AnyAxes {
    name: &'static str,
    norm: LineNorm,
    lines: Lines,
}

fn lower_lp(site: &Site<'_>, op: &ops::LpNormalization) -> Result<Lowered, KernelError> {
    let norm = match op.p {
        1 => LineNorm::L1,
        2 => LineNorm::L2,
        p => return KernelError::invalid(format!("p is {p}, expected 1 or 2")),
    };
    lower_lines(site, norm, &[op.axis], "lp_norm")
}

fn lower_lines(
    site: &Site<'_>,
    norm: LineNorm,
    axes: &[i64],
    name: &'static str,
) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    let mut along = vec![false; shape.rank()];
    for &axis in axes {
        along[resolve_axis(axis, shape.rank())?] = true;
    }
    boxed(AnyAxes { name, norm, lines: Lines::along(&shape, &along) })
}

impl Kernel for AnyAxes {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (x, exec) = (io.input(0)?, io.exec);
        let out = &mut io.outputs[0];
        float_type!(x.dtype(), T => {
            let (x, out) = (x.as_slice::<T>()?, out.as_mut_slice()?);
            normalize_lines::<T>(exec, self.norm, &self.lines, x, out);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable(self.name, "f64")
    }
}

fn lower_rows(
    site: &Site<'_>,
    axis: i64,
    epsilon: f32,
    kind: NormKind,
) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    let len = shape[resolve_axis(axis, shape.rank())?..].iter().product();
    let norm = RowNorm { kind, len, epsilon };
    let vector = |index| match site.has(index) {
        true => {
            let operand = (site.shape(index)?.elements(), site.dtype(index)?);
            Ok::<_, KernelError>(operand == (len, DType::F32))
        }
        false => Ok(true),
    };
    if site.outputs.len() <= 1 && site.dtype(0)? == DType::F32 && vector(1)? && vector(2)? {
        return boxed(VectorRows { isa: site.target.cpu.isa().name(), norm });
    }
    let spread = |index| match site.has(index) {
        true => spread(&shape, &site.shape(index)?).map(Some),
        false => Ok(None),
    };
    boxed(GeneralRows { norm, scale: spread(1)?, bias: spread(2)? })
}

/// How an operand is broadcast to `shape`.
fn spread(shape: &Shape, operand: &Shape) -> Result<Spread, KernelError> {
    let lead = operand.iter().take_while(|&&extent| extent == 1).count();
    let core = &operand[lead..];
    if shape.ends_with(core) {
        return Ok(Spread::Cyclic);
    }
    let fits = core.len() <= shape.rank()
        && core.iter().rev().zip(shape.iter().rev()).all(|(&own, &full)| own == 1 || own == full);
    if !fits || shape.elements() > u32::MAX as usize {
        return KernelError::invalid(format!(
            "a scale or bias of shape {:?} cannot be broadcast to {:?}",
            &**operand, &**shape
        ));
    }
    let strides = row_major_strides(core);
    let index = |element: usize| {
        let (mut rest, mut index) = (element, 0);
        for (axis, &extent) in shape.iter().enumerate().rev() {
            if let Some(own) = (axis + core.len()).checked_sub(shape.rank())
                && core[own] != 1
            {
                index += rest % extent * strides[own];
            }
            rest /= extent;
        }
        index as u32
    };
    Ok(Spread::Indexed((0..shape.elements()).map(index).collect()))
}

/// Rows of f32 with a scale and bias of a row's length.
struct VectorRows {
    isa: &'static str,
    norm: RowNorm,
}

fn row_kernel(kind: NormKind) -> &'static str {
    match kind {
        NormKind::Layer => "layer_norm",
        NormKind::RootMeanSquare => "rms_norm",
    }
}

impl Kernel for VectorRows {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.optional(0), io.exec);
        let (scale, bias) = (io.optional(1), io.optional(2));
        let out = io.outputs[0].as_mut_slice::<f32>()?;
        if let Some(input) = input {
            out.copy_from_slice(input.as_slice()?);
        }
        let norm = Normalize {
            kind: self.norm.kind,
            epsilon: self.norm.epsilon,
            scale: scale.map(|view| view.as_slice()).transpose()?,
            bias: bias.map(|view| view.as_slice()).transpose()?,
            residual: None,
        };
        normalize(exec, &norm, self.norm.len, out);
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        let (kernel, isa) = (row_kernel(self.norm.kind), self.isa);
        KernelInfo { kernel, isa, precision: "f32", reason: String::new() }
    }

    fn in_place(&self) -> Option<usize> {
        Some(0)
    }
}

/// Rows of any types.
struct GeneralRows {
    norm: RowNorm,
    scale: Option<Spread>,
    bias: Option<Spread>,
}

impl GeneralRows {
    fn rows<T: CastElement, P: CastElement>(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (scale, bias) = (io.optional(1), io.optional(2));
        let scale = scale.map(|view| view.as_slice::<P>()).transpose()?.zip(self.scale.as_ref());
        let bias = bias.map(|view| view.as_slice::<P>()).transpose()?.zip(self.bias.as_ref());
        let (x, exec) = (io.input(0)?.as_slice::<T>()?, io.exec);
        normalize_rows(exec, &self.norm, scale, bias, x, io.outputs[0].as_mut_slice()?);
        Ok(())
    }

    /// Writes mean and inverse standard deviation, where they are wanted.
    fn statistics<T: CastElement>(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let x = io.input(0)?.as_slice::<T>()?;
        let mut found = vec![[0.0; 2]; io.outputs[1].elements()];
        row_statistics(io.exec, &self.norm, x, &mut found);
        for (which, out) in io.outputs.iter_mut().skip(1).enumerate() {
            float_type!(out.dtype(), S => {
                for (o, row) in out.as_mut_slice::<S>()?.iter_mut().zip(&found) {
                    *o = S::from_real(row[which]);
                }
            });
        }
        Ok(())
    }
}

impl Kernel for GeneralRows {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (from, to) = (io.input(0)?.dtype(), io.outputs[0].dtype());
        float_type!(from, T => {
            if io.outputs.len() > 1 {
                self.statistics::<T>(io)?;
            }
            float_type!(to, P => self.rows::<T, P>(io))
        })
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable(row_kernel(self.norm.kind), "f64").because(
            "the type is not f32, the scale does not cover a row, or the statistics are results",
        )
    }
}
