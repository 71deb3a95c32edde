//! Normalisations against their formulas.

use super::*;
use crate::{Cpu, Exec, Pool, test_data};

fn exec() -> Exec<'static> {
    Exec { cpu: Cpu::detect(), pool: Pool::inline() }
}

fn close(got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(g) - w).abs() <= 1e-5 * (1.0 + w.abs()), "at {i}: {g}, expected {w}");
    }
}

#[test]
fn group_norm_is_the_formula_with_the_scale_of_each_channel() {
    let planes = Planes { batch: 2, channels: 6, pixels: 19 };
    let (scale, bias) = (test_data(6, 1), test_data(6, 2));
    let x: Vec<f32> = test_data(228, 3).iter().map(|x| x + 30.0).collect();
    for groups in [1, 2, 6] {
        let norm = GroupNorm { planes, groups, epsilon: 1e-3 };
        let mut out = vec![0.0; x.len()];
        group_normalize(exec(), &norm, [&scale, &bias], &x, &mut out);
        let len = 6 / groups * 19;
        let want: Vec<f64> = (0..x.len())
            .map(|i| {
                let row = &x[i / len * len..][..len];
                let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / len as f64;
                let square = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>();
                let c = i / 19 % 6;
                (f64::from(x[i]) - mean) / (square / len as f64 + 1e-3).sqrt() * f64::from(scale[c])
                    + f64::from(bias[c])
            })
            .collect();
        close(&out, &want);
    }
}

#[test]
fn local_response_sums_one_channel_more_after_for_even_sizes() {
    let planes = Planes { batch: 2, channels: 5, pixels: 300 };
    let x = test_data(3000, 4);
    for (size, beta) in [(1, 0.75), (4, 0.75), (5, 0.5), (usize::MAX, 0.75)] {
        let norm = LocalResponse { planes, size, alpha: 0.5, beta, bias: 1.5 };
        let mut out = vec![0.0; x.len()];
        local_response(exec(), &norm, &x, &mut out);
        let want: Vec<f64> = (0..x.len())
            .map(|i| {
                let (n, c, p) = (i / 1500, i / 300 % 5, i % 300);
                let energy: f64 = (0..5)
                    .filter(|&k| k + (size - 1) / 2 >= c && k <= c.saturating_add(size / 2))
                    .map(|k| f64::from(x[n * 1500 + k * 300 + p]).powi(2))
                    .sum();
                f64::from(x[i]) / (1.5 + 0.5 / size as f64 * energy).powf(f64::from(beta))
            })
            .collect();
        close(&out, &want);
    }
}

#[test]
fn channel_maps_agree_for_pixels_and_for_rows_of_channels() {
    let lists = [test_data(7, 1), test_data(7, 2), test_data(7, 3)];
    let lists = [&lists[0][..], &lists[1], &lists[2]];
    let x = test_data(3 * 7 * 5, 4);
    let planes = Planes { batch: 3, channels: 7, pixels: 5 };
    let mut out = vec![0.0; x.len()];
    affine_channels(exec(), &planes, lists, &x, &mut out);
    let flipped = |x: &[f32]| -> Vec<f32> {
        (0..105).map(|i| x[(i / 35 * 7 + i % 7) * 5 + i % 35 / 7]).collect()
    };
    let rows = Planes { batch: 15, channels: 7, pixels: 1 };
    let mut last = vec![0.0; x.len()];
    affine_channels(exec(), &rows, lists, &flipped(&x), &mut last);
    assert_eq!(last, flipped(&out));
    let c = 3;
    assert_eq!(out[c * 5], (x[c * 5] - lists[0][c]) * lists[1][c] + lists[2][c]);
}

#[test]
fn lines_cover_every_element_once_along_any_axes() {
    let x = test_data(2 * 3 * 4, 5);
    for mask in 0..8u32 {
        let along: Vec<bool> = (0..3).map(|axis| (mask >> axis) & 1 == 1).collect();
        let lines = Lines::along(&[2, 3, 4], &along);
        let mut all: Vec<usize> =
            lines.starts.iter().flat_map(|s| lines.steps.iter().map(move |t| s + t)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..24).collect::<Vec<_>>());
        let mut out = vec![0.0; 24];
        normalize_lines(exec(), LineNorm::L2, &lines, &x, &mut out);
        let energy: f32 = lines.steps.iter().map(|&step| out[step] * out[step]).sum();
        assert!((energy - 1.0).abs() < 1e-6);
    }
    let lines = Lines::along(&[4], &[true]);
    let mut out = [1.0f32; 4];
    normalize_lines(exec(), LineNorm::L1, &lines, &[0.0; 4], &mut out);
    assert_eq!(out, [0.0; 4]);
}
