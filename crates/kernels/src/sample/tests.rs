//! Sampling against sums over the definition.

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

#[test]
fn grids_reach_the_border_by_their_padding() {
    let exec = Exec { cpu: Cpu::detect(), pool: Pool::inline() };
    let sample = |mode, padding, place: f32| {
        let grid = GridSample {
            batch: 1,
            channels: 1,
            input: [1, 1, 4],
            axes: 1,
            points: 1,
            mode,
            padding,
            align_corners: true,
        };
        let mut out = [0.0f32];
        grid_sample(exec, &grid, &[1.0f32, 2.0, 4.0, 8.0], &[place], &mut out);
        out[0]
    };
    let linear = |padding, place| sample(GridMode::Linear, padding, place);
    assert_eq!(linear(GridPadding::Zeros, -1.0), 1.0);
    assert!((linear(GridPadding::Zeros, 4.0 / 3.0) - 4.0).abs() < 1e-5);
    assert_eq!(linear(GridPadding::Border, 7.0), 8.0);
    assert!((linear(GridPadding::Reflection, 5.0 / 3.0) - 4.0).abs() < 1e-5);
    assert_eq!(linear(GridPadding::Border, f32::NAN).to_bits() & 0x7f80_0000, 0x7f80_0000);
    assert_eq!(sample(GridMode::Nearest, GridPadding::Zeros, f32::NAN), 0.0);
    assert_eq!(sample(GridMode::Nearest, GridPadding::Reflection, f32::INFINITY), 1.0);
}

#[test]
fn offsets_of_zero_are_a_convolution() {
    let exec = Exec { cpu: Cpu::detect(), pool: Pool::inline() };
    let [kernel, stride, dilation, pad] = [[3, 2], [2, 1], [1, 2], [1, 0]];
    let (input, output) = ([6, 7], [3, 5]);
    let conv = DeformableConv {
        batch: 2,
        channels: 4,
        out_channels: 6,
        groups: 2,
        offset_groups: 2,
        input,
        output,
        kernel,
        stride,
        dilation,
        pad,
    };
    let (x, w) = (test_data(2 * 4 * 42, 1), test_data(6 * 2 * 6, 2));
    let offsets = vec![0.0; 2 * 2 * 6 * 2 * 15];
    let operands = DeformableOperands { x: &x, w: &w, offsets: &offsets, bias: None, mask: None };
    let mut got = vec![0.0f32; 2 * 6 * 15];
    deformable_conv(exec, &conv, &operands, &mut got);
    let lift = |first: usize, [a, b]: [usize; 2]| [first, a, b];
    let window = crate::generic::Window3d {
        input: lift(1, input),
        output: lift(1, output),
        kernel: lift(1, kernel),
        stride: lift(1, stride),
        dilation: lift(1, dilation),
        pad: lift(0, pad),
    };
    let twin = crate::generic::DirectConv {
        batch: 2,
        channels: 4,
        out_channels: 6,
        groups: 2,
        window,
        channels_last: false,
    };
    let mut want = vec![0.0f32; got.len()];
    crate::generic::direct_conv(exec, &twin, &x, &w, &mut want);
    assert!(got.iter().zip(&want).all(|(g, w)| (g - w).abs() < 1e-5));
}
