//! Convolution and pooling on every instruction set against f64 loops over the definition.

use proptest::prelude::*;

use super::*;
use crate::math::Activation;
use crate::simd::{Portable, Simd};
use crate::{Cpu, Isa, Pool, RowsRef, test_data};

fn windows(channels: impl Strategy<Value = usize>) -> impl Strategy<Value = Window2d> {
    let pair = |range: std::ops::Range<usize>| (range.clone(), range);
    let size = (1usize..3, 1usize..10, 1usize..12, channels);
    let pads = (0usize..3, 0usize..3, 0usize..3, 0usize..3);
    (size, pair(1..4), pair(1..4), pair(1..3), pads).prop_map(|(size, k, s, d, p)| {
        Window2d::new(size.into(), k.into())
            .with_stride(s.into())
            .with_dilation(d.into())
            .with_pads(p.into())
    })
}

/// Input index of a tap, if it is inside.
fn at(w: &Window2d, axis: usize, out: usize, tap: usize) -> Option<usize> {
    let size = [w.height, w.width][axis];
    let index = (out * w.stride[axis] + tap * w.dilation[axis]).checked_sub(w.pads[axis])?;
    (index < size).then_some(index)
}

/// Exact value and sum of magnitudes of one output.
fn exact(c: &Conv2d, input: &[f32], weights: &[f32], position: usize, o: usize) -> (f64, f64) {
    let w = &c.window;
    let (image, oy, ox) = (
        position / w.out_width / w.out_height,
        position / w.out_width % w.out_height,
        position % w.out_width,
    );
    let (channels, group) = (c.group_channels(), o / c.group_outputs());
    let (mut sum, mut size) = (0.0, 0.0);
    for (ky, kx) in (0..w.kernel[0]).flat_map(|y| (0..w.kernel[1]).map(move |x| (y, x))) {
        let (Some(y), Some(x)) = (at(w, 0, oy, ky), at(w, 1, ox, kx)) else { continue };
        for i in 0..channels {
            let pixel = (image * w.height + y) * w.width + x;
            let value = input[pixel * w.channels + group * channels + i];
            let weight = weights[((o * channels + i) * w.kernel[0] + ky) * w.kernel[1] + kx];
            sum += f64::from(value) * f64::from(weight);
            size += (f64::from(value) * f64::from(weight)).abs();
        }
    }
    (sum, size)
}

fn check(c: &Conv2d, activation: Activation, with_residual: bool) {
    let w = &c.window;
    let input = test_data(w.input_len(), 1);
    let weights = test_data(c.out_channels * c.depth(), 2);
    let bias = test_data(c.out_channels, 3);
    let residual = test_data(w.positions() * c.out_channels, 4);
    let mut packed = vec![f32::NAN; c.packed_weights_len()];
    c.pack_weights(&weights, &mut packed);
    let rows = RowsRef { data: &residual, stride: c.out_channels };
    let epilogue =
        Epilogue { bias: Some(&bias), residual: with_residual.then_some(rows), activation };
    let stride = c.out_channels + 3;
    let mut first: Option<Vec<f32>> = None;
    for (cpu, threads) in Cpu::tested().flat_map(|cpu| [(cpu, 1), (cpu, 3)]) {
        let mut got = vec![7.0; w.positions() * stride];
        let pool = Pool::new(threads).unwrap();
        let exec = Exec { cpu, pool: &pool };
        let out = RowsMut { data: &mut got, stride };
        conv2d(exec, c, &input, &packed, &epilogue, out);
        for position in 0..w.positions() {
            for o in 0..c.out_channels {
                let (mut sum, mut size) = exact(c, &input, &weights, position, o);
                sum += f64::from(bias[o]);
                if with_residual {
                    sum += f64::from(residual[position * c.out_channels + o]);
                }
                size += 2.0;
                let expected = activation.reference(sum as f32);
                let bound = f64::from(f32::EPSILON) * (c.depth() as f64 / 2.0 + 4.0) * size;
                let y = got[position * stride + o];
                let error = (f64::from(y) - f64::from(expected)).abs();
                assert!(error <= bound, "[{position}, {o}] {y} not {expected}: {c:?}");
            }
            assert_eq!(got[position * stride + c.out_channels..][..3], [7.0; 3], "gap");
        }
        if activation.as_clamp().is_some() || cpu.isa() != Isa::Reference {
            let first = first.get_or_insert_with(|| got.clone());
            if activation.as_clamp().is_some() {
                assert_eq!(*first, got, "bits differ: {c:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn convolutions_match_f64(
        window in windows(1usize..20), outputs in 1usize..40, residual: bool, clip: bool,
    ) {
        let activation = if clip { Activation::Clip(-1.0, 1.0) } else { Activation::Silu };
        check(&Conv2d { window, out_channels: outputs, groups: 1 }, activation, residual);
    }

    #[test]
    fn grouped_convolutions_match_f64(
        window in windows(1usize..6), groups in 2usize..5, outputs in 1usize..6, wide: bool,
    ) {
        let per_group = if wide { window.channels + 8 } else { window.channels };
        let window = Window2d { channels: per_group * groups, ..window };
        let conv = Conv2d { window, out_channels: outputs * groups, groups };
        check(&conv, Activation::Relu, true);
    }

    #[test]
    fn depthwise_convolutions_match_f64(
        window in windows(2usize..40), residual: bool, clip: bool,
    ) {
        let activation = if clip { Activation::Relu } else { Activation::HardSwish };
        let conv = Conv2d { window, out_channels: window.channels, groups: window.channels };
        check(&conv, activation, residual);
        let input = test_data(window.input_len(), 1);
        let weights = test_data(window.taps() * window.channels, 2);
        let rows =
            DenseRows { start: input.as_ptr(), rows: window.positions(), depth: 0, stride: 0 };
        let run = |fast: bool| {
            let mut data = vec![0.0; window.positions() * window.channels];
            let mut out = RowsMut { data: &mut data, stride: window.channels };
            let epilogue = Epilogue::default();
            if fast {
                let right = Right::Packed(weights.as_ptr());
                let product = &epilogue.product(&rows, right, window.channels, &mut out);
                let lines = 0..window.batch * window.out_height;
                let input = &input;
                let weights = &weights;
                Portable.run(depthwise::Lines { window: &window, input, weights, product, lines });
            } else {
                let cpu = Cpu::with_isa(Isa::Reference).unwrap();
                let exec = Exec { cpu, pool: Pool::inline() };
                conv2d(exec, &conv, &input, &weights, &epilogue, out);
            }
            data
        };
        prop_assert_eq!(run(true), run(false));
    }

    #[test]
    fn pooling_matches_the_definition(w in windows(1usize..40), ceil: bool, count: bool) {
        let w = if ceil { w.with_ceil_mode() } else { w };
        let input = test_data(w.input_len(), 1);
        let bytes: Vec<u8> = input.iter().map(|x| (x * 100.0 + 128.0) as u8).collect();
        for cpu in Cpu::tested() {
            let pool = Pool::new(2).unwrap();
            let exec = Exec { cpu, pool: &pool };
            let len = w.positions() * w.channels;
            let (mut most, mut mean, mut byte) = (vec![0.0; len], vec![0.0; len], vec![0; len]);
            max_pool(exec, &w, &input, &mut most);
            max_pool(exec, &w, &bytes, &mut byte);
            average_pool(exec, &w, count, &input, &mut mean);
            for i in 0..len {
                let (c, position) = (i % w.channels, i / w.channels);
                let (ox, line) = (position % w.out_width, position / w.out_width);
                let (oy, image) = (line % w.out_height, line / w.out_height);
                let mut values = Vec::new();
                let mut padded = 0;
                for ky in 0..w.kernel[0] {
                    for kx in 0..w.kernel[1] {
                        let (y, x) = (oy * w.stride[0] + ky * w.dilation[0],
                            ox * w.stride[1] + kx * w.dilation[1]);
                        padded += usize::from(y < w.height + w.pads[0] + w.pads[2]
                            && x < w.width + w.pads[1] + w.pads[3]);
                        if let (Some(y), Some(x)) = (at(&w, 0, oy, ky), at(&w, 1, ox, kx)) {
                            let pixel = (image * w.height + y) * w.width + x;
                            values.push(pixel * w.channels + c);
                        }
                    }
                }
                let best = values.iter().map(|&j| input[j]).fold(f32::NEG_INFINITY, f32::max);
                prop_assert_eq!(most[i], best);
                prop_assert_eq!(byte[i], values.iter().map(|&j| bytes[j]).max().unwrap_or(0));
                let sum: f64 = values.iter().map(|&j| f64::from(input[j])).sum();
                let divisor = if count { padded } else { values.len() };
                let expected = sum / divisor.max(1) as f64;
                prop_assert!((f64::from(mean[i]) - expected).abs() < 1e-6);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn sixteen_lanes_pool_to_the_bits_of_the_scalar_twin(
        w in windows(1usize..150), count in any::<bool>(),
    ) {
        use pooling::vectors::{Fold, Largest, Lines, Sum};
        fn wide<K: Fold>(w: &Window2d, input: &[f32], count: &dyn Fn(usize) -> f32) -> Vec<f32> {
            let mut out = vec![7.0; w.positions() * w.channels];
            for (first, out) in out.chunks_mut((w.out_width * w.channels).max(1)).enumerate() {
                let divisors: Vec<f32> =
                    (0..w.out_width).map(|ox| count(first * w.out_width + ox)).collect();
                let count = &|_: usize, ox: usize| divisors[ox];
                let fold = std::marker::PhantomData::<K>;
                Portable.run(Lines { window: w, input, first, out, count, fold });
            }
            out
        }
        let mut input = test_data(w.input_len(), 1);
        input.iter_mut().step_by(37).for_each(|x| *x = -0.0);
        let scalar = Exec { cpu: Cpu::with_isa(Isa::Reference).unwrap(), pool: Pool::inline() };
        let len = w.positions() * w.channels;
        let (mut most, mut mean) = (vec![0.0f32; len], vec![0.0f32; len]);
        average_pool(scalar, &w, count, &input, &mut mean);
        let taps = |axis: usize, out: usize| {
            let size = [w.height, w.width][axis] + w.pads[axis] + w.pads[axis + 2];
            let inside = |k: &usize| match count {
                true => out * w.stride[axis] + k * w.dilation[axis] < size,
                false => at(&w, axis, out, *k).is_some(),
            };
            (0..w.kernel[axis]).filter(inside).count()
        };
        let divisor = |position: usize| {
            let (oy, ox) = (position / w.out_width % w.out_height, position % w.out_width);
            (taps(0, oy) * taps(1, ox)).max(1) as f32
        };
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&wide::<Sum>(&w, &input, &divisor)), bits(&mean));
        input.iter_mut().step_by(11).for_each(|x| *x = f32::NAN);
        max_pool(scalar, &w, &input, &mut most);
        prop_assert_eq!(bits(&wide::<Largest>(&w, &input, &|_| 1.0)), bits(&most));
        for cpu in Cpu::tested() {
            let mut got = vec![0.0f32; len];
            max_pool(Exec { cpu, pool: Pool::inline() }, &w, &input, &mut got);
            prop_assert_eq!(bits(&got), bits(&most));
        }
    }
}

/// With operands that bf16 holds exactly, only the order of sums differs from f32.
fn check_bf16(c: &Conv2d) {
    let w = &c.window;
    let exact_data = |len, seed| -> Vec<f32> {
        test_data(len, seed).into_iter().map(|x| bf16::from_f32(x).to_f32()).collect()
    };
    let input = exact_data(w.input_len(), 1);
    let weights = exact_data(c.out_channels * c.depth(), 2);
    let bias = test_data(c.out_channels, 3);
    let mut packed = vec![bf16::NAN; c.packed_weights_bf16_len()];
    c.pack_weights_bf16(&weights, &mut packed);
    let epilogue =
        Epilogue { bias: Some(&bias), residual: None, activation: Activation::Clip(-1.0, 1.0) };
    let mut first: [Option<Vec<f32>>; 2] = [None, None];
    for (cpu, threads) in Cpu::tested().flat_map(|cpu| [(cpu, 1), (cpu, 3)]) {
        let mut got = vec![7.0; w.positions() * c.out_channels];
        let pool = Pool::new(threads).unwrap();
        let out = RowsMut { data: &mut got, stride: c.out_channels };
        conv2d_bf16(Exec { cpu, pool: &pool }, c, &input, &packed, &epilogue, out);
        for (i, &y) in got.iter().enumerate() {
            let (position, o) = (i / c.out_channels, i % c.out_channels);
            let (sum, size) = exact(c, &input, &weights, position, o);
            let expected = (sum + f64::from(bias[o])).clamp(-1.0, 1.0);
            let bound = f64::from(f32::EPSILON) * (c.depth() as f64 / 2.0 + 5.0) * (size + 2.0);
            assert!((f64::from(y) - expected).abs() <= bound, "[{position}, {o}] {y}: {c:?}");
        }
        let first = &mut first[usize::from(cpu.isa() == Isa::Amx)];
        assert_eq!(first.get_or_insert_with(|| got.clone()), &got, "bits differ: {c:?}");
    }
}

proptest! {
    #[test]
    fn convolutions_in_bf16_match_f64_and_each_other(
        window in windows(1usize..20), outputs in 1usize..40, groups in 1usize..4,
    ) {
        let window = Window2d { channels: window.channels * groups, ..window };
        let conv = Conv2d { window, out_channels: outputs * groups, groups };
        if !conv.is_depthwise() {
            check_bf16(&conv);
        }
    }
}

#[test]
fn a_deep_convolution_is_cut_inside_kernel_rows() {
    let window = Window2d::new([1, 5, 6, 150], [3, 3]).with_pads([1, 1, 1, 1]);
    check(&Conv2d { window, out_channels: 20, groups: 1 }, Activation::Relu, true);
    check_bf16(&Conv2d { window, out_channels: 20, groups: 1 });
    let window = window.with_dilation([1, 2]).with_pads([1, 2, 1, 2]);
    check(&Conv2d { window, out_channels: 18, groups: 1 }, Activation::None, false);
}

#[test]
fn the_global_mean_of_a_large_image_is_accurate() {
    let (height, width, channels) = (112, 112, 5);
    let input: Vec<f32> =
        test_data(height * width * channels, 1).iter().map(|x| x + 100.0).collect();
    let mut out = [0.0; 5];
    let exec = Exec { cpu: Cpu::detect(), pool: Pool::inline() };
    global_average_pool(exec, [1, height, width, channels], &input, &mut out);
    for (c, mean) in out.into_iter().enumerate() {
        let sum: f64 = input.iter().skip(c).step_by(channels).map(|&x| f64::from(x)).sum();
        let expected = sum / (height * width) as f64;
        assert!((f64::from(mean) - expected).abs() < 1e-4 * expected, "{mean} not {expected}");
    }
}
