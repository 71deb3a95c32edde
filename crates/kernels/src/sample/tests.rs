use super::*;
use crate::{Cpu, Exec, Pool, test_data};

fn taps(input: usize, outputs: &[&[(usize, f64)]]) -> Taps<f32> {
    let mut taps = Taps::new(input);
    outputs
        .iter()
        .for_each(|list| if list.is_empty() { taps.push_filled() } else { taps.push(list) });
    taps
}

#[test]
fn interpolation_is_the_sum_over_all_axes_at_once() {
    let rows: &[&[(usize, f64)]] = &[&[(0, 0.5), (2, 0.5)], &[(1, 2.0)], &[]];
    let columns: &[&[(usize, f64)]] =
        &[&[(3, 1.0)], &[(0, 0.25), (1, 0.5), (2, 0.25)], &[], &[(1, 1.0)]];
    let x = test_data(2 * 3 * 2 * 4 * 3, 1);
    for cpu in Cpu::available() {
        for run in [1usize, 3] {
            let x = &x[..48 * run];
            let axes = vec![taps(3, rows), Taps::identity(2), taps(4, columns)];
            let resize = Interpolation { planes: 2, axes, run };
            let mut out = vec![f32::NAN; 2 * 3 * 2 * 4 * run];
            interpolate(Exec { cpu, pool: Pool::inline() }, &resize, 9.0, x, &mut out);
            for (i, &got) in out.iter().enumerate() {
                let (r, c, m, o, p) =
                    (i % run, i / run % 4, i / run / 4 % 2, i / run / 8 % 3, i / run / 24);
                let at =
                    |y: usize, z: usize| f64::from(x[(((p * 3 + y) * 2 + m) * 4 + z) * run + r]);
                let mut want = 0.0;
                for &(y, a) in rows[o] {
                    want += columns[c].iter().map(|&(z, b)| a * b * at(y, z)).sum::<f64>();
                }
                if rows[o].is_empty() || columns[c].is_empty() {
                    want = 9.0;
                }
                assert!((f64::from(got) - want).abs() < 1e-6, "at {i}: {got}, expected {want}");
            }
        }
    }
}

#[test]
fn nearest_copies_runs_and_fills() {
    let exec = Exec { cpu: Cpu::detect(), pool: Pool::inline() };
    let x: Vec<u16> = (0..12).collect();
    let axes = [
        NearestAxis { input: 2, sources: vec![Some(1), None, Some(0)] },
        NearestAxis { input: 3, sources: vec![Some(2), Some(0), None] },
    ];
    let mut out = [0; 18];
    gather_nearest(exec, &axes, 2, 99, &x, &mut out);
    assert_eq!(out[..6], [10, 11, 6, 7, 99, 99]);
    assert_eq!(out[6..12], [99; 6]);
    assert_eq!(out[12..], [4, 5, 0, 1, 99, 99]);
}
