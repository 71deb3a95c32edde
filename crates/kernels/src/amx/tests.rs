//! Blocks of every shape against loops over their bytes.

use super::*;
use crate::test_data;

/// Rows of the left operand, which is read at a distance that its rows do not fill.
const LEFT_STRIDE: usize = 5 * TILE_BYTES + 4;

fn amx() -> Option<Amx> {
    Cpu::tested().find_map(Amx::prove)
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    test_data(len, seed).iter().map(|x| (x * 128.0 + 128.0) as u8).collect()
}

/// The sums of a block of `rows` rows and `columns` tiles of columns over stretches of some tiles.
fn run(tiles: &mut Tiles, rows: usize, columns: usize, stretches: &[usize]) {
    let depth: usize = stretches.iter().sum();
    let left = bytes(rows * LEFT_STRIDE, rows as u64);
    let right = bytes(2 * depth * TILE_ROWS * TILE_BYTES, 7);
    let from: Vec<i32> = (0..32 * 32).map(|i| i * 1001 - 500_000).collect();
    let mut at = 0;
    let cut: Vec<Stretch> = stretches
        .iter()
        .map(|&tiles| {
            let column = |c: usize| right[(c * depth + at) * TILE_ROWS * TILE_BYTES..].as_ptr();
            let cut = Stretch {
                left: left[at * TILE_BYTES..].as_ptr(),
                right: [column(0), column(1)],
                tiles,
            };
            at += tiles;
            cut
        })
        .collect();
    for from_stride in [0, SUMS_STRIDE] {
        let mut sums = vec![7i32; 32 * 32];
        let start = (from.as_ptr().cast(), from_stride);
        tiles.configure(rows);
        let block = Block::new(&cut, LEFT_STRIDE, start, sums.as_mut_ptr().cast());
        // SAFETY: the vectors hold the rows and tiles.
        unsafe { tiles.multiply(Operands::Bytes, columns, &block) };
        for (i, &sum) in sums.iter().enumerate() {
            let (row, col) = (i / 32, i % 32);
            if row >= rows || col >= 16 * columns {
                assert_eq!(sum, 7, "[{row}, {col}] of {rows} by {columns} is not the block's");
                continue;
            }
            let right = &right[col / 16 * depth * TILE_ROWS * TILE_BYTES..];
            let dot: i32 = (0..depth * TILE_BYTES)
                .map(|k| {
                    let right = right[k / 4 * TILE_BYTES + col % 16 * 4 + k % 4];
                    i32::from(left[row * LEFT_STRIDE + k]) * i32::from(right as i8)
                })
                .sum();
            let before = from[if from_stride == 0 { col } else { i }];
            assert_eq!(sum, before + dot, "[{row}, {col}] of {rows} by {columns}, {stretches:?}");
        }
    }
}

#[test]
fn blocks_of_every_shape_are_exact() {
    let Some(amx) = amx() else { return };
    let mut tiles = Tiles::new(amx);
    for rows in 1..=BLOCK_ROWS {
        for columns in 1..=2 {
            run(&mut tiles, rows, columns, [[3, 1].as_slice(), &[1], &[2, 0, 1]][rows % 3]);
        }
    }
    run(&mut tiles, 20, 2, &[]);
    run(&mut tiles, 20, 2, &[0]);
}

#[test]
fn right_tiles_pass_the_check() {
    let Some(amx) = amx() else { return };
    assert!(check::tiles_are_right(amx));
}
