//! Resizing by weighted sums along one axis after the other.
//!
//! An output line along the first resized axis needs only a few input lines: they are summed first,
//! in vector code along the remaining axes, and the sum is then resized along those.

use super::Sample;
use crate::elementwise::Wide;
use crate::parallel::over_chunks;
use crate::simd::in_vector_code;
use crate::{Exec, scratch};

/// The weighted sums of one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Taps<W> {
    /// Input extent.
    input: usize,
    /// For every output index, where its taps end; they begin where those before end.
    ends: Vec<usize>,
    /// Input index and weight.
    taps: Vec<(usize, W)>,
    /// For every output index, whether it gives the fill value.
    filled: Vec<bool>,
}

impl<W: Wide> Taps<W> {
    /// An axis of extent `input` without outputs yet.
    pub fn new(input: usize) -> Taps<W> {
        Taps { input, ends: Vec::new(), taps: Vec::new(), filled: Vec::new() }
    }

    /// An axis that stays as it is.
    pub fn identity(extent: usize) -> Taps<W> {
        let mut taps = Taps::new(extent);
        (0..extent).for_each(|i| taps.push(&[(i, 1.0)]));
        taps
    }

    /// Adds an output: the sum of input elements times weights.
    ///
    /// # Panics
    /// If an input index is out of range.
    pub fn push(&mut self, taps: &[(usize, f64)]) {
        for &(index, weight) in taps {
            assert!(index < self.input, "tap {index} outside an extent of {}", self.input);
            self.taps.push((index, W::of(weight)));
        }
        self.ends.push(self.taps.len());
        self.filled.push(false);
    }

    /// Adds an output that gives the fill value.
    pub fn push_filled(&mut self) {
        self.ends.push(self.taps.len());
        self.filled.push(true);
    }

    /// Output extent.
    pub fn outputs(&self) -> usize {
        self.ends.len()
    }

    #[inline(always)]
    fn at(&self, output: usize) -> &[(usize, W)] {
        let start = if output == 0 { 0 } else { self.ends[output - 1] };
        &self.taps[start..self.ends[output]]
    }
}

/// A resize of `[planes, axes..., run]` along `axes`.
#[derive(Debug, Clone, PartialEq)]
pub struct Interpolation<W> {
    /// Product of the extents before the first resized axis.
    pub planes: usize,
    /// The axes from the first resized one to the last.
    pub axes: Vec<Taps<W>>,
    /// Product of the extents after the last resized axis.
    pub run: usize,
}

impl<W: Wide> Interpolation<W> {
    /// Elements of a line once axes `1..done` are resized.
    fn line(&self, done: usize) -> usize {
        let extent =
            |(i, axis): (usize, &Taps<W>)| if i < done { axis.outputs() } else { axis.input };
        self.axes.iter().enumerate().skip(1).map(extent).product::<usize>() * self.run
    }
}

/// Resizes `input`; outputs that an axis fills are `fill`.
///
/// # Panics
/// If a slice has the wrong length or there are no axes.
pub fn interpolate<T: Sample>(
    exec: Exec<'_>,
    resize: &Interpolation<T::Wide>,
    fill: T,
    input: &[T],
    out: &mut [T],
) {
    let first_axis = &resize.axes[0];
    let outputs = first_axis.outputs();
    let count = resize.axes.len();
    let (line_in, line_out) = (resize.line(0), resize.line(count));
    assert_eq!(input.len(), resize.planes * first_axis.input * line_in, "input length");
    assert_eq!(out.len(), resize.planes * outputs * line_out, "output length");
    let widest = (1..=count).map(|done| resize.line(done)).max().unwrap_or(0).max(line_in);
    let cost = 4 * count;
    over_chunks(exec, out, line_out, cost, &|first, chunk| {
        scratch::with(2 * widest, |buffers: &mut [T::Wide]| {
            let (a, b) = buffers.split_at_mut(widest);
            in_vector_code(
                exec.cpu,
                #[inline(always)]
                || {
                    for (i, out) in chunk.chunks_exact_mut(line_out).enumerate() {
                        let (plane, at) = ((first + i) / outputs, (first + i) % outputs);
                        if first_axis.filled[at] {
                            out.fill(fill);
                            continue;
                        }
                        let plane = &input[plane * first_axis.input * line_in..];
                        sum_lines(first_axis.at(at), plane, &mut a[..line_in]);
                        finish_line(resize, [&mut *a, &mut *b], out);
                        fill_line(resize, fill, out);
                    }
                },
            );
        });
    });
}

/// `sum = Σ weight line[index]`.
#[inline(always)]
fn sum_lines<T: Sample>(taps: &[(usize, T::Wide)], lines: &[T], sum: &mut [T::Wide]) {
    let len = sum.len();
    let line = |index: usize| &lines[index * len..][..len];
    match *taps {
        [(i, one)] => {
            sum.iter_mut().zip(line(i)).for_each(|(s, &x)| *s = x.read() * one);
        }
        [(i, one), (j, two)] => {
            for ((s, &x), &y) in sum.iter_mut().zip(line(i)).zip(line(j)) {
                *s = x.read() * one + y.read() * two;
            }
        }
        _ => {
            sum.fill(T::Wide::of(0.0));
            for &(index, weight) in taps {
                for (s, &x) in sum.iter_mut().zip(line(index)) {
                    *s = *s + x.read() * weight;
                }
            }
        }
    }
}

/// Resizes a line along the axes after the first and writes it.
#[inline(always)]
fn finish_line<T: Sample>(
    resize: &Interpolation<T::Wide>,
    [mut from, mut to]: [&mut [T::Wide]; 2],
    out: &mut [T],
) {
    let mut outer = 1;
    let mut inner = resize.line(0);
    for axis in &resize.axes[1..] {
        inner /= axis.input.max(1);
        for block in 0..outer {
            let source = &from[block * axis.input * inner..][..axis.input * inner];
            let target = &mut to[block * axis.outputs() * inner..][..axis.outputs() * inner];
            resize_block(axis, inner, source, target);
        }
        outer *= axis.outputs();
        (from, to) = (to, from);
    }
    out.iter_mut().zip(&*from).for_each(|(o, &x)| *o = T::write(x));
}

/// Resizes `[input, inner]` to `[outputs, inner]`.
#[inline(always)]
fn resize_block<W: Wide>(axis: &Taps<W>, inner: usize, source: &[W], target: &mut [W]) {
    if inner == 1 {
        let mut start = 0;
        for (o, &end) in target.iter_mut().zip(&axis.ends) {
            let taps = &axis.taps[start..end];
            let sum = taps.iter().fold(W::of(0.0), |sum, &(i, weight)| sum + source[i] * weight);
            (*o, start) = (sum, end);
        }
        return;
    }
    for (at, target) in target.chunks_exact_mut(inner).enumerate() {
        target.fill(W::of(0.0));
        for &(index, weight) in axis.at(at) {
            let source = &source[index * inner..][..inner];
            target.iter_mut().zip(source).for_each(|(o, &x)| *o = *o + x * weight);
        }
    }
}

/// Overwrites what the axes after the first fill.
#[inline(always)]
fn fill_line<T: Sample>(resize: &Interpolation<T::Wide>, fill: T, out: &mut [T]) {
    let mut inner = out.len();
    for axis in &resize.axes[1..] {
        let extent = axis.outputs();
        inner /= extent;
        if !axis.filled.contains(&true) {
            continue;
        }
        for (i, block) in out.chunks_exact_mut(inner).enumerate() {
            if axis.filled[i % extent] {
                block.fill(fill);
            }
        }
    }
}
