//! A 1×1 convolution that expands, a depthwise one and a 1×1 one that projects, run together for
//! bands of output rows: what the first two leave is wide and stays in L2.
//!
//! Each thread owns some output rows. For every band of them it expands the input rows that the
//! band's windows reach and no earlier band did, 32 channels at a time, into a ring of rows that
//! holds those channels side by side, and runs the depthwise convolution on these channels while
//! they are in L1 or L2; then it projects the band. Rows at the edge between two threads are
//! expanded by both. Every element is computed as by [`super::conv2d`], so results are the same to
//! the bit.

use std::ops::Range;
use std::ptr;

use super::taps::{self, MAX_ROWS, RowArgs};
use super::{Conv2d, Window2d, conv2d};
use crate::gemm::{Epilogue, PANEL, Product, Right, RowsMut, RowsRef, run_part};
use crate::math::Activation;
use crate::rows::DenseRows;
use crate::simd::{Simd, SimdOp, dispatch};
use crate::{CacheSizes, Cpu, Exec, Isa, parallel, scratch};

/// Channels that are expanded together.
const GROUP: usize = 2 * PANEL;

/// One convolution of a chain.
#[derive(Debug, Clone, Copy)]
pub struct ConvStage<'a> {
    /// Its geometry.
    pub conv: Conv2d,
    /// Weights packed by [`Conv2d::pack_weights`].
    pub weights: &'a [f32],
    /// `[out_channels]`.
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

/// Convolutions of which each reads what the one before leaves.
#[derive(Debug, Clone, Copy)]
pub struct ConvChain<'a> {
    /// 1×1, to the channels of the depthwise one; if absent, that reads the input.
    pub expand: Option<ConvStage<'a>>,
    /// One filter for every channel.
    pub depthwise: ConvStage<'a>,
    /// 1×1.
    pub project: ConvStage<'a>,
}

/// Rows of a band and of the ring behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bands {
    /// Output rows of a band.
    rows: usize,
    /// Expanded rows that are kept.
    ring: usize,
}

impl ConvChain<'_> {
    /// Whether [`conv_chain`] is faster than the convolutions one by one: what lies in between does
    /// not stay in L2 as a whole but does band by band.
    pub fn is_worthwhile(&self, caches: CacheSizes) -> bool {
        let w = &self.depthwise.conv.window;
        let image = |height: usize, width: usize| {
            height.saturating_mul(width).saturating_mul(w.channels * size_of::<f32>())
        };
        let expanded = self.expand.map_or(0, |_| image(w.height, w.width));
        let between = image(w.out_height, w.out_width).saturating_add(expanded);
        between > caches.l2_bytes / 2 && self.bands(caches.l2_bytes / 2).is_some()
    }

    /// Whether [`conv_chain`] can run it: shapes follow from one another, the channels fill
    /// vectors, and activations in between only clamp.
    pub fn is_possible(&self) -> bool {
        let (conv, w) = (&self.depthwise.conv, &self.depthwise.conv.window);
        let clamps = |stage: &ConvStage<'_>| stage.activation.as_clamp().is_some();
        let follows = self.expand.is_none_or(|expand| {
            let e = expand.conv.window;
            let same = [e.batch, e.out_height, e.out_width] == [w.batch, w.height, w.width];
            same && expand.conv.is_dense()
                && expand.conv.out_channels == w.channels
                && clamps(&expand)
        });
        let p = self.project.conv.window;
        let projects = self.project.conv.is_dense()
            && [p.batch, p.height, p.width, p.channels]
                == [w.batch, w.out_height, w.out_width, w.channels];
        conv.is_depthwise()
            && follows
            && projects
            && clamps(&self.depthwise)
            && taps::has_width(w.kernel[1], w.stride[1], w.dilation[1])
            && w.kernel[0] <= MAX_ROWS
            && w.dilation[0] == 1
            && w.channels.is_multiple_of(PANEL)
    }

    /// The largest bands that need at most `bytes`.
    fn bands(&self, bytes: usize) -> Option<Bands> {
        let w = &self.depthwise.conv.window;
        let bands = |rows: usize| {
            let ring = (rows - 1) * w.stride[0] + w.kernel[0];
            Bands { rows, ring: if self.expand.is_some() { ring } else { 0 } }
        };
        let fits = |b: &Bands| {
            let (ring, rows) = (b.ring.saturating_mul(w.width), b.rows.saturating_mul(w.out_width));
            ring.saturating_add(rows).saturating_mul(w.channels * size_of::<f32>()) <= bytes
        };
        (1..=w.out_height).map(bands).take_while(fits).last()
    }
}

/// Runs the chain on `input`: `out` and `residual` are those of the last convolution.
///
/// # Panics
/// If an operand is shorter than its shape, or the chain is not possible.
pub fn conv_chain(
    exec: Exec<'_>,
    chain: &ConvChain<'_>,
    input: &[f32],
    residual: Option<RowsRef<'_>>,
    out: RowsMut<'_>,
) {
    assert!(chain.is_possible(), "no chain: {:?}", chain.depthwise.conv);
    let bands = chain.bands(exec.cpu.caches().l2_bytes / 2);
    match bands.filter(|_| exec.cpu.isa() != Isa::Reference) {
        Some(bands) => run_bands(exec, chain, bands, input, residual, out),
        None => one_by_one(exec, chain, input, residual, out),
    }
}

fn run_bands(
    exec: Exec<'_>,
    chain: &ConvChain<'_>,
    bands: Bands,
    input: &[f32],
    residual: Option<RowsRef<'_>>,
    mut out: RowsMut<'_>,
) {
    let project = &chain.project;
    let epilogue = Epilogue { bias: project.bias, residual, activation: project.activation };
    let w = chain.depthwise.conv.window;
    let stages = [chain.expand, Some(chain.depthwise), Some(chain.project)];
    for stage in stages.iter().flatten() {
        let (conv, weights) = (&stage.conv, stage.weights);
        assert_eq!(weights.len(), conv.packed_weights_len(), "packed weights of the wrong length");
        assert!(stage.bias.is_none_or(|b| b.len() == conv.out_channels), "bias of wrong length");
    }
    let read = chain.expand.map_or(w, |expand| expand.conv.window);
    assert_eq!(input.len(), read.input_len(), "input of the wrong length");
    let rows = DenseRows { start: input.as_ptr(), rows: w.positions(), depth: 0, stride: 0 };
    let right = Right::Packed(project.weights.as_ptr());
    let product = epilogue.product(&rows, right, project.conv.out_channels, &mut out);
    let run = Run { cpu: exec.cpu, chain, window: w, bands, input, product };
    let depth = |stage: &ConvStage<'_>| stage.conv.depth() * stage.conv.out_channels;
    let cost = w.out_width * stages.iter().flatten().map(depth).sum::<usize>() / 8;
    parallel::over_range(exec, w.batch * w.out_height, cost, &|lines| run.lines(lines));
}

/// The slow twin: every convolution on whole images.
fn one_by_one(
    exec: Exec<'_>,
    chain: &ConvChain<'_>,
    input: &[f32],
    residual: Option<RowsRef<'_>>,
    out: RowsMut<'_>,
) {
    let w = chain.depthwise.conv.window;
    let stage = |stage: &ConvStage<'_>, input: &[f32], out: &mut [f32]| {
        let (bias, activation) = (stage.bias, stage.activation);
        let epilogue = Epilogue { bias, residual: None, activation };
        let out = RowsMut { data: out, stride: stage.conv.out_channels };
        conv2d(exec, &stage.conv, input, stage.weights, &epilogue, out);
    };
    scratch::with(w.positions() * w.channels, |filtered: &mut [f32]| {
        match &chain.expand {
            None => stage(&chain.depthwise, input, filtered),
            Some(expand) => scratch::with(w.input_len(), |wide: &mut [f32]| {
                stage(expand, input, wide);
                stage(&chain.depthwise, wide, filtered);
            }),
        }
        let project = &chain.project;
        let epilogue = Epilogue { bias: project.bias, residual, activation: project.activation };
        conv2d(exec, &project.conv, filtered, project.weights, &epilogue, out);
    });
}

/// A chain in flight.
struct Run<'a> {
    cpu: Cpu,
    chain: &'a ConvChain<'a>,
    window: Window2d,
    bands: Bands,
    input: &'a [f32],
    product: Product<'a>,
}

impl Run<'_> {
    /// Some output rows, counted over all images.
    fn lines(&self, lines: Range<usize>) {
        let (w, b) = (&self.window, self.bands);
        let ring = b.ring * w.width * w.channels;
        scratch::with(ring + b.rows * w.out_width * w.channels, |buffer: &mut [f32]| {
            let (ring, filtered) = buffer.split_at_mut(ring);
            let mut first = lines.start;
            while first < lines.end {
                let (image, y) = (first / w.out_height, first % w.out_height);
                let count = (lines.end - first).min(w.out_height - y);
                self.image(image, y..y + count, ring, filtered);
                first += count;
            }
        });
    }

    /// Some output rows of one image.
    fn image(&self, image: usize, rows: Range<usize>, ring: &mut [f32], filtered: &mut [f32]) {
        let w = &self.window;
        let bands = rows.len().div_ceil(self.bands.rows);
        let mut expanded = 0;
        for band in 0..bands {
            let part = parallel::share(rows.len(), bands, band);
            let ys = rows.start + part.start..rows.start + part.end;
            let reach = input_rows(w, &ys);
            let new = reach.start.max(expanded)..reach.end;
            expanded = reach.end;
            for first in (0..w.channels).step_by(GROUP) {
                let channels = first..w.channels.min(first + GROUP);
                if let Some(expand) = &self.chain.expand {
                    self.expand(expand, image, new.clone(), channels.clone(), ring);
                }
                let wide = Wide { run: self, image, ring, channels, ys: ys.clone() };
                dispatch(self.cpu, Filter { wide, filtered });
            }
            let (start, count) = ((image * w.out_height + ys.start) * w.out_width, ys.len());
            let rows = DenseRows::new(filtered, count * w.out_width, w.channels, w.channels);
            let p = &self.product;
            let product = Product {
                rows: &rows,
                out: p.out.wrapping_add(start * p.out_stride),
                residual: p.finish(start, 0).residual,
                ..*p
            };
            run_part(self.cpu, &product, 0..count * w.out_width, 0..p.n.div_ceil(PANEL));
        }
    }

    /// Expands input rows to some channels, into the ring.
    fn expand(
        &self,
        expand: &ConvStage<'_>,
        image: usize,
        rows: Range<usize>,
        channels: Range<usize>,
        ring: &mut [f32],
    ) {
        let w = &self.window;
        let (depth, wide) = (expand.conv.depth(), channels.len());
        let ring = &mut ring[self.ring_start(channels.start)..][..self.bands.ring * w.width * wide];
        let mut row = rows.start;
        while row < rows.end {
            let slot = row % self.bands.ring;
            let count = (rows.end - row).min(self.bands.ring - slot);
            let input = &self.input[(image * w.height + row) * w.width * depth..];
            let left = DenseRows::new(input, count * w.width, depth, depth);
            let out = &mut ring[slot * w.width * wide..][..count * w.width * wide];
            let product = Product {
                rows: &left,
                right: Right::Packed(expand.weights[channels.start * depth..].as_ptr()),
                n: wide,
                out: out.as_mut_ptr(),
                out_stride: wide,
                bias: expand.bias.map_or(ptr::null(), |bias| bias[channels.clone()].as_ptr()),
                residual: ptr::null(),
                residual_stride: 0,
                activation: expand.activation,
            };
            run_part(self.cpu, &product, 0..count * w.width, 0..wide.div_ceil(PANEL));
            row += count;
        }
    }

    /// Where the ring of a group of channels begins.
    fn ring_start(&self, channel: usize) -> usize {
        channel * self.bands.ring * self.window.width
    }
}

/// Input rows that the windows of some output rows reach.
fn input_rows(w: &Window2d, ys: &Range<usize>) -> Range<usize> {
    let end = ((ys.end - 1) * w.stride[0] + w.kernel[0]).saturating_sub(w.pads[0]).min(w.height);
    let start = (ys.start * w.stride[0]).saturating_sub(w.pads[0]).min(end);
    start..end
}

/// Some channels of a band, expanded.
struct Wide<'a> {
    run: &'a Run<'a>,
    image: usize,
    ring: &'a [f32],
    channels: Range<usize>,
    /// Output rows of the band.
    ys: Range<usize>,
}

impl Wide<'_> {
    /// Where an input row of the depthwise convolution begins, at channel `c`.
    fn row(&self, row: usize, c: usize) -> *const f32 {
        let (run, w) = (self.run, &self.run.window);
        if run.chain.expand.is_none() {
            let start = (self.image * w.height + row) * w.width * w.channels;
            return run.input.as_ptr().wrapping_add(start + c);
        }
        let slot = row % run.bands.ring * w.width * self.channels.len();
        let start = run.ring_start(self.channels.start) + slot;
        self.ring.as_ptr().wrapping_add(start + c - self.channels.start)
    }

    /// One vector of channels of one output row of the band.
    fn args(&self, y: usize, c: usize, filtered: *mut f32) -> RowArgs {
        let (run, w) = (self.run, &self.run.window);
        let stage = &run.chain.depthwise;
        let ys = w.valid_taps(0, y);
        let first = if ys.is_empty() { 0 } else { w.input_index(0, y, ys.start) };
        let (low, high) = stage.activation.as_clamp().unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let mut rows = [ptr::null(); MAX_ROWS];
        for (i, row) in rows.iter_mut().enumerate().take(ys.len()) {
            *row = self.row(first + i, c);
        }
        let position = (y - self.ys.start) * w.out_width;
        RowArgs {
            rows,
            count: ys.len(),
            weights: stage.weights.as_ptr().wrapping_add(ys.start * w.kernel[1] * w.channels + c),
            tap: w.channels,
            column: if run.chain.expand.is_some() { self.channels.len() } else { w.channels },
            width: w.width,
            pad: w.pads[1],
            out_width: w.out_width,
            out: filtered.wrapping_add(position * w.channels + c),
            out_column: w.channels,
            bias: stage.bias.map_or(ptr::null(), |bias| bias[c..].as_ptr()),
            residual: ptr::null(),
            residual_column: 0,
            low,
            high,
        }
    }
}

/// The depthwise convolution of some channels of a band.
struct Filter<'a> {
    wide: Wide<'a>,
    filtered: &'a mut [f32],
}

impl SimdOp for Filter<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let w = &self.wide.run.window;
        assert!(self.filtered.len() >= self.wide.ys.len() * w.out_width * w.channels);
        let out = self.filtered.as_mut_ptr();
        for c in self.wide.channels.clone().step_by(S::LANES) {
            for y in self.wide.ys.clone() {
                let args = self.wide.args(y, c, out);
                // SAFETY: the ring, or the input, holds every row that the windows reach; channels
                // are a multiple of the vector; the output has room by the assertion.
                unsafe { taps::row(s, w.kernel[1], w.stride[1], &args) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Pool, test_data};

    /// A convolution's weights and bias.
    fn operands(conv: &Conv2d, seed: u64) -> (Vec<f32>, Vec<f32>) {
        let mut packed = vec![f32::NAN; conv.packed_weights_len()];
        conv.pack_weights(&test_data(conv.out_channels * conv.depth(), seed), &mut packed);
        (packed, test_data(conv.out_channels, seed + 1))
    }

    fn check(expand: Option<Conv2d>, depthwise: Conv2d, project: Conv2d, with_residual: bool) {
        let convs = [expand.unwrap_or(depthwise), depthwise, project];
        let data = [0, 1, 2].map(|i| operands(&convs[i], 10 * i as u64 + 1));
        let stage = |i: usize, activation| ConvStage {
            conv: convs[i],
            weights: &data[i].0,
            bias: Some(&data[i].1),
            activation,
        };
        let chain = ConvChain {
            expand: expand.map(|_| stage(0, Activation::Clip(0.0, 0.5))),
            depthwise: stage(1, Activation::Relu),
            project: stage(2, Activation::None),
        };
        assert!(chain.is_possible());
        let input = test_data(convs[0].window.input_len(), 5);
        let outputs = project.out_channels;
        let residual = test_data(project.window.positions() * outputs, 6);
        let residual = with_residual.then_some(RowsRef { data: &residual, stride: outputs });
        for (cpu, threads) in Cpu::tested().flat_map(|cpu| [(cpu, 1), (cpu, 3)]) {
            let pool = Pool::new(threads).unwrap();
            let exec = Exec { cpu, pool: &pool };
            let mut expected = vec![7.0; project.window.positions() * outputs];
            let mut got = expected.clone();
            let out = RowsMut { data: &mut expected, stride: outputs };
            one_by_one(exec, &chain, &input, residual, out);
            let out = RowsMut { data: &mut got, stride: outputs };
            conv_chain(exec, &chain, &input, residual, out);
            assert_eq!(expected, got, "{chain:?}");
            let w = depthwise.window;
            for rows in (1..4).filter(|_| cpu.isa() != Isa::Reference) {
                let ring =
                    if expand.is_some() { (rows - 1) * w.stride[0] + w.kernel[0] } else { 0 };
                let out = RowsMut { data: &mut got, stride: outputs };
                run_bands(exec, &chain, Bands { rows, ring }, &input, residual, out);
                assert_eq!(expected, got, "bands of {rows} rows: {chain:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn bands_give_what_whole_images_give(
            size in (1usize..3, 1usize..12, 1usize..20), inputs in 1usize..20,
            panels in 1usize..4, outputs in 1usize..40, wide: bool,
            height in 1usize..6, stride in (1usize..3, 1usize..3),
            pads in (0usize..3, 0usize..3, 0usize..3, 0usize..3),
            with_expand: bool, residual: bool,
        ) {
            let channels = panels * PANEL;
            let kernel = [height, if wide { 5 } else { 3 }];
            let window = Window2d::new([size.0, size.1, size.2, channels], kernel)
                .with_stride(stride.into())
                .with_pads(pads.into());
            let dense = |shape: [usize; 4], out_channels: usize| Conv2d {
                window: Window2d::new(shape, [1, 1]),
                out_channels,
                groups: 1,
            };
            let expand = dense([size.0, size.1, size.2, inputs], channels);
            let depthwise = Conv2d { window, out_channels: channels, groups: channels };
            let out = [window.batch, window.out_height, window.out_width, channels];
            check(with_expand.then_some(expand), depthwise, dense(out, outputs), residual);
        }
    }
}
