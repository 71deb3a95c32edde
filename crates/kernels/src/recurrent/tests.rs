//! Vector cells against plain ones.

use super::*;
use crate::{Cpu, Exec, MatrixLayout, PackedB, Pool, pack_b, packed_b_len, test_data};

const STEPS: usize = 4;
const BATCH: usize = 3;
const HIDDEN: usize = 11;

fn layer(kind: CellKind, reverse: bool) -> Recurrent {
    let functions = [GateFn::Sigmoid, GateFn::Tanh, GateFn::ScaledTanh(0.9, 1.1)];
    let clip = Some(0.8);
    Recurrent { kind, steps: STEPS, batch: BATCH, hidden: HIDDEN, batch_first: false, reverse, clip, functions }
}

fn packed(weights: &[f32], gates: usize) -> Vec<f32> {
    let mut out = vec![0.0; packed_b_len(HIDDEN, gates * HIDDEN)];
    pack_b(weights, MatrixLayout::n_by_k(HIDDEN, gates * HIDDEN), &mut out);
    out
}

/// Every state emitted, in order, then the last ones.
fn run<A: Arithmetic>(layer: &Recurrent, math: &A, lengths: &[i32]) -> Vec<f64> {
    let width = layer.kind.gates() * HIDDEN;
    let numbers = |len, seed| -> Vec<A::Number> {
        test_data(len, seed).iter().map(|&x| A::Number::of(x.into())).collect()
    };
    use crate::elementwise::Wide;
    let projected = numbers(STEPS * BATCH * width, 5);
    let (bias, peepholes) = (numbers(HIDDEN, 6), numbers(3 * HIDDEN, 7));
    let mut hidden = numbers(BATCH * HIDDEN, 8);
    let mut cell = numbers(BATCH * HIDDEN, 9);
    let mut gates = numbers(BATCH * width, 10);
    let mut seen = Vec::new();
    let mut state = State { hidden: &mut hidden, cell: &mut cell, gates: &mut gates };
    run_cells(
        layer, math, &projected, Some(&bias), Some(&peepholes), Some(lengths), &mut state,
        &mut |step, row, state| {
            seen.extend([step as f64, row as f64, f64::from(u8::from(state.is_some()))]);
            seen.extend(state.into_iter().flatten().map(|x| x.to_f64()));
        },
    );
    seen.extend(hidden.iter().map(|x| x.to_f64()));
    seen
}

#[test]
fn vector_cells_agree_with_plain_ones() {
    let kinds = [
        CellKind::Plain,
        CellKind::Gru { linear_before_reset: false },
        CellKind::Gru { linear_before_reset: true },
        CellKind::Lstm { input_forget: false },
        CellKind::Lstm { input_forget: true },
    ];
    for (kind, reverse) in kinds.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let parts = kind.parts();
        let weights = parts.map(|gates| test_data(gates * HIDDEN * HIDDEN, gates as u64));
        let wide = [&weights[0], &weights[1]]
            .map(|w| w.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>());
        let direct = Direct { hidden: HIDDEN, weights: [&wide[0], &wide[1]] };
        let layer = layer(kind, reverse);
        let want = run(&layer, &direct, &[4, 0, 2]);
        let panels = [packed(&weights[0], parts[0]), packed(&weights[1], parts[1])];
        for cpu in Cpu::available() {
            let exec = Exec { cpu, pool: Pool::inline() };
            let view = |i: usize| PackedB::new(&panels[i], HIDDEN, parts[i] * HIDDEN).unwrap();
            let fast = Fast { exec, batch: BATCH, weights: [view(0), view(1)] };
            let got = run(&layer, &fast, &[4, 0, 2]);
            assert_eq!(got.len(), want.len());
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() < 1e-5, "{kind:?}: {got} is not {want}");
            }
        }
    }
}

#[test]
fn a_sequence_that_has_ended_keeps_its_state() {
    let layer = layer(CellKind::Plain, false);
    let weights = vec![0.5; HIDDEN * HIDDEN];
    let direct = Direct { hidden: HIDDEN, weights: [&weights, &[]] };
    let last = |lengths: &[i32]| run(&layer, &direct, lengths)[STEPS * BATCH * 3..].to_vec();
    let none = last(&[0, 0, 0]);
    let initial: Vec<f64> = test_data(BATCH * HIDDEN, 8).into_iter().map(f64::from).collect();
    assert_eq!(none, initial);
}
