//! 8-bit products and convolutions on every instruction set against 64-bit loops.

use landfall_tensor::{FixedPointScale, requantize};
use proptest::prelude::*;

use super::pack::GROUP;
use super::taps::TapLines;
use super::*;
use crate::conv::Window2d;
use crate::gemm::{MatrixLayout, PANEL};
use crate::rows::RowSource;
use crate::simd::Portable;
use crate::{Cpu, Isa, Pool, test_data};

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    test_data(len, seed).iter().map(|x| (x * 128.0 + 128.0) as u8).collect()
}

fn value(byte: u8, signed: bool) -> i64 {
    if signed { i64::from(byte as i8) } else { i64::from(byte) }
}

/// What to do with exact sums.
#[derive(Debug, Clone, Copy)]
enum Kind {
    I32,
    Bytes(ByteRange),
    F32,
}

struct Case {
    a: Vec<u8>,
    a_signed: bool,
    a_zero: i32,
    b_signed: bool,
    zeros: Option<Vec<i32>>,
    bias: Vec<i32>,
    scales: Vec<f64>,
    kind: Kind,
}

impl Case {
    fn new(a: Vec<u8>, n: usize, signs: (bool, bool), asymmetric: bool, kind: Kind) -> Case {
        let (a_signed, b_signed) = signs;
        let offset = if b_signed { 0 } else { 128 };
        let zeros = (0..n as i32).map(|i| offset + if asymmetric { i * 7 % 50 - 25 } else { 0 });
        Case {
            a,
            a_signed,
            a_zero: if a_signed { -3 } else { 131 },
            b_signed,
            zeros: (!b_signed || asymmetric).then(|| zeros.collect()),
            bias: test_data(n, 9).iter().map(|x| (x * 3000.0) as i32).collect(),
            scales: (0..n).map(|i| 1e-4 * (1.0 + i as f64 / 7.0)).collect(),
            kind,
        }
    }

    fn left(&self) -> Bytes<'_> {
        Bytes { data: &self.a, signed: self.a_signed, zero_point: self.a_zero }
    }

    fn zero(&self, n: usize) -> i64 {
        self.zeros.as_ref().map_or(0, |z| z[n].into())
    }

    /// Runs `call` with the case's epilogue over `[m, n]` and compares with exact sums.
    fn check(
        &self,
        (m, n): (usize, usize),
        exact: impl Fn(usize, usize) -> i64,
        call: impl Fn(Int8Epilogue<'_>),
    ) {
        let stride = n + 2;
        let fixed: Vec<_> = self.scales.iter().map(|&s| FixedPointScale::new(s).unwrap()).collect();
        let scales = ColumnScales::new(&fixed, n).unwrap();
        let float: Vec<f32> = self.scales.iter().map(|&s| s as f32).collect();
        let (mut sums, mut out) = (vec![7; m * stride], vec![7u8; m * stride]);
        let mut floats = vec![7.0; m * stride];
        let output = match self.kind {
            Kind::I32 => Int8Output::I32(&mut sums),
            Kind::Bytes(ByteRange { zero_point, low, high }) => {
                Int8Output::Bytes { data: &mut out, scales: &scales, zero_point, low, high }
            }
            Kind::F32 => Int8Output::F32 {
                data: &mut floats,
                factor: 0.5,
                scales: &float,
                bias: None,
                activation: Activation::Relu,
            },
        };
        let right_zeros = self.zeros.as_deref();
        call(Int8Epilogue { right_zeros, bias: Some(&self.bias), output, stride });
        for (row, col) in (0..m).flat_map(|row| (0..stride).map(move |col| (row, col))) {
            let at = row * stride + col;
            if col >= n {
                assert_eq!((sums[at], out[at], floats[at]), (7, 7, 7.0), "gap overwritten");
                continue;
            }
            let sum = i32::try_from(exact(row, col) + i64::from(self.bias[col])).unwrap();
            match self.kind {
                Kind::I32 => assert_eq!(sums[at], sum, "[{row}, {col}]"),
                Kind::Bytes(ByteRange { zero_point, low, high }) => {
                    let y = (requantize(sum, fixed[col]) + zero_point).clamp(low, high);
                    assert_eq!(out[at], y as u8, "[{row}, {col}]");
                }
                Kind::F32 => {
                    let y = (sum as f32 * (0.5 * float[col])).max(0.0);
                    assert_eq!(floats[at], y, "[{row}, {col}]");
                }
            }
        }
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    let bytes = prop_oneof![Just((-128, 127)), Just((0, 255))];
    let ranges = bytes.prop_flat_map(|(low, high): (i32, i32)| {
        let bound = low..=high;
        (bound.clone(), bound.clone(), bound).prop_map(|(zero_point, a, b): (i32, i32, i32)| {
            Kind::Bytes(ByteRange { zero_point, low: a.min(b), high: a.max(b) })
        })
    });
    prop_oneof![Just(Kind::I32), ranges, Just(Kind::F32)]
}

/// A depthwise convolution with arrays for vectors, where dot products of taps can do it.
fn run_portable_taps(
    conv: &Conv2d,
    input: &Bytes<'_>,
    weights: &ConvWeightsInt8<'_>,
    mut epilogue: Int8Epilogue<'_>,
) {
    let (window, shape) = (conv.window, (conv.window.positions(), conv.out_channels));
    let offset = if weights.signed { 0 } else { 128 };
    let finish = epilogue.finish(shape, window.taps(), input, weights.sums, offset);
    let lines = 0..window.batch * window.out_height;
    match TapLines::new(window, input, weights.data, &finish, lines) {
        Some(taps) => taps.run_portable(),
        None => {
            let exec = Exec { cpu: Cpu::with_isa(Isa::Reference).unwrap(), pool: Pool::inline() };
            depthwise::run(exec, conv, input, weights.data, &finish);
        }
    }
}

/// Runs a convolution on every instruction set, against exact sums.
fn check_convolution(conv: &Conv2d, signs: (bool, bool), asymmetric: bool, kind: Kind) {
    let window = conv.window;
    let (channels, outputs, kernel) = (conv.group_channels(), conv.group_outputs(), window.kernel);
    let (m, n) = (window.positions(), conv.out_channels);
    let weights = bytes(n * conv.depth(), 2);
    let case = Case::new(bytes(window.input_len(), 1), n, signs, asymmetric, kind);
    let mut data = vec![1; packed_conv_int8_len(conv)];
    let mut sums = vec![1; conv_column_sums_len(conv)];
    pack_conv_int8(conv, &weights, case.b_signed, &mut data, &mut sums);
    let exact = |row: usize, o: usize| {
        let (ox, line) = (row % window.out_width, row / window.out_width);
        let (oy, image) = (line % window.out_height, line / window.out_height);
        let mut sum = 0;
        for ky in window.valid_taps(0, oy) {
            for kx in window.valid_taps(1, ox) {
                let (y, x) = (window.input_index(0, oy, ky), window.input_index(1, ox, kx));
                for c in 0..channels {
                    let pixel = (image * window.height + y) * window.width + x;
                    let input = pixel * window.channels + o / outputs * channels + c;
                    let weight = ((o * channels + c) * kernel[0] + ky) * kernel[1] + kx;
                    sum += (value(case.a[input], case.a_signed) - i64::from(case.a_zero))
                        * (value(weights[weight], case.b_signed) - case.zero(o));
                }
            }
        }
        sum
    };
    for (cpu, threads) in Cpu::tested().flat_map(|cpu| [(cpu, 1), (cpu, 2)]) {
        let pool = Pool::new(threads).unwrap();
        let exec = Exec { cpu, pool: &pool };
        let weights = ConvWeightsInt8 { data: &data, sums: &sums, signed: case.b_signed };
        case.check((m, n), exact, |epilogue| {
            conv2d_int8(exec, conv, case.left(), weights, epilogue);
        });
    }
    if conv.is_depthwise() {
        let weights = ConvWeightsInt8 { data: &data, sums: &sums, signed: case.b_signed };
        case.check((m, n), exact, |epilogue| {
            run_portable_taps(conv, &case.left(), &weights, epilogue);
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn products_are_exact_on_every_instruction_set(
        (m, k, n) in (0usize..20, 0usize..150, 1usize..70),
        signs: (bool, bool), asymmetric: bool, kind in kinds(),
    ) {
        let b = bytes(k * n, 2);
        let case = Case::new(bytes(m * (k + 1), 1), n, signs, asymmetric, kind);
        let (mut data, mut sums) = (vec![1; packed_int8_len(k, n)], vec![1; column_sums_len(n)]);
        pack_int8(&b, case.b_signed, MatrixLayout::k_by_n(k, n), &mut data, &mut sums);
        let packed = PackedInt8::new(&data, &sums, (k, n), case.b_signed).unwrap();
        let exact = |row: usize, col: usize| {
            (0..k)
                .map(|i| {
                    let left = value(case.a[row * (k + 1) + i], case.a_signed);
                    let right = value(b[i * n + col], case.b_signed);
                    (left - i64::from(case.a_zero)) * (right - case.zero(col))
                })
                .sum()
        };
        for (cpu, threads) in Cpu::tested().flat_map(|cpu| [(cpu, 1), (cpu, 3)]) {
            let pool = Pool::new(threads).unwrap();
            let exec = Exec { cpu, pool: &pool };
            case.check((m, n), exact, |epilogue| {
                gemm_int8(exec, m, case.left(), k + 1, packed, epilogue);
            });
        }
        case.check((m, n), exact, |mut epilogue| {
            let rows = DenseRows::new(&case.a, m, k, k + 1);
            let rows = DenseBytes { rows, pad: case.a_zero as u8 };
            let (depth, left) = (rows.depth(), case.left());
            let finish = epilogue.finish((m, n), depth, &left, &sums, packed.offset());
            let row_sums = finish.needs_row_sums();
            let right = data.as_ptr();
            let product = Product { rows: &rows, signed: case.a_signed, right, finish };
            let panels = 0..n.div_ceil(PANEL);
            let cpu = Cpu::detect();
            let (rows, caches) = (0..m, crate::CacheSizes { l1_bytes: 8192, l2_bytes: 16384 });
            let (product, left_signed) = (&product, false);
            let part = drive::Part { product, left_signed, rows, panels, caches, row_sums, cpu };
            if m > 0 {
                lanes::Dot::run(Portable, &part);
            }
        });
    }

    #[test]
    fn convolutions_are_exact_on_every_instruction_set(
        (height, width, kernel) in (1usize..8, 1usize..8, (1usize..6, 1usize..6)),
        (stride, dilation) in ((1usize..5, 1usize..5), (1usize..3, 1usize..3)),
        pads in prop::array::uniform4(0usize..4),
        (groups, depthwise) in (1usize..4, any::<bool>()),
        (channels, outputs) in (1usize..20, 1usize..20),
        signs: (bool, bool), asymmetric: bool, kind in kinds(),
    ) {
        let (groups, channels, outputs) =
            if depthwise { (channels * 9 - 7, 1, 1) } else { (groups, channels, outputs) };
        let window = Window2d::new([2, height, width, channels * groups], kernel.into())
            .with_stride(stride.into())
            .with_dilation(dilation.into())
            .with_pads(pads);
        let conv = Conv2d { window, out_channels: outputs * groups, groups };
        check_convolution(&conv, signs, asymmetric, kind);
    }
}

/// Depths that fill tiles, and that do not.
fn tile_depths() -> impl Strategy<Value = usize> {
    prop_oneof![(1usize..5).prop_map(|tiles| tiles * 64), 60usize..260]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn products_in_tiles_are_exact(
        (m, k, n) in (14usize..70, tile_depths(), 1usize..100),
        signs: (bool, bool), asymmetric: bool, kind in kinds(),
    ) {
        let b = bytes(k * n, 2);
        let stride = k.next_multiple_of(GROUP) + 1;
        let case = Case::new(bytes(m * stride, 1), n, signs, asymmetric, kind);
        let (mut data, mut sums) = (vec![1; packed_int8_len(k, n)], vec![1; column_sums_len(n)]);
        pack_int8(&b, case.b_signed, MatrixLayout::k_by_n(k, n), &mut data, &mut sums);
        let packed = PackedInt8::new(&data, &sums, (k, n), case.b_signed).unwrap();
        let exact: Vec<i64> = (0..m * n)
            .map(|at| {
                let (row, col) = (at / n, at % n);
                let term = |i: usize| {
                    let left = value(case.a[row * stride + i], case.a_signed);
                    let right = value(b[i * n + col], case.b_signed);
                    (left - i64::from(case.a_zero)) * (right - case.zero(col))
                };
                (0..k).map(term).sum()
            })
            .collect();
        let exact = |row: usize, col: usize| exact[row * n + col];
        for cpu in Cpu::tested().filter(|cpu| cpu.isa() == Isa::Amx) {
            for threads in [1, 3] {
                let pool = Pool::new(threads).unwrap();
                crate::scratch::spoil();
                case.check((m, n), exact, |epilogue| {
                    gemm_int8(Exec { cpu, pool: &pool }, m, case.left(), stride, packed, epilogue);
                });
            }
            case.check((m, n), exact, |mut epilogue| {
                let rows = DenseRows::new(&case.a, m, k, stride);
                let rows = DenseBytes { rows, pad: case.a_zero as u8 };
                let (depth, left) = (rows.depth(), case.left());
                let finish = epilogue.finish((m, n), depth, &left, &sums, packed.offset());
                let row_sums = finish.needs_row_sums();
                let right = data.as_ptr();
                let product = Product { rows: &rows, signed: case.a_signed, right, finish };
                let caches = crate::CacheSizes { l1_bytes: 8192, l2_bytes: 16384 };
                let panels = 0..n.div_ceil(PANEL);
                let (rows, left_signed) = (0..m, false);
                let product = &product;
                let part =
                    drive::Part { product, left_signed, rows, panels, caches, row_sums, cpu };
                let worth = m >= 16 && depth >= 64;
                assert_eq!(tiles::run_part(&part), worth);
                if !worth {
                    assert!(lanes::dispatch(cpu, &part));
                }
            });
        }
    }
}

#[test]
fn convolutions_whose_taps_fill_tiles_are_exact() {
    // Lines have 32 positions. Windows inside the image are read in place: kernel rows at once, or
    // tap by tap where channels are a group's or taps lie apart.
    let window = Window2d::new([1, 4, 34, 64], [3, 3]).with_pads([1, 0, 1, 0]);
    let spread = Window2d::new([1, 5, 36, 64], [3, 3]).with_pads([1, 0, 1, 0]);
    let spread = spread.with_dilation([1, 2]).with_stride([2, 1]);
    let groups = Window2d::new([1, 3, 33, 128], [2, 2]);
    let kind = Kind::Bytes(ByteRange { zero_point: 3, low: 0, high: 255 });
    for (window, groups) in [(window, 1), (spread, 1), (groups, 2)] {
        for (signs, kind) in [((false, true), kind), ((true, false), Kind::I32)] {
            let conv = Conv2d { window, out_channels: 34 * groups, groups };
            check_convolution(&conv, signs, true, kind);
        }
    }
}

#[test]
fn columns_may_all_lie_left_of_the_image() {
    let window = Window2d::new([1, 1, 1, 20], [1, 1]).with_stride([1, 3]).with_pads([0, 2, 0, 0]);
    let conv = Conv2d { window, out_channels: 20, groups: 20 };
    let kind = Kind::Bytes(ByteRange { zero_point: 3, low: 0, high: 255 });
    check_convolution(&conv, (false, true), false, kind);
}

#[test]
fn the_largest_products_do_not_saturate() {
    let (k, n) = (4096, 16);
    let (mut data, mut sums) = (vec![0; packed_int8_len(k, n)], vec![0; column_sums_len(n)]);
    pack_int8(&vec![0x80; k * n], true, MatrixLayout::k_by_n(k, n), &mut data, &mut sums);
    let packed = PackedInt8::new(&data, &sums, (k, n), true).unwrap();
    for cpu in Cpu::tested() {
        let mut out = vec![0; n];
        let left = Bytes { data: &vec![255; k], signed: false, zero_point: 0 };
        let output = Int8Output::I32(&mut out);
        let epilogue = Int8Epilogue { right_zeros: None, bias: None, output, stride: n };
        gemm_int8(Exec { cpu, pool: Pool::inline() }, 1, left, k, packed, epilogue);
        assert_eq!(out, vec![-128 * 255 * 4096; n], "{}", cpu.isa());
    }
}
