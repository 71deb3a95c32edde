//! Products in bf16 on every instruction set against f64, and bit for bit against scalar twins.

use half::bf16;
use proptest::prelude::*;

use super::*;
use crate::gemm::{MatrixLayout, PANEL};
use crate::math::{ActivateTile, Activation};
use crate::{Cpu, Isa, Pool, scratch, test_data};

struct Case {
    m: usize,
    k: usize,
    n: usize,
    extra_stride: usize,
    bias: bool,
    residual: bool,
    activation: Activation,
}

fn packed(b: &[f32], layout: MatrixLayout) -> Vec<bf16> {
    let mut out = vec![bf16::NAN; packed_bf16_len(layout.k, layout.n)];
    pack_bf16(b, layout, &mut out);
    out
}

impl Case {
    fn left(&self) -> Vec<f32> {
        test_data(self.m * (self.k + self.extra_stride), 1)
    }

    fn right(&self) -> Vec<f32> {
        test_data(self.k * self.n, 2)
    }

    fn residual(&self) -> Vec<f32> {
        test_data(self.m * (self.n + 1), 4)
    }

    fn run(&self, cpu: Cpu, threads: usize) -> Vec<f32> {
        let (m, k, n) = (self.m, self.k, self.n);
        let (a, bias, residual) = (self.left(), test_data(n, 3), self.residual());
        let b = packed(&self.right(), MatrixLayout::k_by_n(k, n));
        let epilogue = Epilogue {
            bias: self.bias.then_some(&bias),
            residual: self.residual.then_some(RowsRef { data: &residual, stride: n + 1 }),
            activation: self.activation,
        };
        let mut data = vec![7.0; m * (n + self.extra_stride)];
        let out = RowsMut { data: &mut data, stride: n + self.extra_stride };
        let pool = Pool::new(threads).unwrap();
        let left = RowsRef { data: &a, stride: k + self.extra_stride };
        let right = PackedBf16::new(&b, k, n).unwrap();
        gemm_bf16(Exec { cpu, pool: &pool }, m, left, right, &epilogue, out);
        data
    }

    /// What `cpu` must give: the sums of its scalar twin, with its own activations where these are
    /// no clamp.
    fn twin(&self, cpu: Cpu) -> Vec<f32> {
        let twin = match cpu.isa() {
            Isa::Amx => Cpu::amx_twin(),
            _ => Cpu::with_isa(Isa::Reference).unwrap(),
        };
        let activation = self.activation;
        if activation.as_clamp().is_some() {
            return self.run(twin, 1);
        }
        let mut data = Case { activation: Activation::None, ..*self }.run(twin, 1);
        let (start, stride) = (data.as_mut_ptr(), self.n + self.extra_stride);
        if self.m > 0 {
            ActivateTile { activation, start, rows: self.m, cols: self.n, stride }.apply(cpu);
        }
        data
    }

    /// Checks the bound that the module states, activations off, against the operands as given.
    fn check(&self, got: &[f32]) {
        let (a, b, bias) = (self.left(), self.right(), test_data(self.n, 3));
        let residual = self.residual();
        let stride = self.k + self.extra_stride;
        for (row, got) in got.chunks((self.n + self.extra_stride).max(1)).enumerate() {
            for col in 0..self.n {
                let terms = (0..self.k)
                    .map(|k| f64::from(a[row * stride + k]) * f64::from(b[k * self.n + col]));
                let (mut sum, size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + t.abs()));
                let mut extras = 0.0;
                if self.bias {
                    sum += f64::from(bias[col]);
                    extras += bias[col].abs();
                }
                if self.residual {
                    let x = residual[row * (self.n + 1) + col];
                    sum += f64::from(x);
                    extras += x.abs();
                }
                let operands = 2f64.powi(-7) + 2f64.powi(-16);
                let sums = (self.k as f64 + 4.0) * 2f64.powi(-24);
                let bound = (operands + sums) * size * 1.001 + f64::from(extras) * 2f64.powi(-22);
                let y = f64::from(got[col]);
                assert!((y - sum).abs() <= bound, "[{row}, {col}]: {y}, expected {sum}");
            }
            assert!(got[self.n..].iter().all(|&x| x == 7.0), "gap overwritten");
        }
    }
}

fn activations() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::None),
        Just(Activation::Relu),
        Just(Activation::Clip(-0.5, 0.5)),
        Just(Activation::Gelu),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn products_are_the_bits_of_the_twin_on_every_instruction_set(
        (m, k, n) in (0usize..30, 0usize..300, 0usize..100),
        extra_stride in 0usize..4,
        (bias, residual) in any::<(bool, bool)>(),
        activation in activations(),
    ) {
        let case = Case { m, k, n, extra_stride, bias, residual, activation };
        for cpu in Cpu::tested() {
            let got = case.run(cpu, 1);
            if activation == Activation::None {
                case.check(&got);
            }
            prop_assert_eq!(&case.run(cpu, 3), &got, "threads change bits");
            prop_assert_eq!(&case.twin(cpu), &got, "{}", cpu.isa());
        }
    }
}

#[test]
fn large_depth_and_width_are_blocked_without_changing_bits() {
    let activation = Activation::Relu;
    let case =
        Case { m: 13, k: 3001, n: 533, extra_stride: 3, bias: true, residual: true, activation };
    for cpu in Cpu::tested() {
        assert!(case.run(cpu, 2) == case.twin(cpu), "{}", cpu.isa());
    }
    let plain = Case { activation: Activation::None, ..case };
    Cpu::tested().for_each(|cpu| plain.check(&plain.run(cpu, 1)));
    let many_rows = Case { m: 997, k: 41, n: 37, ..plain };
    for (cpu, threads) in Cpu::tested().flat_map(|cpu| [(cpu, 1), (cpu, 2)]) {
        let got = many_rows.run(cpu, threads);
        many_rows.check(&got);
        assert!(got == many_rows.twin(cpu), "{}", cpu.isa());
    }
}

#[test]
fn ends_of_rows_depth_and_columns_are_the_bits_of_the_twin() {
    let activation = Activation::None;
    for cpu in Cpu::tested() {
        for (m, n) in (1..=34).zip([1, 15, 16, 17, 31, 32, 33, 48].into_iter().cycle()) {
            for k in [0, 1, 2, 31, 32, 33, 34, 63, 64, 65, 70, 95] {
                let case =
                    Case { m, k, n, extra_stride: 1, bias: true, residual: false, activation };
                scratch::spoil();
                assert!(case.run(cpu, 1) == case.twin(cpu), "{m}, {k}, {n} on {}", cpu.isa());
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let (k, n) = (131, 70);
    let a = test_data(64 * k, 1);
    let b = packed(&test_data(k * n, 2), MatrixLayout::k_by_n(k, n));
    for cpu in Cpu::tested() {
        let run = |rows: std::ops::Range<usize>| {
            let mut out = vec![0.0; rows.len() * n];
            let left = RowsRef { data: &a[rows.start * k..rows.end * k], stride: k };
            let right = PackedBf16::new(&b, k, n).unwrap();
            let target = RowsMut { data: &mut out, stride: n };
            let exec = Exec { cpu, pool: Pool::inline() };
            gemm_bf16(exec, rows.len(), left, right, &Epilogue::default(), target);
            out
        };
        let all = run(0..64);
        for (start, end) in [(5, 6), (7, 9), (10, 13), (20, 24), (30, 41)] {
            assert_eq!(run(start..end), all[start * n..end * n]);
        }
    }
}

/// One product of one element on every instruction set.
fn product(a: &[f32], b: &[f32]) -> Vec<f32> {
    Cpu::tested().map(|cpu| product_on(cpu, a, b)).collect()
}

fn product_on(cpu: Cpu, a: &[f32], b: &[f32]) -> f32 {
    let right = packed(b, MatrixLayout::k_by_n(b.len(), 1));
    let mut out = [0.0];
    let left = RowsRef { data: a, stride: a.len() };
    let right = PackedBf16::new(&right, b.len(), 1).unwrap();
    let target = RowsMut { data: &mut out, stride: 1 };
    let exec = Exec { cpu, pool: Pool::inline() };
    gemm_bf16(exec, 1, left, right, &Epilogue::default(), target);
    out[0]
}

#[test]
fn operands_are_rounded_to_nearest_even_and_subnormals_to_zero() {
    let step = 2f32.powi(-7);
    let cases = [
        (1.0 + step / 2.0, 1.0),
        (1.0 + step * 1.5, 1.0 + 2.0 * step),
        (1.0 + step * 0.51, 1.0 + step),
        (-1.0 - step * 0.49, -1.0),
        (f32::MAX, f32::INFINITY),
        (f32::MIN_POSITIVE, f32::MIN_POSITIVE),
        (f32::from_bits(0x007f_ffff), 0.0),
        (f32::NEG_INFINITY, f32::NEG_INFINITY),
    ];
    for (x, expected) in cases {
        assert!(product(&[x], &[1.0]).iter().all(|&y| y == expected), "{x} as a left operand");
        assert!(product(&[1.0], &[x]).iter().all(|&y| y == expected), "{x} as a right operand");
        assert_eq!(rounded(x), expected);
    }
    assert!(product(&[f32::NAN], &[1.0]).into_iter().all(f32::is_nan));
    assert!(product(&[1.0], &[f32::from_bits(0x7f80_0001)]).into_iter().all(f32::is_nan));
}

#[test]
fn the_odd_element_of_a_pair_is_added_first() {
    // 2²⁴ + 1 is not an f32, 1 - 2²⁴ is one.
    let big = 2f32.powi(24);
    for cpu in Cpu::tested().filter(|cpu| !cpu.isa().includes(Isa::Amx)) {
        assert_eq!(product_on(cpu, &[1.0, 0.0, -big, big], &[1.0; 4]), 0.0);
        assert_eq!(product_on(cpu, &[1.0, 0.0, big, -big], &[1.0; 4]), 1.0);
    }
}

#[test]
fn amx_sums_even_and_odd_elements_of_32_apart() {
    let big = 2f32.powi(24);
    for cpu in Cpu::tested().filter(|cpu| cpu.isa() == Isa::Amx) {
        let sum = |a: &[f32]| product_on(cpu, a, &vec![1.0; a.len()]);
        assert_eq!(sum(&[1.0, 0.0, -big, big]), 1.0);
        assert_eq!(sum(&[1.0, 0.0, big, -big]), 0.0);
        let mut far = [0.0; 37];
        (far[0], far[32], far[36]) = (big, 1.0, 1.0);
        assert_eq!(sum(&far), big + 2.0);
        assert_eq!(sum(&far[28..]), 2.0);
        (far[2], far[4], far[32], far[36]) = (1.0, 1.0, 0.0, 0.0);
        assert_eq!(sum(&far), big);
    }
}

proptest! {
    #[test]
    fn packing_puts_pairs_of_a_column_together(k in 1usize..20, n in 1usize..50) {
        let b = test_data(k * n, 5);
        let data = packed(&b, MatrixLayout::k_by_n(k, n));
        let transposed: Vec<f32> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
        prop_assert_eq!(&packed(&transposed, MatrixLayout::n_by_k(k, n)), &data);
        let pairs = k.div_ceil(PAIR);
        for (i, x) in data.iter().enumerate() {
            let (row, col, half) = (i / (PANEL * PAIR), i / PAIR % PANEL, i % PAIR);
            let (at_k, at_n) = (row % pairs * PAIR + half, row / pairs * PANEL + col);
            let inside = at_k < k && at_n < n;
            let expected = if inside { rounded(b[at_k * n + at_n]) } else { 0.0 };
            prop_assert_eq!(x.to_f32(), expected);
        }
    }
}
