//! Reductions against folds over one index at a time.

use landfall_tensor::row_major_strides;
use proptest::prelude::*;

use super::*;
use crate::{Cpu, Pool, test_data};

/// The elements of every result, in order.
fn groups(dims: &[usize], reduced: &[bool], input: &[f32]) -> Vec<Vec<f64>> {
    let kept: Vec<usize> = dims.iter().zip(reduced).map(|(&d, &r)| if r { 1 } else { d }).collect();
    let (strides, steps) = (row_major_strides(dims), row_major_strides(&kept));
    let mut groups = vec![Vec::new(); kept.iter().product()];
    for (flat, &x) in input.iter().enumerate() {
        let place = |axis: usize| flat / strides[axis] % dims[axis];
        let at = (0..dims.len()).filter(|&axis| !reduced[axis]);
        groups[at.map(|axis| place(axis) * steps[axis]).sum::<usize>()].push(f64::from(x));
    }
    groups
}

fn twin(kind: ReduceKind, xs: &[f64]) -> f64 {
    let sum: f64 = xs.iter().sum();
    let squares: f64 = xs.iter().map(|x| x * x).sum();
    match kind {
        ReduceKind::L1 => xs.iter().map(|x| x.abs()).sum(),
        ReduceKind::L2 => squares.sqrt(),
        ReduceKind::LogSum => sum.ln(),
        ReduceKind::LogSumExp => xs.iter().map(|x| x.exp()).sum::<f64>().ln(),
        ReduceKind::Max => xs.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ReduceKind::Mean => sum / xs.len() as f64,
        ReduceKind::Min => xs.iter().copied().fold(f64::INFINITY, f64::min),
        ReduceKind::Product => xs.iter().product(),
        ReduceKind::Sum => sum,
        ReduceKind::SumSquare => squares,
    }
}

const KINDS: [ReduceKind; 10] = [
    ReduceKind::L1,
    ReduceKind::L2,
    ReduceKind::LogSum,
    ReduceKind::LogSumExp,
    ReduceKind::Max,
    ReduceKind::Mean,
    ReduceKind::Min,
    ReduceKind::Product,
    ReduceKind::Sum,
    ReduceKind::SumSquare,
];

proptest! {
    #[test]
    fn every_kind_over_any_axes(
        axes in prop::collection::vec(
            (prop_oneof![0usize..4, Just(70), Just(300)], any::<bool>()),
            0..4,
        ),
        kind in prop::sample::select(&KINDS[..]),
        seed in any::<u64>(),
    ) {
        let (dims, reduced): (Vec<usize>, Vec<bool>) = axes.into_iter().unzip();
        prop_assume!(dims.iter().product::<usize>() <= 1 << 16);
        // Positive, so that no sum cancels and every logarithm exists.
        let input: Vec<f32> = test_data(dims.iter().product(), seed)
            .iter().map(|x| x.abs() + 0.5).collect();
        let layout = ReduceLayout::new(&dims, &reduced);
        let expected = groups(&dims, &reduced, &input);
        let pool = Pool::new(2).unwrap();
        for cpu in Cpu::available() {
            let mut out = vec![0.0f32; expected.len()];
            reduce(Exec { cpu, pool: &pool }, kind, &layout, &input, &mut out);
            for (&got, xs) in out.iter().zip(&expected) {
                let want = twin(kind, xs) as f32;
                let same = got == want || (got.is_nan() && want.is_nan());
                prop_assert!(same || (got - want).abs() <= 1e-4 * want.abs(), "{} {}", got, want);
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_threads(width in 1usize..400, rows in 1usize..400) {
        let input = test_data(3 * rows * width, 7);
        for flags in [[false, true, false], [true, false, true]] {
            let layout = ReduceLayout::new(&[3, rows, width], &flags);
            let run = |threads| {
                let pool = Pool::new(threads).unwrap();
                let mut out = vec![0.0f32; layout.results];
                let exec = Exec { cpu: Cpu::detect(), pool: &pool };
                reduce(exec, ReduceKind::Sum, &layout, &input, &mut out);
                out
            };
            prop_assert_eq!(run(1), run(3));
        }
    }

    #[test]
    fn extremes_are_found_as_one_by_one(
        outer in 1usize..3, len in 1usize..90, step in prop_oneof![1usize..4, Just(130)],
        largest in any::<bool>(), last in any::<bool>(), seed in any::<u64>(),
    ) {
        // Few distinct values, so that there are ties.
        let input: Vec<i32> =
            test_data(outer * len * step, seed).iter().map(|x| (x * 4.0) as i32).collect();
        let mut out = vec![-1; outer * step];
        let exec = Exec { cpu: Cpu::detect(), pool: Pool::inline() };
        arg_extreme(exec, ArgExtreme { len, step, largest, last }, &input, &mut out);
        for (i, &got) in out.iter().enumerate() {
            let at = |k: usize| input[i / step * len * step + k * step + i % step];
            let key = |k: usize| if largest { -at(k) } else { at(k) };
            let order = |k: usize| if last { len - k } else { k };
            prop_assert_eq!(Some(got as usize), (0..len).min_by_key(|&k| (key(k), order(k))));
        }
    }
}

#[test]
fn nan_is_never_lost() {
    for cpu in Cpu::available() {
        let exec = Exec { cpu, pool: Pool::inline() };
        for at in [0, 1, 31, 64, 99] {
            let mut row = [1.0f32; 100];
            row[at] = f32::NAN;
            for (dims, flags) in [([100, 1], [true, false]), ([50, 2], [true, false])] {
                let layout = ReduceLayout::new(&dims, &flags);
                for kind in [ReduceKind::Max, ReduceKind::Min, ReduceKind::LogSumExp] {
                    let mut out = vec![0.0; layout.results];
                    reduce(exec, kind, &layout, &row, &mut out);
                    assert!(out[at % dims[1]].is_nan(), "{kind:?} {at}");
                }
            }
            for step in [1, 2] {
                let mut out = vec![0; step];
                let kind = ArgExtreme { len: 100 / step, step, largest: at > 50, last: false };
                arg_extreme(exec, kind, &row, &mut out);
                assert_eq!(out[at % step] as usize, at / step);
            }
        }
    }
}

#[test]
fn log_sum_exp_of_extremes() {
    let exec = Exec { cpu: Cpu::detect(), pool: Pool::inline() };
    let layout = ReduceLayout::new(&[2], &[true]);
    let of = |row: [f32; 2]| {
        let mut out = [0.0];
        reduce(exec, ReduceKind::LogSumExp, &layout, &row, &mut out);
        out[0]
    };
    let low = f32::NEG_INFINITY;
    assert_eq!(of([low, low]), low);
    assert_eq!(of([f32::INFINITY, 0.0]), f32::INFINITY);
    assert_eq!(of([1000.0, low]), 1000.0);
}

#[test]
fn long_sums_stay_accurate() {
    let exec = Exec { cpu: Cpu::detect(), pool: Pool::inline() };
    let ones = vec![0.1f32; 1 << 22];
    for dims in [[1 << 22, 1], [1 << 21, 2], [1 << 15, 128]] {
        let layout = ReduceLayout::new(&dims, &[true, false]);
        let mut out = vec![0.0; dims[1]];
        reduce(exec, ReduceKind::Mean, &layout, &ones, &mut out);
        assert!(out.iter().all(|x| (x - 0.1).abs() < 1e-6), "{dims:?}: {}", out[0]);
    }
}

#[test]
fn scans_run_either_way() {
    let exec = Exec { cpu: Cpu::detect(), pool: Pool::inline() };
    let of = |product, exclusive, reverse| {
        let mut out = [0i32; 6];
        let kind = Scan { len: 3, step: 2, product, exclusive, reverse };
        scan(exec, kind, &[1, 2, 3, 4, 5, 6], &mut out);
        out
    };
    assert_eq!(of(false, false, false), [1, 2, 4, 6, 9, 12]);
    assert_eq!(of(false, true, true), [8, 10, 5, 6, 0, 0]);
    assert_eq!(of(true, true, false), [1, 1, 1, 2, 3, 8]);
}
