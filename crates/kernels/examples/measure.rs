//! Prints the speed of kernels as a share of this core's measured peak of fused multiply-adds.
//!
//! `cargo run --release -p landfall-kernels --example measure [FILTER [ISA]]`
#![allow(unsafe_code, reason = "the peak is measured with intrinsics")]

use std::time::Instant;

use landfall_kernels::*;

/// Seconds of the fastest of several runs.
fn best(mut f: impl FnMut()) -> f64 {
    f();
    let mut best = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 0.4 {
        let run = Instant::now();
        f();
        best = best.min(run.elapsed().as_secs_f64());
    }
    best
}

const ROUNDS: usize = 200_000;

/// 12 independent chains of 256-bit fused multiply-adds.
#[target_feature(enable = "avx2,fma")]
fn chains() -> std::arch::x86_64::__m256 {
    use std::arch::x86_64::*;
    let mut sums = [_mm256_set1_ps(std::hint::black_box(0.5)); 12];
    let (a, b) = (_mm256_set1_ps(std::hint::black_box(0.999)), _mm256_set1_ps(0.001));
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, a, b);
        }
    }
    sums.into_iter().reduce(|x, y| _mm256_add_ps(x, y)).unwrap_or(a)
}

/// FLOP/s of this core, measured.
fn peak_fma() -> f64 {
    let seconds = best(|| {
        // SAFETY: `main` found AVX2 and FMA.
        std::hint::black_box(unsafe { chains() });
    });
    (ROUNDS * 12 * 16) as f64 / seconds
}

/// Measures `f` and prints its share of the peak, if the case is wanted.
fn report(name: &str, flop: f64, peak: f64, f: impl FnMut()) {
    let filter = std::env::args().nth(1).unwrap_or_default();
    if !name.contains(&filter) {
        return;
    }
    let seconds = best(f);
    let rate = flop / seconds;
    println!(
        "{name:34} {:9.1} us {:7.1} GFLOP/s {:5.1} % of peak",
        seconds * 1e6,
        rate / 1e9,
        100.0 * rate / peak
    );
}

fn data(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1000) as f32 * 1e-3 - 0.5).collect()
}

fn products(exec: Exec<'_>, peak: f64) {
    let shapes = [(1024, 1024, 1024), (128, 384, 1536), (128, 1536, 384), (16, 1024, 1024)];
    for (m, k, n) in shapes.into_iter().chain([(1, 1024, 1024), (3136, 64, 64), (100, 30, 10)]) {
        let (a, b) = (data(m * k), data(k * n));
        let mut packed = vec![0.0; packed_b_len(k, n)];
        pack_b(&b, MatrixLayout::k_by_n(k, n), &mut packed);
        let mut out = vec![0.0; m * n];
        let b = PackedB::new(&packed, k, n).unwrap();
        report(&format!("gemm {m}x{k}x{n}"), 2.0 * (m * k * n) as f64, peak, || {
            let left = RowsRef { data: &a, stride: k };
            let out = RowsMut { data: &mut out, stride: n };
            gemm(exec, m, left, b, &Epilogue::default(), out);
        });
        report_bf16(exec, peak, (m, k, n));
    }
    for (batch, m, k, n, t) in [(12, 128, 32, 128, true), (12, 128, 128, 32, false)] {
        let (a, b) = (data(batch * m * k), data(batch * k * n));
        let mut out = vec![0.0; batch * m * n];
        let mut shape = MatMul::contiguous(batch, m, k, n);
        if t {
            shape.b = MatrixLayout::n_by_k(k, n);
        }
        let name = format!("matmul {batch}x{m}x{k}x{n}{}", if t { " transposed" } else { "" });
        report(&name, 2.0 * (batch * m * k * n) as f64, peak, || {
            matmul(exec, &shape, &a, &b, None, Activation::None, &mut out);
        });
    }
}

fn report_bf16(exec: Exec<'_>, peak: f64, (m, k, n): (usize, usize, usize)) {
    let (a, b) = (data(m * k), data(k * n));
    let mut packed = vec![landfall_tensor::bf16::ZERO; packed_bf16_len(k, n)];
    pack_bf16(&b, MatrixLayout::k_by_n(k, n), &mut packed);
    let mut out = vec![0.0; m * n];
    let b = PackedBf16::new(&packed, k, n).unwrap();
    report(&format!("bf16 gemm {m}x{k}x{n}"), 2.0 * (m * k * n) as f64, peak, || {
        let left = RowsRef { data: &a, stride: k };
        let out = RowsMut { data: &mut out, stride: n };
        gemm_bf16(exec, m, left, b, &Epilogue::default(), out);
    });
}

/// Products with weights that no cache holds.
fn cold(exec: Exec<'_>, peak: f64) {
    let (k, n) = (768, 3072);
    let rounds = 24;
    for m in [1, 4, 8, 12, 16, 24, 32, 64, 128] {
        let a = data(m * k);
        let len = packed_bf16_len(k, n);
        let packed = vec![landfall_tensor::bf16::from_f32(0.5); len * rounds];
        let mut out = vec![0.0; m * n];
        report(&format!("cold bf16 {m}x{k}x{n}"), 2.0 * (m * k * n * rounds) as f64, peak, || {
            for packed in packed.chunks(len) {
                let b = PackedBf16::new(packed, k, n).unwrap();
                let left = RowsRef { data: &a, stride: k };
                let out = RowsMut { data: &mut out, stride: n };
                gemm_bf16(exec, m, left, b, &Epilogue::default(), out);
            }
        });
        let len = packed_b_len(k, n);
        let packed = vec![0.5f32; len * rounds];
        report(&format!("cold f32 {m}x{k}x{n}"), 2.0 * (m * k * n * rounds) as f64, peak, || {
            for packed in packed.chunks(len) {
                let b = PackedB::new(packed, k, n).unwrap();
                let left = RowsRef { data: &a, stride: k };
                let out = RowsMut { data: &mut out, stride: n };
                gemm(exec, m, left, b, &Epilogue::default(), out);
            }
        });
    }
}

fn convolutions(exec: Exec<'_>, peak: f64) {
    let cases = [
        (56, 64, 64, 3, 1, 1),
        (14, 256, 256, 3, 1, 1),
        (7, 512, 512, 3, 1, 1),
        (56, 256, 64, 1, 1, 1),
        (56, 64, 256, 1, 1, 1),
        (56, 96, 96, 3, 1, 96),
        (112, 32, 32, 3, 1, 32),
        (14, 384, 384, 5, 1, 384),
        (224, 3, 64, 7, 2, 1),
        (224, 3, 32, 3, 2, 1),
        (56, 128, 128, 3, 1, 32),
    ];
    for (size, channels, outputs, kernel, stride, groups) in cases {
        let window = Window2d::new([1, size, size, channels], [kernel; 2])
            .with_stride([stride; 2])
            .with_pads([kernel / 2; 4]);
        let conv = Conv2d { window, out_channels: outputs, groups };
        let mut packed = vec![0.0; conv.packed_weights_len()];
        conv.pack_weights(&data(outputs * conv.depth()), &mut packed);
        let (input, bias) = (data(window.input_len()), data(outputs));
        let mut out = vec![0.0; window.positions() * outputs];
        let epilogue = Epilogue { bias: Some(&bias), residual: None, activation: Activation::Relu };
        let flop = 2.0 * (window.positions() * outputs * conv.depth()) as f64;
        let name =
            format!("conv {channels}>{outputs} {size}² {kernel}x{kernel}/{stride} g{groups}");
        report(&name, flop, peak, || {
            let out = RowsMut { data: &mut out, stride: outputs };
            conv2d(exec, &conv, &input, &packed, &epilogue, out);
        });
        if conv.is_depthwise() {
            continue;
        }
        let mut packed = vec![landfall_tensor::bf16::ZERO; conv.packed_weights_bf16_len()];
        conv.pack_weights_bf16(&data(outputs * conv.depth()), &mut packed);
        report(&format!("bf16 {name}"), flop, peak, || {
            let out = RowsMut { data: &mut out, stride: outputs };
            conv2d_bf16(exec, &conv, &input, &packed, &epilogue, out);
        });
    }
}

/// Every algorithm of 3 by 3 convolutions, as a share of the peak of the direct sum's arithmetic.
fn algorithms(exec: Exec<'_>, peak: f64) {
    let cases = [
        (1, 224, 64, 64),
        (1, 112, 64, 128),
        (1, 112, 128, 128),
        (1, 56, 64, 64),
        (1, 56, 128, 256),
        (1, 56, 256, 256),
        (1, 56, 128, 32),
        (1, 56, 64, 192),
        (1, 28, 128, 128),
        (1, 28, 64, 96),
        (1, 28, 128, 32),
        (1, 28, 256, 512),
        (1, 28, 512, 512),
        (1, 14, 256, 256),
        (1, 14, 512, 512),
        (1, 14, 128, 32),
        (1, 14, 128, 192),
        (1, 13, 64, 256),
        (1, 7, 512, 512),
        (1, 7, 128, 32),
        (1, 7, 192, 320),
        (8, 7, 512, 512),
        (8, 14, 256, 256),
        (8, 28, 128, 128),
        (8, 56, 64, 64),
        (1, 55, 16, 64),
        (1, 224, 3, 64),
    ];
    for (batch, size, channels, outputs) in cases {
        let window = Window2d::new([batch, size, size, channels], [3; 2]).with_pads([1; 4]);
        let conv = Conv2d { window, out_channels: outputs, groups: 1 };
        let (input, bias) = (data(window.input_len()), data(outputs));
        let mut out = vec![0.0; window.positions() * outputs];
        let epilogue = Epilogue { bias: Some(&bias), residual: None, activation: Activation::Relu };
        let flop = 2.0 * (window.positions() * outputs * conv.depth()) as f64;
        for &algorithm in conv.algorithms() {
            let mut packed = vec![0.0; conv.packed_len(algorithm)];
            conv.pack(algorithm, &data(outputs * conv.depth()), &mut packed);
            let name = algorithm.name();
            let name = format!("{name} {batch} x {channels}>{outputs} {size}²");
            report(&name, flop, peak, || {
                let out = RowsMut { data: &mut out, stride: outputs };
                conv2d_by(exec, algorithm, &conv, &input, &packed, &epilogue, out);
            });
        }
    }
}

fn int8(exec: Exec<'_>, peak: f64) {
    let bytes = |len: usize| (0..len).map(|i| (i * 7919 % 255) as u8).collect::<Vec<u8>>();
    let cases = [
        (56, 64, 64, 3, 1, 1),
        (14, 256, 256, 3, 1, 1),
        (7, 512, 512, 3, 1, 1),
        (32, 1024, 1024, 1, 1, 1),
        (56, 256, 64, 1, 1, 1),
        (56, 64, 256, 1, 1, 1),
        (224, 3, 64, 7, 2, 1),
        (224, 3, 32, 3, 2, 1),
        (112, 16, 96, 1, 1, 1),
        (56, 144, 24, 1, 1, 1),
        (28, 32, 192, 1, 1, 1),
        (14, 384, 64, 1, 1, 1),
        (7, 160, 960, 1, 1, 1),
        (112, 32, 32, 3, 1, 32),
        (112, 96, 96, 3, 2, 96),
        (56, 96, 96, 3, 1, 96),
        (56, 144, 144, 3, 1, 144),
        (14, 384, 384, 3, 1, 384),
        (14, 384, 384, 5, 1, 384),
        (7, 960, 960, 3, 1, 960),
    ];
    for (size, channels, outputs, kernel, stride, groups) in cases {
        let window = Window2d::new([1, size, size, channels], [kernel; 2])
            .with_stride([stride; 2])
            .with_pads([kernel / 2; 4]);
        let conv = Conv2d { window, out_channels: outputs, groups };
        let weights = bytes(outputs * conv.depth());
        let input = bytes(window.input_len());
        let scale = landfall_tensor::FixedPointScale::new(1e-3).unwrap();
        let scales = ColumnScales::new(&[scale], outputs).unwrap();
        let mut out = vec![0; window.positions() * outputs];
        let zeros = vec![131; outputs];
        for (signed, right_signed) in [(false, true), (true, true), (false, false), (true, false)] {
            let (mut packed, mut sums) =
                (vec![0; packed_conv_int8_len(&conv)], vec![0; conv_column_sums_len(&conv)]);
            pack_conv_int8(&conv, &weights, right_signed, &mut packed, &mut sums);
            let ops = 2.0 * (window.positions() * outputs * conv.depth()) as f64;
            let sign = |signed| if signed { "s8" } else { "u8" };
            let signs = format!("{}{}", sign(signed), sign(right_signed));
            let shape = format!("{channels}>{outputs} {size}² {kernel}x{kernel}/{stride}");
            let name = format!("{signs} conv {shape} g{groups}");
            report(&name, ops, peak, || {
                let left = Bytes { data: &input, signed, zero_point: 3 };
                let weights = ConvWeightsInt8 { data: &packed, sums: &sums, signed: right_signed };
                let (zero_point, low, high) = (3, 0, 255);
                let data = &mut out[..];
                let output = Int8Output::Bytes { data, scales: &scales, zero_point, low, high };
                let right_zeros = (!right_signed).then_some(&zeros[..]);
                let epilogue = Int8Epilogue { right_zeros, bias: None, output, stride: outputs };
                conv2d_int8(exec, &conv, left, weights, epilogue);
            });
        }
    }
}

fn few_bits(exec: Exec<'_>, peak: f64) {
    for (m, bits) in [(1, 4), (4, 4), (64, 4), (1, 8), (64, 8)] {
        let shape = NBits { k: 2048, n: 2048, bits, block: 32 };
        let source: Vec<u8> = (0..shape.source_len()).map(|i| (i * 7919 % 255) as u8).collect();
        let mut packed = vec![0; shape.packed_len()];
        shape.pack(&source, &mut packed);
        let (scales, zero_points) =
            (vec![0.01; shape.parameters_len()], vec![8.0; shape.parameters_len()]);
        let (a, mut out) = (data(m * shape.k), vec![0.0; m * shape.n]);
        let b = PackedNBits { shape, data: &packed, scales: &scales, zero_points: &zero_points };
        let flop = 2.0 * (m * shape.k * shape.n) as f64;
        report(&format!("{bits} bits {m}x{}x{}", shape.k, shape.n), flop, peak, || {
            matmul_nbits(exec, m, &a, b, None, &mut out);
        });
    }
    let x = data(1 << 20);
    let mut q = vec![0u8; x.len()];
    let mut back = vec![0f32; x.len()];
    let spread = Spread::per_tensor(x.len());
    let parameters = Parameters { scales: &[0.01], zero_points: &[128] };
    report("quantize 1 Mi elements", x.len() as f64, peak, || {
        quantize(exec, &spread, parameters, Division::F32, &x, &mut q);
    });
    report("dequantize 1 Mi elements", x.len() as f64, peak, || {
        dequantize(exec, &spread, parameters, &q, &mut back);
    });
}

fn main() {
    let isa = std::env::args().nth(2).map(|name| Isa::from_name(&name).expect("an ISA we have"));
    let cpu = isa.map_or_else(Cpu::detect, |isa| Cpu::with_isa(isa).expect("an ISA we have"));
    assert!(cpu.isa() >= Isa::Avx2, "peak is measured with AVX2");
    let peak = peak_fma();
    println!("{} {:?}, peak of 256-bit FMA {:.1} GFLOP/s", cpu.isa(), cpu.caches(), peak / 1e9);
    for threads in [1, 2] {
        let pool = Pool::new(threads).expect("threads");
        let exec = Exec { cpu, pool: &pool };
        println!("threads {threads}");
        products(exec, peak * threads as f64);
        cold(exec, peak * threads as f64);
        int8(exec, peak * threads as f64);
        few_bits(exec, peak * threads as f64);
        convolutions(exec, peak * threads as f64);
        algorithms(exec, peak * threads as f64);
    }
}
