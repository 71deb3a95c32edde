//! Products on every instruction set against f64, and bit for bit against each other.

use proptest::prelude::*;

use super::*;
use crate::simd::{Portable, Simd};
use crate::{Cpu, Isa, Pool, test_data};

fn packed(b: &[f32], layout: MatrixLayout) -> Vec<f32> {
    let mut out = vec![f32::NAN; packed_b_len(layout.k, layout.n)];
    pack_b(b, layout, &mut out);
    out
}

struct Case {
    m: usize,
    k: usize,
    n: usize,
    extra_stride: usize,
    bias: bool,
    residual: bool,
    activation: Activation,
}

struct Operands {
    a: Vec<f32>,
    b: Vec<f32>,
    packed: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

impl Case {
    fn operands(&self) -> Operands {
        let (m, k, n) = (self.m, self.k, self.n);
        let b = test_data(k * n, 2);
        Operands {
            a: test_data(m * (k + self.extra_stride), 1),
            packed: packed(&b, MatrixLayout::k_by_n(k, n)),
            b,
            bias: test_data(n, 3),
            residual: test_data(m * (n + 1), 4),
        }
    }

    fn out_len(&self) -> usize {
        self.m * (self.n + self.extra_stride)
    }

    fn product<'a>(
        &self,
        o: &'a Operands,
        rows: &'a DenseRows<f32>,
        out: &'a mut RowsMut<'_>,
    ) -> Product<'a> {
        let residual = RowsRef { data: &o.residual, stride: self.n + 1 };
        let epilogue = Epilogue {
            bias: self.bias.then_some(o.bias.as_slice()),
            residual: self.residual.then_some(residual),
            activation: self.activation,
        };
        epilogue.product(rows, Right::Packed(o.packed.as_ptr()), self.n, out)
    }

    fn run(&self, cpu: Cpu, threads: usize) -> Vec<f32> {
        let o = self.operands();
        let rows = DenseRows::new(&o.a, self.m, self.k, self.k + self.extra_stride);
        let mut data = vec![7.0; self.out_len()];
        let mut out = RowsMut { data: &mut data, stride: self.n + self.extra_stride };
        let pool = Pool::new(threads).unwrap();
        run(Exec { cpu, pool: &pool }, &self.product(&o, &rows, &mut out));
        data
    }

    /// The 16-lane path with arrays for vectors.
    fn run_portable(&self) -> Vec<f32> {
        let o = self.operands();
        let rows = DenseRows::new(&o.a, self.m, self.k, self.k + self.extra_stride);
        let mut data = vec![7.0; self.out_len()];
        let mut out = RowsMut { data: &mut data, stride: self.n + self.extra_stride };
        let product = self.product(&o, &rows, &mut out);
        let caches = crate::CacheSizes { l1_bytes: 8192, l2_bytes: 65536 };
        let panels = 0..self.n.div_ceil(PANEL);
        let part =
            drive::Part { product: &product, rows: 0..self.m, panels, cpu: Cpu::detect(), caches };
        if self.m > 0 {
            Portable.run(part);
        }
        data
    }

    /// Checks against a sum in f64: an error of `k + 4` roundings of the sum of magnitudes.
    fn check(&self, got: &[f32]) {
        let o = self.operands();
        let stride = self.k + self.extra_stride;
        for row in 0..self.m {
            for col in 0..self.n {
                let terms = (0..self.k)
                    .map(|k| f64::from(o.a[row * stride + k]) * f64::from(o.b[k * self.n + col]));
                let (mut sum, mut size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + t.abs()));
                let extras = [
                    (self.bias, o.bias[col]),
                    (self.residual, o.residual[row * (self.n + 1) + col]),
                ];
                for (_, x) in extras.into_iter().filter(|(used, _)| *used) {
                    sum += f64::from(x);
                    size += f64::from(x.abs());
                }
                let expected = f64::from(self.activation.reference(sum as f32));
                let bound = f64::from(f32::EPSILON) * (self.k as f64 / 2.0 + 4.0) * (size + 1.0);
                let y = f64::from(got[row * (self.n + self.extra_stride) + col]);
                assert!((y - expected).abs() <= bound, "[{row}, {col}]: {y}, expected {expected}");
            }
            let end = row * (self.n + self.extra_stride) + self.n;
            assert!(got[end..end + self.extra_stride].iter().all(|&x| x == 7.0), "gap overwritten");
        }
    }
}

fn activations() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::None),
        Just(Activation::Relu),
        Just(Activation::Clip(-0.5, 0.5)),
        Just(Activation::Silu),
        Just(Activation::Gelu),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn products_match_f64_on_every_instruction_set(
        (m, k, n) in (0usize..30, 0usize..300, 0usize..100),
        extra_stride in 0usize..4,
        (bias, residual) in any::<(bool, bool)>(),
        activation in activations(),
    ) {
        let case = Case { m, k, n, extra_stride, bias, residual, activation };
        let smooth = activation.as_clamp().is_none();
        let mut first: Option<Vec<f32>> = None;
        for cpu in Cpu::tested() {
            let got = case.run(cpu, 1);
            case.check(&got);
            prop_assert_eq!(&case.run(cpu, 3), &got, "threads change bits");
            let comparable = !(smooth && cpu.isa() == Isa::Reference);
            if comparable {
                prop_assert_eq!(first.get_or_insert_with(|| got.clone()), &got);
            }
        }
        let portable = case.run_portable();
        case.check(&portable);
        if let Some(first) = first {
            prop_assert_eq!(portable, first);
        }
    }

    #[test]
    fn packing_is_undone_by_unpacking(k in 0usize..20, n in 0usize..50) {
        let b = test_data(k * n, 5);
        let data = packed(&b, MatrixLayout::k_by_n(k, n));
        let mut back = vec![0.0; k * n];
        unpack_b(PackedB::new(&data, k, n).unwrap(), &mut back);
        prop_assert_eq!(&back, &b);
        let transposed: Vec<f32> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
        prop_assert_eq!(packed(&transposed, MatrixLayout::n_by_k(k, n)), data);
    }

    #[test]
    fn batched_products_match_packed_ones(
        batch in 1usize..5, m in 0usize..9, k in 0usize..70, n in 1usize..40,
        transposed in any::<bool>(), repeat in any::<bool>(),
    ) {
        let a = test_data(batch * m * k, 1);
        let b = test_data(batch * k * n, 2);
        let layout =
            if transposed { MatrixLayout::n_by_k(k, n) } else { MatrixLayout::k_by_n(k, n) };
        let b_batch_stride = if repeat { 0 } else { k * n };
        let shape = MatMul { b: layout, b_batch_stride, ..MatMul::contiguous(batch, m, k, n) };
        for (cpu, threads) in Cpu::tested().flat_map(|cpu| [(cpu, 1), (cpu, 3)]) {
            let pool = Pool::new(threads).unwrap();
            let exec = Exec { cpu, pool: &pool };
            let mut got = vec![f32::NAN; batch * m * n];
            matmul(exec, &shape, &a, &b, None, Activation::None, &mut got);
            for i in 0..batch {
                let data = packed(&b[i * b_batch_stride..], layout);
                let right = PackedB::new(&data, k, n).unwrap();
                let left = RowsRef { data: &a[i * m * k..(i + 1) * m * k], stride: k };
                let mut expected = vec![f32::NAN; m * n];
                let out = RowsMut { data: &mut expected, stride: n };
                gemm(exec, m, left, right, &Epilogue::default(), out);
                prop_assert_eq!(&got[i * m * n..(i + 1) * m * n], &expected[..]);
            }
        }
    }
}

#[test]
fn large_depth_and_width_are_blocked_without_changing_bits() {
    let activation = Activation::Relu;
    let case =
        Case { m: 13, k: 3001, n: 533, extra_stride: 3, bias: true, residual: true, activation };
    let expected = case.run(Cpu::with_isa(Isa::Reference).unwrap(), 1);
    case.check(&expected);
    for cpu in Cpu::tested() {
        assert_eq!(case.run(cpu, 2), expected);
    }
    assert_eq!(case.run_portable(), expected);
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let (k, n) = (130, 70);
    let a = test_data(64 * k, 1);
    let data = packed(&test_data(k * n, 2), MatrixLayout::k_by_n(k, n));
    let pool = Pool::inline();
    for cpu in Cpu::tested() {
        let run = |rows: std::ops::Range<usize>| {
            let mut out = vec![0.0; rows.len() * n];
            let left = RowsRef { data: &a[rows.start * k..rows.end * k], stride: k };
            let right = PackedB::new(&data, k, n).unwrap();
            let epilogue = Epilogue { activation: Activation::Tanh, ..Epilogue::default() };
            let target = RowsMut { data: &mut out, stride: n };
            gemm(Exec { cpu, pool }, rows.len(), left, right, &epilogue, target);
            out
        };
        let all = run(0..64);
        for (start, end) in [(5, 6), (7, 9), (10, 13), (20, 24), (30, 41)] {
            assert_eq!(run(start..end), all[start * n..end * n]);
        }
    }
}
