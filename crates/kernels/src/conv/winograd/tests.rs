//! Winograd's algorithms on every instruction set against f64 loops over the definition.

use proptest::prelude::*;

use super::transform::Scalar;
use super::*;
use crate::conv::{Window2d, conv2d_by};
use crate::math::Activation;
use crate::{RowsRef, test_data};

const WINOGRAD: [ConvAlgorithm; 2] = [ConvAlgorithm::Winograd2, ConvAlgorithm::Winograd4];

/// Absolute values of the input transform `[N, N]`, the output transform `[M, N]` and the filter's.
struct Magnitudes {
    input: Vec<Vec<f64>>,
    output: Vec<Vec<f64>>,
    filter: Vec<[f64; 3]>,
}

fn magnitudes<V: Variant<N, M>, const N: usize, const M: usize>() -> Magnitudes {
    let unit = |i: usize| std::array::from_fn::<f32, N, _>(|k| f32::from(u8::from(i == k)));
    let size = |x: f32| f64::from(x).abs();
    Magnitudes {
        input: (0..N)
            .map(|row| (0..N).map(|i| size(V::input(Scalar, unit(i))[row])).collect())
            .collect(),
        output: (0..M)
            .map(|row| (0..N).map(|i| size(V::output(Scalar, unit(i))[row])).collect())
            .collect(),
        filter: V::FILTER.iter().map(|row| row.map(f64::abs)).collect(),
    }
}

/// The input at a position of an image that may lie in the padding.
fn pixel(w: &Window2d, input: &[f32], [image, y, x, c]: [usize; 4]) -> f64 {
    let inside =
        |i: usize, axis: usize, size: usize| i.checked_sub(w.pads[axis]).filter(|&i| i < size);
    match (inside(y, 0, w.height), inside(x, 1, w.width)) {
        (Some(y), Some(x)) => {
            f64::from(input[((image * w.height + y) * w.width + x) * w.channels + c])
        }
        _ => 0.0,
    }
}

/// One output exactly.
fn exact(c: &Conv2d, input: &[f32], weights: &[f32], [image, y, x]: [usize; 3], o: usize) -> f64 {
    let channels = c.window.channels;
    let taps = (0..9 * channels).map(|i| (i / channels, i % channels));
    taps.map(|(tap, i)| {
        let weight = f64::from(weights[(o * channels + i) * 9 + tap]);
        weight * pixel(&c.window, input, [image, y + tap / 3, x + tap % 3, i])
    })
    .sum()
}

/// The sum of magnitudes that an output's chain of roundings is relative to: the algorithm in
/// absolute values.
fn size(
    m: &Magnitudes,
    c: &Conv2d,
    input: &[f32],
    weights: &[f32],
    [image, y, x]: [usize; 3],
    o: usize,
) -> f64 {
    let (edge, n) = (m.output.len(), m.input.len());
    let (top, left) = (y / edge * edge, x / edge * edge);
    let channels = c.window.channels;
    let mut total = 0.0;
    for (row, col) in (0..n).flat_map(|row| (0..n).map(move |col| (row, col))) {
        let back = m.output[y - top][row] * m.output[x - left][col];
        for i in 0..channels {
            let weight = |tap: usize| f64::from(weights[(o * channels + i) * 9 + tap]).abs();
            let filter: f64 = (0..9)
                .map(|tap| m.filter[row][tap / 3] * m.filter[col][tap % 3] * weight(tap))
                .sum();
            let image: f64 = (0..n * n)
                .map(|k| {
                    let value = pixel(&c.window, input, [image, top + k / n, left + k % n, i]);
                    m.input[row][k / n] * m.input[col][k % n] * value.abs()
                })
                .sum();
            total += back * filter * image;
        }
    }
    total
}

struct Operands {
    input: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

impl Operands {
    fn new(c: &Conv2d) -> Operands {
        Operands {
            input: test_data(c.window.input_len(), 1),
            weights: test_data(c.out_channels * c.depth(), 2),
            bias: test_data(c.out_channels, 3),
            residual: test_data(c.window.positions() * c.out_channels, 4),
        }
    }

    /// Rows three elements apart.
    fn run(&self, exec: Exec<'_>, how: ConvAlgorithm, c: &Conv2d, act: Activation) -> Vec<f32> {
        let mut packed = vec![f32::NAN; c.packed_len(how)];
        c.pack(how, &self.weights, &mut packed);
        let residual = RowsRef { data: &self.residual, stride: c.out_channels };
        let epilogue =
            Epilogue { bias: Some(&self.bias), residual: Some(residual), activation: act };
        let stride = c.out_channels + 3;
        let mut data = vec![7.0; c.window.positions() * stride];
        let out = RowsMut { data: &mut data, stride };
        conv2d_by(exec, how, c, &self.input, &packed, &epilogue, out);
        data
    }
}

/// Results on every instruction set and several threads; bits are equal where the activation only
/// clamps.
fn everywhere(c: &Conv2d, how: ConvAlgorithm, activation: Activation) -> Vec<Vec<f32>> {
    let operands = Operands::new(c);
    let mut results: Vec<Vec<f32>> = Vec::new();
    for (cpu, threads) in Cpu::available().flat_map(|cpu| [(cpu, 1), (cpu, 3)]) {
        let pool = Pool::new(threads).unwrap();
        let got = operands.run(Exec { cpu, pool: &pool }, how, c, activation);
        if let (Some(first), true) = (results.first(), activation.as_clamp().is_some()) {
            assert_eq!(*first, got, "bits differ on {} with {threads} threads: {c:?}", cpu.isa());
        }
        results.push(got);
    }
    results
}

fn check(c: &Conv2d, activation: Activation) {
    let w = &c.window;
    for how in WINOGRAD {
        let results = everywhere(c, how, activation);
        let magnitudes = match how.edge() {
            Some(Edge::Two) => magnitudes::<F2, 4, 2>(),
            _ => magnitudes::<F4, 6, 4>(),
        };
        let operands = Operands::new(c);
        let stride = c.out_channels + 3;
        for position in 0..w.positions() {
            let (line, x) = (position / w.out_width, position % w.out_width);
            let place = [line / w.out_height, line % w.out_height, x];
            for o in 0..c.out_channels {
                let Operands { input, weights, bias, residual } = &operands;
                let sum = exact(c, input, weights, place, o)
                    + f64::from(bias[o])
                    + f64::from(residual[position * c.out_channels + o]);
                let expected = f64::from(activation.reference(sum as f32));
                let size = size(&magnitudes, c, input, weights, place, o) + 3.0;
                let bound = f64::from(f32::EPSILON) / 2.0 * (w.channels as f64 + 16.0) * size;
                for got in &results {
                    let y = got[position * stride + o];
                    let error = (f64::from(y) - expected).abs();
                    assert!(error <= bound, "{how:?} {place:?} {o}: {y} not {expected}: {c:?}");
                }
            }
            for got in &results {
                assert_eq!(got[position * stride + c.out_channels..][..3], [7.0; 3], "gap");
            }
        }
    }
}

fn convolution([batch, height, width, channels]: [usize; 4], outputs: usize) -> Conv2d {
    let window = Window2d::new([batch, height, width, channels], [3, 3]).with_pads([1; 4]);
    Conv2d { window, out_channels: outputs, groups: 1 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn winograd_matches_f64(
        size in (1usize..3, 1usize..11, 1usize..12), channels in 1usize..36, outputs in 1usize..40,
        pads in (0usize..3, 0usize..3, 0usize..4, 0usize..4), clip: bool,
    ) {
        let window = Window2d::new([size.0, size.1, size.2, channels], [3, 3])
            .with_pads(pads.into());
        let activation = if clip { Activation::Clip(-1.0, 1.0) } else { Activation::Silu };
        check(&Conv2d { window, out_channels: outputs, groups: 1 }, activation);
    }
}

#[test]
fn bits_do_not_depend_on_blocks_or_threads() {
    // Tiles of each thread's own, channels so many that threads share them, and too few panels to
    // share.
    for c in [
        convolution([2, 50, 46, 24], 34),
        convolution([1, 45, 22, 272], 50),
        convolution([1, 45, 22, 272], 18),
    ] {
        for how in WINOGRAD {
            everywhere(&c, how, Activation::Relu);
        }
    }
}

#[test]
fn bits_do_not_depend_on_other_images() {
    let pool = Pool::new(2).unwrap();
    let exec = Exec { cpu: Cpu::detect(), pool: &pool };
    for (how, (size, channels)) in WINOGRAD.into_iter().flat_map(|h| [(h, (31, 20)), (h, (9, 300))])
    {
        let many = convolution([3, size, size, channels], 40);
        let one = convolution([1, size, size, channels], 40);
        let operands = Operands::new(&many);
        let all = operands.run(exec, how, &many, Activation::Relu);
        for (image, expected) in all.chunks_exact(size * size * 43).enumerate() {
            let part =
                |data: &[f32]| data.chunks_exact(data.len() / 3).nth(image).unwrap().to_vec();
            let operands = Operands {
                input: part(&operands.input),
                residual: part(&operands.residual),
                weights: operands.weights.clone(),
                bias: operands.bias.clone(),
            };
            assert_eq!(operands.run(exec, how, &one, Activation::Relu), expected, "{how:?}");
        }
    }
}

#[test]
fn empty_convolutions_are_left_alone() {
    let pool = Pool::inline();
    for (cpu, how) in Cpu::available().flat_map(|cpu| WINOGRAD.map(|how| (cpu, how))) {
        let exec = Exec { cpu, pool };
        for c in [convolution([0, 5, 5, 3], 4), convolution([1, 5, 5, 3], 0)] {
            let operands = Operands::new(&c);
            operands.run(exec, how, &c, Activation::None);
        }
        let c = convolution([1, 5, 5, 0], 2);
        let (operands, act) = (Operands::new(&c), Activation::None);
        assert_eq!(
            operands.run(exec, how, &c, act),
            operands.run(exec, ConvAlgorithm::Gemm, &c, act)
        );
    }
}

/// Root mean square and largest error of an algorithm over the outputs' root mean square, in units
/// of 2⁻²⁴.
fn errors(how: ConvAlgorithm, c: &Conv2d, positive: bool) -> [f64; 2] {
    let w = &c.window;
    let mut input = test_data(w.input_len(), 5);
    if positive {
        input.iter_mut().for_each(|x| *x = x.max(0.0));
    }
    let weights = test_data(c.out_channels * c.depth(), 6);
    let mut packed = vec![f32::NAN; c.packed_len(how)];
    c.pack(how, &weights, &mut packed);
    let mut got = vec![0.0; w.positions() * c.out_channels];
    let exec = Exec { cpu: Cpu::detect(), pool: Pool::inline() };
    let out = RowsMut { data: &mut got, stride: c.out_channels };
    conv2d_by(exec, how, c, &input, &packed, &Epilogue::default(), out);
    let (mut squares, mut size, mut largest) = (0.0, 0.0, 0.0f64);
    for (i, &y) in got.iter().enumerate() {
        let (position, o) = (i / c.out_channels, i % c.out_channels);
        let place = [0, position / w.out_width, position % w.out_width];
        let expected = exact(c, &input, &weights, place, o);
        let error = f64::from(y) - expected;
        squares += error * error;
        size += expected * expected;
        largest = largest.max(error.abs());
    }
    let unit = f64::from(f32::EPSILON) / 2.0 * (size / got.len() as f64).sqrt();
    [(squares / got.len() as f64).sqrt() / unit, largest / unit]
}

#[test]
fn errors_are_as_stated() {
    for (channels, positive) in [16, 64, 256, 512].into_iter().flat_map(|c| [(c, false), (c, true)])
    {
        let c = convolution([1, 16, 16, channels], 16);
        let direct = errors(ConvAlgorithm::Gemm, &c, positive);
        for (how, [mean, largest]) in
            [(ConvAlgorithm::Winograd2, [1.0, 1.0]), (ConvAlgorithm::Winograd4, [3.0, 4.0])]
        {
            let found = errors(how, &c, positive);
            assert!(found[0] <= mean * direct[0], "{how:?}: {found:?}, direct {direct:?}");
            assert!(found[1] <= largest * direct[1], "{how:?}: {found:?}, direct {direct:?}");
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_its_tiles() {
    let c = convolution([2, 16, 16, 16], 16);
    let mut operands = Operands::new(&c);
    let exec = Exec { cpu: Cpu::detect(), pool: Pool::inline() };
    for (how, edge) in WINOGRAD.into_iter().zip([2, 4]) {
        let clean = operands.run(exec, how, &c, Activation::None);
        for bad in [f32::INFINITY, f32::NAN, 1e38] {
            // Row 5, column 6 of the first image, which windows around it read.
            let at = (5 * 16 + 6) * 16 + 3;
            let kept = std::mem::replace(&mut operands.input[at], bad);
            let found = operands.run(exec, how, &c, Activation::None);
            operands.input[at] = kept;
            let tiles = |from: usize, to: usize| from / edge * edge..(to / edge + 1) * edge;
            for (position, (found, clean)) in
                found.chunks_exact(19).zip(clean.chunks_exact(19)).enumerate()
            {
                let (image, y, x) = (position / 256, position / 16 % 16, position % 16);
                let touched = image == 0 && tiles(4, 6).contains(&y) && tiles(5, 7).contains(&x);
                assert!(touched || found == clean, "{how:?} {bad}: {image} {y} {x}");
            }
        }
    }
}
