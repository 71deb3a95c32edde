//! Gather and scatter against one element at a time.

use landfall_tensor::row_major_strides;
use proptest::prelude::*;

use super::*;
use crate::{Cpu, Exec, Pool, test_data};

fn exec() -> Exec<'static> {
    Exec { cpu: Cpu::detect(), pool: Pool::inline() }
}

/// Coordinates of a flat position.
fn place(dims: &[usize], flat: usize) -> Vec<usize> {
    row_major_strides(dims).iter().zip(dims).map(|(&s, &d)| flat / s % d).collect()
}

fn flat(dims: &[usize], at: &[usize]) -> usize {
    row_major_strides(dims).iter().zip(at).map(|(s, c)| s * c).sum()
}

proptest! {
    #[test]
    fn elements_are_gathered_and_scattered_by_coordinates(
        dims in prop::collection::vec((1usize..5, 1usize..5), 1..4),
        along in any::<prop::sample::Index>(),
        picks in prop::collection::vec(any::<u32>(), 64),
    ) {
        let data_dims: Vec<usize> = dims.iter().map(|d| d.0.max(d.1)).collect();
        let index_dims: Vec<usize> = dims.iter().map(|d| d.1).collect();
        let axis = along.index(dims.len());
        let extent = data_dims[axis];
        let count: usize = index_dims.iter().product();
        let indices: Vec<i64> = (0..count)
            .map(|i| i64::from(picks[i % 64].rotate_left(i as u32)) % (2 * extent as i64) - extent as i64)
            .collect();
        let map = ElementMap::new(&data_dims, &index_dims, axis).unwrap();
        map.check(&indices).unwrap();
        let data: Vec<u32> = (0..data_dims.iter().product::<usize>() as u32).collect();
        let mut out = vec![0; count];
        gather_elements(exec(), &map, &data, &indices, &mut out);
        let mut sums = vec![0.0f32; data.len()];
        let ones = vec![1.0f32; count];
        scatter_elements(&map, &indices, &ones, &mut sums, Combine::Add.function());
        for (i, &got) in out.iter().enumerate() {
            let mut at = place(&index_dims, i);
            at[axis] = indices[i].rem_euclid(extent as i64) as usize;
            let from = flat(&data_dims, &at);
            prop_assert_eq!(got as usize, from);
            sums[from] -= 1.0;
        }
        prop_assert!(sums.iter().all(|&left| left == 0.0));
    }

    #[test]
    fn top_k_is_the_head_of_a_stable_sort(
        outer in 1usize..3, len in 1usize..120, step in 1usize..4,
        share in any::<prop::sample::Index>(), largest in any::<bool>(), seed in any::<u64>(),
    ) {
        let k = share.index(len) + 1;
        let input: Vec<f32> = test_data(outer * len * step, seed).iter()
            .map(|x| if *x > 0.9 { f32::NAN } else { (x * 20.0).round() }).collect();
        let (mut values, mut indices) = (vec![0.0; outer * k * step], vec![0; outer * k * step]);
        top_k(exec(), TopK { len, step, k, largest }, &input, &mut values, &mut indices);
        for column in 0..outer * step {
            let (o, s) = (column / step, column % step);
            let at = |i: usize| input[(o * len + i) * step + s];
            let key = |i: usize| if at(i).is_nan() { 1000 } else { at(i) as i32 };
            let mut sorted: Vec<usize> = (0..len).collect();
            sorted.sort_by_key(|&i| if largest { -key(i) } else { key(i) });
            for (i, &want) in sorted.iter().take(k).enumerate() {
                let found = (o * k + i) * step + s;
                prop_assert_eq!(indices[found] as usize, want);
                prop_assert!(values[found] == at(want) || at(want).is_nan());
            }
        }
    }
}

#[test]
fn maps_refuse_what_does_not_fit() {
    assert!(ElementMap::new(&[2, 3], &[3, 1], 1).is_none());
    assert!(ElementMap::new(&[2, 3], &[2], 0).is_none());
    assert!(TupleMap::new(&[2, 3], 1, 2).is_none());
    let map = TupleMap::new(&[2, 3], 0, 2).unwrap();
    let bad = OutOfRange { index: -4, axis: 1, extent: 3 };
    assert_eq!(map.check(&[0i64, 0, 1, -4]), Err(bad));
    assert_eq!(map.check(&[-2i32, 2]), Ok(()));
    assert!(i64::MIN.resolve(3).is_none() && i32::MAX.resolve(3).is_none());
}

#[test]
fn tuples_name_blocks_within_their_batch() {
    let data: Vec<u32> = (0..12).collect();
    let map = TupleMap::new(&[2, 3, 2], 1, 1).unwrap();
    let mut out = [0; 4];
    gather_tuples(exec(), &map, &data, &[-1i64, 0], &mut out);
    assert_eq!(out, [4, 5, 6, 7]);
    let whole = TupleMap::new(&[2], 0, 0).unwrap();
    let mut out = [1.0f32, 2.0];
    scatter_tuples::<_, i64>(&whole, &[], &[3.0, 4.0], &mut out, Combine::Multiply.function());
    assert_eq!(out, [3.0, 8.0]);
}

#[test]
fn distinct_slices_keep_their_first() {
    let slices = Slices { outer: 1, len: 5, step: 1 };
    let data = [2.0f32, f32::NAN, 1.0, f32::NAN, 2.0];
    let sorted = distinct(slices, true, &data, total_order);
    assert_eq!(sorted.first, [2, 0, 1]);
    assert_eq!(sorted.kind, [1, 2, 0, 2, 1]);
    assert_eq!(sorted.count, [1, 2, 2]);
    assert_eq!(distinct(slices, false, &data, total_order).first, [0, 1, 2]);
}

#[test]
fn caches_wrap_around() {
    let mut cache = ["."; 4];
    let kind = CacheWrite { rows: 1, capacity: 4, new: 3, len: 1 };
    write_cache(kind, &[2], &["a", "b", "c"], &mut cache);
    assert_eq!(cache, ["c", ".", "a", "b"]);
}
