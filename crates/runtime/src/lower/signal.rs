//! Fourier transforms, windows and mel filters.

use std::f64::consts::PI;

use landfall_graph::infer::resolve_axis;
use landfall_graph::{Op, ops};
use landfall_kernels::signal::{Complex, fourier};
use landfall_tensor::Shape;

use super::reals::{known_extent, known_real, read_reals, write_reals};
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

/// Elements of a table of coefficients.
const MAX_TABLE: usize = 1 << 26;

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::Dft(op) => lower_dft(site, op),
        Op::Stft(op) => lower_stft(site, op.onesided),
        Op::HannWindow(op) => {
            lower_window(site, op.periodic, |x| (PI * x).sin().powi(2))
        }
        Op::HammingWindow(op) => lower_window(site, op.periodic, |x| {
            let alpha = 25.0 / 46.0;
            alpha - (1.0 - alpha) * (2.0 * PI * x).cos()
        }),
        Op::BlackmanWindow(op) => lower_window(site, op.periodic, |x| {
            0.42 - 0.5 * (2.0 * PI * x).cos() + 0.08 * (4.0 * PI * x).cos()
        }),
        Op::MelWeightMatrix(_) => lower_mel(site),
        _ => return None,
    })
}

fn boxed(kernel: impl Kernel + 'static) -> Result<Lowered, KernelError> {
    Ok(Lowered::Kernel(Box::new(kernel)))
}

/// A result that depends on nothing known only while running.
struct Table {
    values: Vec<f64>,
}

impl Kernel for Table {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        write_reals(self.values.iter().copied(), &mut io.outputs[0])
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("table", "f64")
    }
}

/// A window of `function` over `0..=1`.
fn lower_window(
    site: &Site<'_>,
    periodic: bool,
    function: fn(f64) -> f64,
) -> Result<Lowered, KernelError> {
    let size = known_extent(site, 0)?;
    if size > MAX_TABLE {
        return KernelError::invalid(format!("a window of {size} elements"));
    }
    let last = if periodic { size } else { size.saturating_sub(1) };
    let values = match (size, last) {
        (1, 0) => vec![1.0],
        _ => (0..size).map(|i| function(i as f64 / last as f64)).collect(),
    };
    boxed(Table { values })
}

fn lower_mel(site: &Site<'_>) -> Result<Lowered, KernelError> {
    let (bins, length) = (known_extent(site, 0)?, known_extent(site, 1)?);
    let rate = known_real(site, 2)?;
    let (low, high) = (known_real(site, 3)?, known_real(site, 4)?);
    let rows = length / 2 + 1;
    if rows.saturating_mul(bins.max(1)) > MAX_TABLE || rate <= 0.0 {
        return KernelError::invalid(format!("{rows} times {bins} weights at rate {rate}"));
    }
    let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / 10f64.ln();
    let step = (mel(high) - mel(low)) / (bins + 2) as f64;
    let edge = |i: usize| {
        let hertz = 700.0 * ((mel(low) + i as f64 * step) / 2595.0 * 10f64.ln()).exp_m1();
        ((length + 1) as f64 * hertz / rate).floor()
    };
    let edges: Vec<f64> = (0..bins + 2).map(edge).collect();
    if edges.iter().any(|edge| !(0.0..rows as f64).contains(edge)) {
        return KernelError::invalid(format!("{low} to {high} hertz are not below half of {rate}"));
    }
    let mut values = vec![0.0; rows * bins];
    for bin in 0..bins {
        let [left, centre, right] = [edges[bin], edges[bin + 1], edges[bin + 2]];
        let (first, middle, last) = (left as usize, centre as usize, right as usize);
        for row in first..=middle {
            values[row * bins + bin] = match middle > first {
                true => (row - first) as f64 / (centre - left),
                false => 1.0,
            };
        }
        for row in middle..last {
            values[row * bins + bin] = (last - row) as f64 / (right - centre);
        }
    }
    boxed(Table { values })
}

/// Transforms along one axis.
struct Dft {
    /// Extent of the input and of the result along the axis.
    given: usize,
    bins: usize,
    /// Length of the transform.
    length: usize,
    /// Elements, complex ones counting once, from one along the axis to the next.
    step: usize,
    /// Parts of the input's elements: 1 if they are real.
    parts: usize,
    inverse: bool,
    onesided: bool,
}

fn lower_dft(site: &Site<'_>, op: &ops::Dft) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    let axis = match site.has(2) {
        true => known_real(site, 2)? as i64,
        false => -2,
    };
    let axis = resolve_axis(axis, shape.rank())?;
    let parts = shape.last().copied().unwrap_or(0);
    if axis + 1 == shape.rank() || !(1..=2).contains(&parts) {
        return KernelError::invalid(format!("{shape} is no signal along axis {axis}"));
    }
    let (inverse, onesided) = (op.inverse, op.onesided);
    let given = shape[axis];
    let length = match (site.has(1), inverse && onesided) {
        (true, _) => known_extent(site, 1)?,
        (false, true) => given.saturating_sub(1).saturating_mul(2),
        (false, false) => given,
    };
    let bins = if onesided && !inverse { length / 2 + 1 } else { length };
    let expected = site.output_shape(0)?;
    if expected.get(axis) != Some(&bins) || length == 0 {
        return KernelError::invalid(format!("a transform of length {length}"));
    }
    let step = shape[axis + 1..shape.rank() - 1].iter().product();
    boxed(Dft { given, bins, length, step, parts, inverse, onesided })
}

impl Dft {
    /// Gathers the line at `start` into `line`, cut or padded to the transform's length.
    fn gather(&self, input: &[f64], start: usize, line: &mut [Complex]) {
        let at = |k: usize| {
            let index = (start + k * self.step) * self.parts;
            [input[index], if self.parts == 2 { input[index + 1] } else { 0.0 }]
        };
        line.fill([0.0; 2]);
        if !(self.inverse && self.onesided) {
            let taken = line.iter_mut().take(self.given).enumerate();
            return taken.for_each(|(k, x)| *x = at(k));
        }
        let half = self.length / 2;
        for k in 0..self.given.min(half + 1) {
            let [real, imaginary] = at(k);
            if k == 0 || 2 * k == self.length {
                line[k] = [real, 0.0];
            } else {
                line[k] = [real, imaginary];
                line[self.length - k] = [real, -imaginary];
            }
        }
    }
}

impl Kernel for Dft {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = read_reals(io.input(0)?)?;
        let out = &mut io.outputs[0];
        let parts = if self.inverse && self.onesided { 1 } else { 2 };
        let mut values = vec![0.0; out.elements()];
        let mut line = vec![[0.0; 2]; self.length];
        let scale = if self.inverse { 1.0 / self.length as f64 } else { 1.0 };
        let lines = values.len() / (self.bins * parts).max(1);
        for index in 0..lines {
            let (outer, inner) = (index / self.step, index % self.step);
            self.gather(&input, outer * self.given * self.step + inner, &mut line);
            fourier(&mut line, self.inverse);
            let start = outer * self.bins * self.step + inner;
            for (k, x) in line.iter().take(self.bins).enumerate() {
                let at = (start + k * self.step) * parts;
                for (value, part) in values[at..at + parts].iter_mut().zip(x) {
                    *value = part * scale;
                }
            }
        }
        write_reals(values.into_iter(), out)
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("fft", "f64")
    }
}

/// Transforms of windowed frames.
struct Stft {
    samples: usize,
    parts: usize,
    step: usize,
    length: usize,
    frames: usize,
    bins: usize,
}

fn lower_stft(site: &Site<'_>, onesided: bool) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    let [_, samples, parts @ (1 | 2)] = shape[..] else {
        return KernelError::invalid(format!("a signal {shape}, not [batch, samples, 1 or 2]"));
    };
    let step = known_extent(site, 1)?;
    let window = if site.has(2) { Some(site.shape(2)?.elements()) } else { None };
    let length = match (site.has(3), window) {
        (true, _) => known_extent(site, 3)?,
        (false, window) => window.unwrap_or(samples),
    };
    if step == 0 || length == 0 || window.is_some_and(|window| window != length) {
        return KernelError::invalid(format!(
            "frames of {length} samples, {step} apart, with a window of {window:?}"
        ));
    }
    let frames = samples.checked_sub(length).map_or(0, |rest| rest / step + 1);
    let bins = if onesided { length / 2 + 1 } else { length };
    let expected = Shape::from([shape[0], frames, bins, 2]);
    let found = site.output_shape(0)?;
    if found != expected {
        return KernelError::invalid(format!("a result {expected} where {found} was inferred"));
    }
    boxed(Stft { samples, parts, step, length, frames, bins })
}

impl Kernel for Stft {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let signal = read_reals(io.input(0)?)?;
        let window = io.optional(2).map(read_reals).transpose()?;
        let mut line = vec![[0.0; 2]; self.length];
        let out = &mut io.outputs[0];
        let mut values = Vec::with_capacity(out.elements());
        let block = self.samples * self.parts;
        for signal in signal.chunks_exact(block.max(1)) {
            for frame in 0..self.frames {
                for (k, x) in line.iter_mut().enumerate() {
                    let at = (frame * self.step + k) * self.parts;
                    let weight = window.as_ref().map_or(1.0, |window| window[k]);
                    let imaginary = if self.parts == 2 { signal[at + 1] } else { 0.0 };
                    *x = [signal[at] * weight, imaginary * weight];
                }
                fourier(&mut line, false);
                values.extend(line[..self.bins].iter().flatten());
            }
        }
        write_reals(values.into_iter(), out)
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("stft", "f64")
    }
}
