//! Every instruction set and number of threads against the direct loops.

use proptest::prelude::*;

use super::*;
use crate::{Cpu, Exec, Pool, test_data};

fn compare(a: &Attention<'_>, mask: Option<AttentionMask<'_, f32>>) {
    let q = test_data(a.q.elements(a.batch), 1);
    let k = test_data(a.k.elements(a.batch), 2);
    let v = test_data(a.v.elements(a.batch), 3);
    let mut want = vec![0.0; a.out.elements(a.batch)];
    attention_direct(a, mask, &q, &k, &v, &mut want, None);
    let pool = Pool::new(3).unwrap();
    for cpu in Cpu::available() {
        let mut one = vec![7.0; want.len()];
        let mut three = one.clone();
        for (pool, out) in [(Pool::inline(), &mut one), (&pool, &mut three)] {
            let len = attention_scratch_len(cpu, pool.threads(), a.queries, a.keys);
            let mut scratch = vec![f32::NAN; len];
            attention(Exec { cpu, pool }, a, mask, &q, &k, &v, out, &mut scratch);
        }
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&one), bits(&three), "threads change the result");
        for (got, want) in one.iter().zip(&want) {
            let close = (got - want).abs() <= 1e-5 || got.is_nan() && want.is_nan();
            assert!(close, "{got} is not {want} on {:?}", cpu.isa());
        }
    }
}

fn shape(extents: [usize; 5], columns: usize, interleaved: bool) -> Attention<'static> {
    let [batch, kv_heads, group, queries, keys] = extents;
    let heads = kv_heads * group;
    let lay = if interleaved { HeadLayout::rows_first } else { HeadLayout::heads_first };
    Attention {
        batch,
        heads,
        kv_heads,
        queries,
        keys,
        q: lay(heads, queries, 9),
        k: lay(kv_heads, keys, 9),
        v: lay(kv_heads, keys, columns),
        out: lay(heads, queries, columns),
        scale: 0.4,
        softcap: 0.0,
        window: None,
        zero_if_blind: true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn tiles_agree_with_direct_loops(
        extents in [1usize..3, 1usize..3, 1usize..3, 1usize..30, 1usize..40],
        columns in 1usize..20,
        interleaved: bool,
        softcap in prop::sample::select(vec![0.0f32, 1.5]),
        window in prop::option::of((prop::option::of(0i64..9), prop::option::of(0i64..9), -4i64..9)),
        broadcast in [any::<bool>(), any::<bool>(), any::<bool>()],
        additive: bool,
        covered in 1usize..60,
    ) {
        let [batch, kv_heads, group, queries, keys] = extents;
        let ranges: Vec<KeyRange> =
            (0..batch).map(|b| KeyRange { offset: window.map_or(0, |w| w.2), valid: keys - b % keys }).collect();
        let window = window.map(|(left, right, _)| Window { left, right, keys: &ranges });
        let a = Attention { softcap, window, ..shape(extents, columns, interleaved) };
        let mut strides = [kv_heads * group * queries * keys, queries * keys, keys, 1];
        broadcast.iter().zip(&mut strides).for_each(|(&repeat, s)| if repeat { *s = 0 });
        let noise = test_data(batch * kv_heads * group * queries * keys, 4);
        let add: Vec<f32> =
            noise.iter().map(|&x| if x > 0.5 { f32::NEG_INFINITY } else { x }).collect();
        let keep: Vec<u8> = noise.iter().map(|&x| u8::from(x < 0.5)).collect();
        let values = if additive { MaskValues::Add(&add[..]) } else { MaskValues::Keep(&keep) };
        compare(&a, Some(AttentionMask { values, strides, keys: covered.min(keys) }));
        compare(&a, None);
    }
}

#[test]
fn long_sequences_take_several_tiles() {
    let a = shape([1, 1, 1, 300, 700], 8, true);
    assert!(a.queries > super::fused::attention_scratch_len(Cpu::detect(), 1, 300, 700) / 700);
    compare(&a, None);
}

#[test]
fn no_keys_give_zeros() {
    for zero_if_blind in [true, false] {
        let a = Attention { zero_if_blind, ..shape([1, 1, 1, 2, 0], 3, true) };
        compare(&a, None);
    }
}
