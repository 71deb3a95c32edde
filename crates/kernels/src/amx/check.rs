//! Whether tiles compute what they must, asked once before they are used.
//!
//! These kernels have not met hardware yet, so no processor is trusted to have tiles because it
//! says so: a block of each product, with small integers whose sums are exact, must come out right.

use super::{Amx, BLOCK_ROWS, Block, Operands, SUMS_STRIDE, Stretch, TILE_BYTES, TILE_ROWS, Tiles};

const COLUMNS: usize = 2 * TILE_ROWS;
/// Tiles of depth.
const DEPTH: usize = 2;
const LEFT_STRIDE: usize = DEPTH * TILE_BYTES;

type Sums = [[[u8; 4]; COLUMNS]; BLOCK_ROWS];

/// Whether a block of bytes and one of bf16 are right.
pub(super) fn tiles_are_right(amx: Amx) -> bool {
    let bytes = is_right(amx, Operands::Bytes, |x| vec![x as u8], |sum| sum.to_le_bytes());
    let bf16 = |x: i32| (x as f32).to_le_bytes()[2..].to_vec();
    bytes && is_right(amx, Operands::Bf16, bf16, |sum| (sum as f32).to_le_bytes())
}

/// Compares a block with sums of products of integers, which `element` encodes.
fn is_right(
    amx: Amx,
    operands: Operands,
    element: impl Fn(i32) -> Vec<u8>,
    sum: impl Fn(i32) -> [u8; 4],
) -> bool {
    let size = element(0).len();
    let (group, depth) = (4 / size, LEFT_STRIDE / size);
    let left = |row: usize, k: usize| ((row * 7 + k * 3) % 11) as i32;
    let right = |k: usize, column: usize| ((k * 5 + column * 2) % 7) as i32 - 3;
    let rows = (0..BLOCK_ROWS).flat_map(|row| (0..depth).map(move |k| left(row, k)));
    let rows: Vec<u8> = rows.flat_map(&element).collect();
    let columns = |tile: usize| -> Vec<u8> {
        (0..depth / group)
            .flat_map(|line| (0..TILE_ROWS).map(move |column| (line, column)))
            .flat_map(|(line, column)| (0..group).map(move |g| (line * group + g, column)))
            .flat_map(|(k, column)| element(right(k, tile * TILE_ROWS + column)))
            .collect()
    };
    let panels = [columns(0), columns(1)];
    let stretch = Stretch {
        left: rows.as_ptr(),
        right: [panels[0].as_ptr(), panels[1].as_ptr()],
        tiles: DEPTH,
    };
    let (zeros, mut sums): (_, Sums) = ([0u8; SUMS_STRIDE], [[[0; 4]; COLUMNS]; BLOCK_ROWS]);
    let mut tiles = Tiles::new(amx);
    tiles.configure(BLOCK_ROWS);
    // SAFETY: 32 rows of two tiles, two panels of two tiles and one row of zeros are readable; the
    // sums have 32 rows of their stride.
    unsafe {
        let from = (zeros.as_ptr(), 0);
        let stretches = [stretch];
        let block = Block::new(&stretches, LEFT_STRIDE, from, sums.as_mut_ptr().cast());
        tiles.multiply(operands, 2, &block);
    }
    let exact = |row: usize, column: usize| -> i32 {
        (0..depth).map(|k| left(row, k) * right(k, column)).sum()
    };
    (0..BLOCK_ROWS)
        .all(|row| (0..COLUMNS).all(|column| sums[row][column] == sum(exact(row, column))))
}
