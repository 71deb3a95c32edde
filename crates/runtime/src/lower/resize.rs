//! Resizing: every output's taps are worked out when the plan is made.
//!
//! Source of the coordinate and weight formulas: the ONNX `Resize` operator; cubic weights are
//! those of R. Keys, "Cubic convolution interpolation for digital image processing" (1981).

use landfall_graph::infer::{ResizedAxis, resized_axes};
use landfall_graph::{CoordinateTransform, NearestMode, Op, ResizeMode, ops};
use landfall_kernels::elementwise::{CastElement, Wide};
use landfall_kernels::sample::{
    Interpolation, NearestAxis, Sample, Taps, gather_nearest, interpolate,
};
use landfall_tensor::{DType, Shape};

use super::movement::known_ints;
use super::types::{float_type, number_type};
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    match site.op {
        Op::Resize(op) => Some(lower_resize(site, op)),
        _ => None,
    }
}

/// The map from output to input coordinates of one axis.
struct Line<'a> {
    op: &'a ops::Resize,
    input: usize,
    output: usize,
    scale: f64,
    /// Normalised start and end of the region of interest.
    region: [f64; 2],
}

impl Line<'_> {
    /// The input coordinate of an output; `None` if it is extrapolated.
    fn coordinate(&self, output: usize) -> Option<f64> {
        let (x, scale, input) = (output as f64, self.scale, self.input as f64);
        let length = scale * input;
        let half_pixel = (x + 0.5) / scale - 0.5;
        Some(match self.op.coordinate_transformation_mode {
            CoordinateTransform::HalfPixel => half_pixel,
            CoordinateTransform::HalfPixelSymmetric => {
                half_pixel + input / 2.0 * (1.0 - self.output as f64 / length)
            }
            CoordinateTransform::PytorchHalfPixel if self.output > 1 => half_pixel,
            CoordinateTransform::PytorchHalfPixel => 0.0,
            CoordinateTransform::AlignCorners if length == 1.0 => 0.0,
            CoordinateTransform::AlignCorners => x * (input - 1.0) / (length - 1.0),
            CoordinateTransform::Asymmetric => x / scale,
            CoordinateTransform::TfHalfPixelForNn => (x + 0.5) / scale,
            CoordinateTransform::TfCropAndResize => {
                let [start, end] = self.region;
                let last = input - 1.0;
                let at = if self.output > 1 {
                    start * last + x * (end - start) * last / (length - 1.0)
                } else {
                    0.5 * (start + end) * last
                };
                return (0.0..=last).contains(&at).then_some(at);
            }
        })
    }

    fn clamp(&self, index: f64) -> usize {
        index.clamp(0.0, self.input as f64 - 1.0) as usize
    }

    fn nearest(&self) -> NearestAxis {
        let round = |x: f64| match self.op.nearest_mode {
            NearestMode::RoundPreferFloor => (x - 0.5).ceil(),
            NearestMode::RoundPreferCeil => (x + 0.5).floor(),
            NearestMode::Floor => x.floor(),
            NearestMode::Ceil => x.ceil(),
            NearestMode::Simple if self.scale < 1.0 => x.ceil(),
            NearestMode::Simple => x.trunc(),
        };
        let source = |o| self.coordinate(o).map(|x| self.clamp(round(x)) as u32);
        NearestAxis { input: self.input, sources: (0..self.output).map(source).collect() }
    }

    fn taps<W: Wide>(&self) -> Taps<W> {
        let mut taps = Taps::new(self.input);
        for output in 0..self.output {
            match self.coordinate(output) {
                Some(x) => taps.push(&self.weights(x)),
                None => taps.push_filled(),
            }
        }
        taps
    }

    /// Input indices and weights around a coordinate.
    fn weights(&self, x: f64) -> Vec<(usize, f64)> {
        let cubic = self.op.mode == ResizeMode::Cubic;
        // Shrinking with antialiasing widens the filter to cover what it would skip.
        let narrow = if self.op.antialias { self.scale.min(1.0) } else { 1.0 };
        let radius = if cubic { 2.0 } else { 1.0 };
        let reach = f64::ceil(radius / narrow);
        let (first, last) = (x.floor() - reach + 1.0, x.floor() + reach);
        let mut list: Vec<(usize, f64)> = Vec::new();
        let mut total = 0.0;
        let mut at = first;
        while at <= last {
            let distance = ((at - x) * narrow).abs();
            let weight = if cubic { self.cubic(distance) } else { (1.0 - distance).max(0.0) };
            let outside = at < 0.0 || at >= self.input as f64;
            if weight != 0.0 && !(self.op.exclude_outside && outside) {
                total += weight;
                let index = self.clamp(at);
                match list.last_mut() {
                    Some(last) if last.0 == index => last.1 += weight,
                    _ => list.push((index, weight)),
                }
            }
            at += 1.0;
        }
        if (self.op.antialias || self.op.exclude_outside) && total != 0.0 {
            list.iter_mut().for_each(|(_, weight)| *weight /= total);
        }
        list
    }

    fn cubic(&self, x: f64) -> f64 {
        let a = f64::from(self.op.cubic_coeff_a);
        if x <= 1.0 {
            ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
        } else {
            0.0
        }
    }
}

/// Normalised start and end for every axis: the whole axis where no region is given.
fn regions(
    site: &Site<'_>,
    op: &ops::Resize,
    axes: &[ResizedAxis],
    rank: usize,
) -> Result<Vec<[f64; 2]>, KernelError> {
    let mut regions = vec![[0.0, 1.0]; rank];
    if op.coordinate_transformation_mode != CoordinateTransform::TfCropAndResize {
        return Ok(regions);
    }
    let Some(tensor) = site.tensor(1) else {
        return KernelError::invalid("the region of interest is missing or not known yet");
    };
    let ends: Vec<f64> = float_type!(tensor.dtype(), T => {
        tensor.as_slice::<T>()?.iter().map(|x| x.to_real()).collect()
    });
    if ends.len() != 2 * axes.len() {
        return KernelError::invalid(format!(
            "the region of interest has {} numbers, {} axes need two each",
            ends.len(),
            axes.len()
        ));
    }
    for (i, resized) in axes.iter().enumerate() {
        regions[resized.axis] = [ends[i], ends[axes.len() + i]];
    }
    Ok(regions)
}

fn lower_resize(site: &Site<'_>, op: &ops::Resize) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    if site.has(2) && !site.is_constant(2) {
        return KernelError::invalid("scales are not known yet");
    }
    let sizes = known_ints(site, 3)?;
    let axes = resized_axes(op, &shape, site.tensor(2).as_ref(), sizes.as_deref())?;
    let regions = regions(site, op, &axes, shape.rank())?;
    let mut lines: Vec<Option<Line<'_>>> = (0..shape.rank()).map(|_| None).collect();
    for resized in &axes {
        let (input, output, scale) = (shape[resized.axis], resized.output, resized.scale);
        let region = regions[resized.axis];
        if input == output && (scale - 1.0).abs() < 1e-9 && region == [0.0, 1.0] {
            continue;
        }
        if input == 0 && output > 0 {
            return KernelError::invalid(format!("axis {} has no elements", resized.axis));
        }
        lines[resized.axis] = Some(Line { op, input, output, scale, region });
    }
    let Some(first) = lines.iter().position(Option::is_some) else { return Ok(Lowered::Alias) };
    let last = lines.iter().rposition(Option::is_some).unwrap_or(first);
    let span = Span { first, last, shape: &shape, lines: &lines };
    let dtype = site.dtype(0)?;
    let fill = op.extrapolation_value;
    let kernel: Box<dyn Kernel> = match (op.mode, dtype) {
        (ResizeMode::Nearest, _) => Box::new(span.nearest(fill)?),
        (_, DType::F32 | DType::F16 | DType::BF16) => Box::new(span.weighted::<f32>(fill)),
        _ => Box::new(span.weighted::<f64>(fill)),
    };
    Ok(Lowered::Kernel(kernel))
}

/// The axes from the first resized one to the last.
struct Span<'a> {
    first: usize,
    last: usize,
    shape: &'a Shape,
    lines: &'a [Option<Line<'a>>],
}

impl Span<'_> {
    fn run(&self) -> usize {
        self.shape[self.last + 1..].iter().product()
    }

    fn planes(&self) -> usize {
        self.shape[..self.first].iter().product()
    }

    fn nearest(&self, fill: f32) -> Result<Nearest, KernelError> {
        if self.shape.iter().any(|&extent| extent > u32::MAX as usize) {
            return KernelError::unsupported("an axis of more than 2³² elements");
        }
        let whole = |input: usize| NearestAxis {
            input,
            sources: (0..input).map(|i| Some(i as u32)).collect(),
        };
        let mut axes = vec![whole(self.planes())];
        for axis in self.first..=self.last {
            let line = self.lines[axis].as_ref();
            axes.push(line.map_or_else(|| whole(self.shape[axis]), Line::nearest));
        }
        Ok(Nearest { axes, run: self.run(), fill })
    }

    fn weighted<W: Wide>(&self, fill: f32) -> Weighted<W> {
        let axes = (self.first..=self.last).map(|axis| match &self.lines[axis] {
            Some(line) => line.taps(),
            None => Taps::identity(self.shape[axis]),
        });
        let (planes, run) = (self.planes(), self.run());
        Weighted { resize: Interpolation { planes, axes: axes.collect(), run }, fill }
    }
}

/// Resizing by copies.
struct Nearest {
    axes: Vec<NearestAxis>,
    run: usize,
    fill: f32,
}

impl Kernel for Nearest {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.input(0)?, io.exec);
        let out = &mut io.outputs[0];
        number_type!(input.dtype(), T => {
            let fill = T::from_real(f64::from(self.fill));
            let (input, out) = (input.as_slice::<T>()?, out.as_mut_slice::<T>()?);
            gather_nearest(exec, &self.axes, self.run, fill, input, out);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("resize_nearest", "any")
    }
}

/// Resizing by weighted sums.
struct Weighted<W> {
    resize: Interpolation<W>,
    fill: f32,
}

impl<W: Wide> Weighted<W> {
    fn typed<T: Sample<Wide = W> + CastElement>(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.input(0)?.as_slice::<T>()?, io.exec);
        let fill = T::from_real(f64::from(self.fill));
        interpolate(exec, &self.resize, fill, input, io.outputs[0].as_mut_slice()?);
        Ok(())
    }
}

impl Kernel for Weighted<f32> {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        super::types::dispatch!(io.input(0)?.dtype(), T => self.typed::<T>(io), F32 f32,
            F16 landfall_tensor::f16, BF16 landfall_tensor::bf16)
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("resize_separable", "f32")
    }
}

impl Kernel for Weighted<f64> {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        super::types::dispatch!(io.input(0)?.dtype(), T => self.typed::<T>(io), F64 f64, I64 i64,
            I32 i32, I8 i8, U8 u8, I16 i16, U16 u16, U32 u32, U64 u64)
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("resize_separable", "f64").because("the type is not a narrow float")
    }
}
