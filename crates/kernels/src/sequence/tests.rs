//! Properties that tie calls together: a sequence cut in two gives what it gives whole.

use super::*;
use crate::{Cpu, Exec, Pool, test_data};

fn exec() -> Exec<'static> {
    Exec { cpu: Cpu::detect(), pool: Pool::inline() }
}

#[test]
fn a_rotation_keeps_lengths_and_its_inverse_undoes_it() {
    let shape = Rotary {
        heads: 2, tokens: 3, columns: 6, rotated: 4, interleaved: true, heads_first: true,
    };
    let x = test_data(36, 1);
    let angles = test_data(6, 2);
    let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
    let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
    let back: Vec<f32> = sin.iter().map(|s| -s).collect();
    let (mut turned, mut undone) = (vec![0.0; 36], vec![0.0; 36]);
    rotary(exec(), &shape, &x, (&cos, &sin), None, &mut turned);
    assert_ne!(turned, x);
    rotary(exec(), &shape, &turned, (&cos, &back), None, &mut undone);
    assert!(undone.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn linear_attention_continues_from_its_state() {
    let rule = UpdateRule { gated: true, delta: true };
    let shape = |tokens| LinearAttention {
        batch: 1, tokens, heads: 4, kv_heads: 2, depth: 3, columns: 5, decays: 3, rates: 2, rule,
        scale: 0.5,
    };
    let (q, k, v) = (test_data(6 * 12, 1), test_data(6 * 6, 2), test_data(6 * 10, 3));
    let (decay, beta) = (test_data(6 * 6, 4), test_data(6 * 2, 5));
    let (mut state, mut whole) = (vec![0.0; 30], vec![0.0; 6 * 20]);
    linear_attention(exec(), &shape(6), [&q, &k, &v], &decay, &beta, &mut state, &mut whole);
    let (mut again, mut parts) = (vec![0.0; 30], vec![0.0; 6 * 20]);
    for t in 0..2 {
        let cut = |x: &'_ [f32]| (t * x.len() / 2)..((t + 1) * x.len() / 2);
        let range = cut(&parts);
        linear_attention(
            exec(), &shape(3), [&q[cut(&q)], &k[cut(&k)], &v[cut(&v)]], &decay[cut(&decay)],
            &beta[cut(&beta)], &mut again, &mut parts[range],
        );
    }
    assert_eq!((whole, state), (parts, again));
}

#[test]
fn a_convolution_sees_only_the_past() {
    let conv = CausalConv { channels: 1, length: 4, taps: 3, silu: false };
    let mut out = [0.0f32; 4];
    causal_conv(exec(), &conv, &[1.0, 0.0, 0.0, 0.0], &[4.0, 2.0, 1.0], None, None, &mut out);
    assert_eq!(out, [1.0, 2.0, 4.0, 0.0]);
    causal_conv(exec(), &conv, &[0.0; 4], &[4.0, 2.0, 1.0], Some(&[0.5]), Some(&[1.0, 10.0]), &mut out);
    assert_eq!(out, [24.5, 40.5, 0.5, 0.5]);
}
