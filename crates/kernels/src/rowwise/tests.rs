//! Row kernels on every instruction set, and on emulated 16 lanes, against their scalar twins.

use proptest::prelude::*;

use super::*;
use crate::simd::{Portable, Simd};
use crate::{Cpu, Exec, Isa, Pool, test_data};

fn close(got: &[f32], expected: &[f32], tolerance: f32) -> Result<(), TestCaseError> {
    for (i, (y, e)) in got.iter().zip(expected).enumerate() {
        let same =
            (y - e).abs() <= tolerance * (1.0 + e.abs()) || y == e || y.is_nan() && e.is_nan();
        prop_assert!(same, "element {i} is {y}, expected {e}");
    }
    Ok(())
}

/// Runs `run` on each instruction set and `kernel` on emulated lanes, and compares with the first.
fn agree<K: RowKernel>(
    kernel: &K,
    data: &[f32],
    len: usize,
    run: impl Fn(Exec<'_>, &mut [f32]),
) -> Result<(), TestCaseError> {
    let mut expected = data.to_vec();
    let cpu = Cpu::with_isa(Isa::Reference).unwrap();
    run(Exec { cpu, pool: Pool::inline() }, &mut expected);
    for cpu in Cpu::available() {
        let mut got = data.to_vec();
        run(Exec { cpu, pool: Pool::inline() }, &mut got);
        close(&got, &expected, 2e-6)?;
        let pool = Pool::new(3).unwrap();
        let mut threaded = data.to_vec();
        run(Exec { cpu, pool: &pool }, &mut threaded);
        prop_assert!(got.iter().zip(&threaded).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
    let mut got = data.to_vec();
    Portable.run(EachRow { kernel, first: 0, rows: &mut got, len });
    close(&got, &expected, 2e-6)
}

proptest! {
    #[test]
    fn softmax_matches_its_twin(
        rows in 0usize..7, len in 1usize..70, log: bool, masked: bool, repeat in 1usize..3,
        size in prop_oneof![Just(1.0f32), Just(60.0)],
    ) {
        let data: Vec<f32> = test_data(rows * len, 1).iter().map(|x| x * size).collect();
        let mut mask = test_data(2 * len, 2);
        for (i, x) in mask.iter_mut().enumerate() {
            if i % len != 0 && i % 3 == 0 {
                *x = f32::NEG_INFINITY;
            }
        }
        let mask = masked.then_some(Mask { data: &mask, rows: 2, repeat, period: 1 });
        let kind = Softmax { scale: 0.7, mask, log };
        agree(&kind, &data, len, |exec, data| softmax(exec, &kind, len, data))?;
    }

    #[test]
    fn normalisation_matches_its_twin(
        rows in 0usize..7, len in 1usize..70, rms: bool,
        (scaled, biased, added) in any::<(bool, bool, bool)>(),
    ) {
        let data = test_data(rows * len, 1);
        let (scale, bias) = (test_data(len, 2), test_data(len, 3));
        let residual = test_data(rows * len, 4);
        let norm = Normalize {
            kind: if rms { NormKind::RootMeanSquare } else { NormKind::Layer },
            epsilon: 1e-5,
            scale: scaled.then_some(&scale),
            bias: biased.then_some(&bias),
            residual: added.then_some(&residual),
        };
        // A row of nearly equal values divides by a variance of nearly nothing.
        prop_assume!(len > 3);
        agree(&norm, &data, len, |exec, data| normalize(exec, &norm, len, data))?;
    }
}

#[test]
fn softmax_of_extremes_is_safe() {
    for cpu in Cpu::available() {
        let exec = Exec { cpu, pool: Pool::inline() };
        let mut row = [-1e30, -2e30, -3e38, f32::NEG_INFINITY, -1e30];
        softmax(exec, &Softmax::default(), 5, &mut row);
        assert_eq!(row, [0.5, 0.0, 0.0, 0.0, 0.5], "{}", cpu.isa());
        let mut excluded = [f32::NEG_INFINITY; 3];
        softmax(exec, &Softmax::default(), 3, &mut excluded);
        assert!(excluded.iter().all(|x| x.is_nan()), "{}", cpu.isa());
    }
}

#[test]
fn variance_survives_a_large_mean() {
    for cpu in Cpu::available() {
        let mut row: Vec<f32> = (0..64).map(|i| 4096.0 + (i % 2) as f32).collect();
        let norm = Normalize {
            kind: NormKind::Layer,
            epsilon: 0.0,
            scale: None,
            bias: None,
            residual: None,
        };
        normalize(Exec { cpu, pool: Pool::inline() }, &norm, 64, &mut row);
        assert!(row.iter().all(|x| (x.abs() - 1.0).abs() < 1e-5), "{}", cpu.isa());
    }
}

#[test]
fn masks_broadcast_over_heads() {
    // [batch 2, heads 3, queries 2, keys 2], mask [batch, 1, queries, keys].
    let mask: Vec<f32> = (0..8).map(|i| i as f32 * 0.3).collect();
    let kind = Softmax {
        mask: Some(Mask { data: &mask, rows: 4, repeat: 6, period: 2 }),
        ..Softmax::default()
    };
    for cpu in Cpu::available() {
        let mut scores = [0.0; 24];
        softmax(Exec { cpu, pool: Pool::inline() }, &kind, 2, &mut scores);
        for row in 0..12 {
            let from = (row / 6 * 2 + row % 2) * 2;
            let expected = 1.0 / (1.0 + (mask[from + 1] - mask[from]).exp());
            assert!((scores[row * 2] - expected).abs() < 1e-6);
        }
    }
}
