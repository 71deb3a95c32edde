//! Permutations against the definition.

use proptest::prelude::*;

use super::*;
use crate::{Cpu, Pool};

fn check<T: Copy + Send + Sync + PartialEq + std::fmt::Debug>(
    dims: &[usize],
    perm: &[usize],
    make: impl Fn(usize) -> T,
) {
    let len: usize = dims.iter().product();
    let source: Vec<T> = (0..len).map(&make).collect();
    let out_dims: Vec<usize> = perm.iter().map(|&p| dims[p]).collect();
    let expected: Vec<T> = (0..len)
        .map(|mut index| {
            let mut at = vec![0; dims.len()];
            for (axis, &len) in out_dims.iter().enumerate().rev() {
                at[perm[axis]] = index % len;
                index /= len;
            }
            source[at.iter().zip(dims).fold(0, |offset, (i, len)| offset * len + i)]
        })
        .collect();
    for (cpu, threads) in Cpu::available().flat_map(|cpu| [(cpu, 1), (cpu, 3)]) {
        let pool = Pool::new(threads).unwrap();
        let mut out = vec![make(usize::MAX); len];
        permute(Exec { cpu, pool: &pool }, dims, perm, &source, &mut out);
        assert_eq!(out, expected, "{dims:?} by {perm:?} on {}", cpu.isa());
    }
}

fn shapes() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    prop::collection::vec(0usize..7, 0..6).prop_flat_map(|dims| {
        let axes: Vec<usize> = (0..dims.len()).collect();
        (Just(dims), Just(axes).prop_shuffle())
    })
}

proptest! {
    #[test]
    fn permutations_move_every_element((dims, perm) in shapes()) {
        check(&dims, &perm, |i| i as u8);
        check(&dims, &perm, |i| i as u32);
        check(&dims, &perm, |i| i as u64);
    }

    #[test]
    fn matrices_are_transposed(rows in 1usize..90, columns in 1usize..150) {
        check(&[rows, columns], &[1, 0], |i| i as u32);
        check(&[rows, columns], &[1, 0], |i| i as u16);
        check(&[2, rows, columns], &[0, 2, 1], |i| i as f32);
    }

    #[test]
    fn planes_are_zipped(planes in 2usize..5, columns in 1usize..9000) {
        check(&[planes, columns], &[1, 0], |i| i.wrapping_mul(7) as u8);
    }

    #[test]
    fn channels_are_shuffled(pixels in 1usize..9, groups in 1usize..10, channels in 1usize..80) {
        check(&[pixels, groups, channels], &[0, 2, 1], |i| i as u32);
        check(&[pixels, channels, groups], &[0, 2, 1], |i| i as u32);
    }
}
