//! The tiles of a thread and what instructions do to them.

use super::super::{TILE_BYTES, TILE_ROWS};

/// Tiles of palette 1.
const TILES: usize = 8;
/// Sums of a row.
const SUMS: usize = TILE_BYTES / 4;

/// Nothing, or why hardware (or the emulator) refuses to execute an instruction.
pub(super) type Done = Result<(), &'static str>;

type Tile = [[u8; TILE_BYTES]; TILE_ROWS];

/// What a product multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    Bytes { left_signed: bool, right_signed: bool },
    Bf16,
}

/// The state that AMX adds to a thread.
pub(super) struct Tiles {
    configured: bool,
    rows: [usize; TILES],
    row_bytes: [usize; TILES],
    tiles: [Tile; TILES],
}

impl Tiles {
    pub(super) const RELEASED: Tiles = Tiles {
        configured: false,
        rows: [0; TILES],
        row_bytes: [0; TILES],
        tiles: [[[0; TILE_BYTES]; TILE_ROWS]; TILES],
    };

    pub(super) fn release(&mut self) {
        *self = Tiles::RELEASED;
    }

    pub(super) fn configure(&mut self, configuration: &[u8; 64]) -> Done {
        let (head, rest) = configuration.split_at(16);
        let (row_bytes, rows) = rest.split_at(32);
        if head.iter().enumerate().any(|(i, &byte)| byte != u8::from(i == 0)) {
            return Err("a configuration of another palette, of a row to resume or reserved bytes");
        }
        self.release();
        for tile in 0..16 {
            let bytes =
                usize::from(u16::from_le_bytes([row_bytes[2 * tile], row_bytes[2 * tile + 1]]));
            let rows = usize::from(rows[tile]);
            match (rows, bytes) {
                (0, 0) => {}
                (1..=TILE_ROWS, 1..=TILE_BYTES) if tile < TILES => {
                    (self.rows[tile], self.row_bytes[tile]) = (rows, bytes);
                }
                _ => return Err("a configuration of tiles larger than there are"),
            }
        }
        self.configured = true;
        Ok(())
    }

    /// Rows and bytes of a row of a tile, if it may be used.
    fn shape(&self, tile: usize) -> Result<(usize, usize), &'static str> {
        match (self.rows.get(tile), self.row_bytes.get(tile)) {
            _ if !self.configured => Err("tiles are not configured"),
            (Some(&rows), Some(&bytes)) if rows > 0 && bytes.is_multiple_of(4) => Ok((rows, bytes)),
            _ => Err("a tile that is not configured"),
        }
    }

    pub(super) fn zero(&mut self, tile: usize) -> Done {
        self.shape(tile)?;
        self.tiles[tile] = Tiles::RELEASED.tiles[0];
        Ok(())
    }

    /// # Safety
    /// The tile's bytes are readable in rows of the stride.
    pub(super) unsafe fn load(&mut self, tile: usize, from: *const u8, stride: isize) -> Done {
        let (rows, bytes) = self.shape(tile)?;
        self.zero(tile)?;
        for (row, to) in self.tiles[tile].iter_mut().enumerate().take(rows) {
            let from = from.wrapping_offset(row as isize * stride);
            // SAFETY: by the caller's promise.
            unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), bytes) };
        }
        Ok(())
    }

    /// # Safety
    /// The tile's bytes are writable in rows of the stride.
    pub(super) unsafe fn store(&mut self, tile: usize, to: *mut u8, stride: isize) -> Done {
        let (rows, bytes) = self.shape(tile)?;
        for (row, from) in self.tiles[tile].iter().enumerate().take(rows) {
            let to = to.wrapping_offset(row as isize * stride);
            // SAFETY: by the caller's promise.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, bytes) };
        }
        Ok(())
    }

    /// Adds a product to a tile of sums: `[to, left, right]`.
    pub(super) fn multiply(&mut self, product: Product, tiles: [usize; 3]) -> Done {
        let [to, left, right] = tiles;
        if to == left || to == right || left == right {
            return Err("one tile is two operands");
        }
        let (rows, bytes) = self.shape(to)?;
        let (left_rows, left_bytes) = self.shape(left)?;
        let (right_rows, right_bytes) = self.shape(right)?;
        if left_rows != rows || right_bytes != bytes || left_bytes != right_rows * 4 {
            return Err("tiles that do not fit each other");
        }
        let (left, right) = (&self.tiles[left].clone(), &self.tiles[right].clone());
        for (row, to) in self.tiles[to].iter_mut().enumerate() {
            let left = &left[row][..left_bytes];
            let sums = to.as_chunks_mut::<4>().0;
            match product {
                _ if row >= rows => to.fill(0),
                Product::Bytes { left_signed, right_signed } => {
                    add_bytes(sums, left, right, (left_signed, right_signed));
                }
                Product::Bf16 => add_bf16(sums, left, right),
            }
            to[bytes..].fill(0);
        }
        Ok(())
    }
}

/// Adds dot products of bytes, modulo 2³².
fn add_bytes(sums: &mut [[u8; 4]], left: &[u8], right: &Tile, signed: (bool, bool)) {
    let value = |byte: u8, signed: bool| match signed {
        true => i32::from(byte as i8),
        false => i32::from(byte),
    };
    for (left, right) in left.as_chunks::<4>().0.iter().zip(right) {
        for (sum, right) in sums.iter_mut().zip(right.as_chunks::<4>().0) {
            let products = left.iter().zip(right);
            let dot: i32 = products.map(|(&a, &b)| value(a, signed.0) * value(b, signed.1)).sum();
            *sum = i32::from_le_bytes(*sum).wrapping_add(dot).to_le_bytes();
        }
    }
}

/// Adds dot products of bf16: even and odd elements are summed apart, from zero, by fused
/// multiply-adds in order of depth; then both are added, and then to the sum before.
fn add_bf16(sums: &mut [[u8; 4]], left: &[u8], right: &Tile) {
    let value = |bytes: [u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16);
    let mut parts = [[0f32; 2]; SUMS];
    for (left, right) in left.as_chunks::<4>().0.iter().zip(right) {
        for (parts, right) in parts.iter_mut().zip(right.as_chunks::<4>().0) {
            for (half, part) in parts.iter_mut().enumerate() {
                let [a, b] = [left, right].map(|pair| value([pair[2 * half], pair[2 * half + 1]]));
                *part = fused(a, b, *part);
            }
        }
    }
    for (sum, [even, odd]) in sums.iter_mut().zip(parts) {
        let before = flushed(f32::from_le_bytes(*sum));
        *sum = flushed(before + flushed(even + odd)).to_le_bytes();
    }
}

/// `x`, or zero of its sign if it is subnormal.
fn flushed(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0f32.copysign(x) } else { x }
}

/// `a * b + c` rounded once to nearest even, subnormals taken and given as zeros. A result is
/// subnormal if it is so when rounded to 24 bits, whatever its exponent.
fn fused(a: f32, b: f32, c: f32) -> f32 {
    const SCALE: f32 = (1u128 << 64) as f32;

    let (a, b, c) = (flushed(a), flushed(b), flushed(c));
    let sum = a.mul_add(b, c);
    if sum.abs() != f32::MIN_POSITIVE {
        return flushed(sum);
    }
    let (small, large) = if a.abs() < b.abs() { (a, b) } else { (b, a) };
    let scaled = (small * SCALE).mul_add(large, c * SCALE);
    if scaled.abs() < f32::MIN_POSITIVE * SCALE { 0f32.copysign(sum) } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration of `(rows, bytes)` for the first tiles.
    fn configuration(shapes: &[(u8, u8)]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        for (tile, &(rows, row_bytes)) in shapes.iter().enumerate() {
            (bytes[16 + 2 * tile], bytes[48 + tile]) = (row_bytes, rows);
        }
        bytes
    }

    #[test]
    fn what_hardware_refuses_is_refused() {
        let mut tiles = Tiles::RELEASED;
        assert!(tiles.zero(0).is_err(), "not configured");
        for (at, value) in [(0, 2), (1, 1), (15, 1), (16, 65), (17, 1), (32, 4), (48, 17), (49, 0)]
        {
            let mut bytes = configuration(&[(16, 64); 8]);
            bytes[at] = value;
            assert!(tiles.configure(&bytes).is_err(), "byte {at}");
        }
        let shapes = [(3, 32), (3, 20), (5, 32), (3, 16), (2, 20), (16, 6), (5, 28)];
        tiles.configure(&configuration(&shapes)).unwrap();
        assert!(tiles.multiply(Product::Bf16, [0, 1, 2]).is_ok());
        let wrong = [[0, 0, 2], [0, 1, 1], [2, 1, 2], [0, 3, 2], [0, 4, 2], [0, 1, 6], [0, 1, 7]];
        for operands in wrong {
            assert!(tiles.multiply(Product::Bf16, operands).is_err(), "{operands:?}");
        }
        assert!(tiles.zero(5).is_err(), "part of an element");
        assert!(tiles.zero(7).is_err() && tiles.zero(8).is_err(), "no such tile");
        tiles.release();
        assert!(tiles.multiply(Product::Bf16, [0, 1, 2]).is_err(), "not configured");
    }

    #[test]
    fn tiles_hold_what_was_loaded_and_zeros() {
        let memory: [u8; 100] = std::array::from_fn(|i| i as u8 + 1);
        let mut tiles = Tiles::RELEASED;
        tiles.configure(&configuration(&[(3, 8)])).unwrap();
        tiles.tiles[0] = [[9; TILE_BYTES]; TILE_ROWS];
        // SAFETY: three rows of 8 bytes, 20 apart, fit the memory.
        unsafe { tiles.load(0, memory.as_ptr(), 20).unwrap() };
        for (row, bytes) in tiles.tiles[0].iter().enumerate() {
            for (col, &byte) in bytes.iter().enumerate() {
                let expected = if row < 3 && col < 8 { memory[row * 20 + col] } else { 0 };
                assert_eq!(byte, expected, "[{row}, {col}]");
            }
        }
        let mut back = [0u8; 30];
        // SAFETY: three rows of 8 bytes, 11 apart, fit the memory.
        unsafe { tiles.store(0, back.as_mut_ptr(), 11).unwrap() };
        for (i, &byte) in back.iter().enumerate() {
            let expected = if i % 11 < 8 { memory[i / 11 * 20 + i % 11] } else { 0 };
            assert_eq!(byte, expected, "{i}");
        }
    }

    #[test]
    fn products_of_bytes_are_exact_in_all_signs() {
        let (left, right) = ([250u8, 7, 128, 255], [255u8, 128, 127, 1]);
        for (left_signed, right_signed) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let mut tiles = Tiles::RELEASED;
            tiles.configure(&configuration(&[(1, 4), (1, 4), (1, 4)])).unwrap();
            tiles.tiles[0][0][..4].copy_from_slice(&i32::MAX.to_le_bytes());
            tiles.tiles[1][0][..4].copy_from_slice(&left);
            tiles.tiles[2][0][..4].copy_from_slice(&right);
            tiles.multiply(Product::Bytes { left_signed, right_signed }, [0, 1, 2]).unwrap();
            let value = |byte: u8, signed: bool| {
                i64::from(byte) - if signed && byte > 127 { 256 } else { 0 }
            };
            let exact: i64 =
                (0..4).map(|i| value(left[i], left_signed) * value(right[i], right_signed)).sum();
            let expected = (i64::from(i32::MAX) + exact) as i32;
            assert_eq!(tiles.tiles[0][0][..4], expected.to_le_bytes());
        }
    }

    /// One sum of bf16 products, given as f32 that bf16 holds.
    fn dot(before: f32, left: &[f32], right: &[f32]) -> f32 {
        let (mut tiles, depth) = (Tiles::RELEASED, left.len());
        let shapes = [(1, 4), (1, 2 * depth as u8), (depth as u8 / 2, 4)];
        tiles.configure(&configuration(&shapes)).unwrap();
        tiles.tiles[0][0][..4].copy_from_slice(&before.to_le_bytes());
        for (i, (a, b)) in left.iter().zip(right).enumerate() {
            tiles.tiles[1][0][2 * i..][..2].copy_from_slice(&a.to_le_bytes()[2..]);
            tiles.tiles[2][i / 2][i % 2 * 2..][..2].copy_from_slice(&b.to_le_bytes()[2..]);
        }
        tiles.multiply(Product::Bf16, [0, 1, 2]).unwrap();
        f32::from_le_bytes(tiles.tiles[0][0][..4].try_into().unwrap())
    }

    #[test]
    fn even_and_odd_products_of_bf16_are_summed_apart_and_before_the_rest() {
        let big = 2f32.powi(24);
        // 2²⁴ + 1 is not an f32: ones survive only where they meet no large sum.
        assert_eq!(dot(0.0, &[big, 1.0, 0.0, 1.0], &[1.0; 4]), big + 2.0);
        assert_eq!(dot(0.0, &[big, 0.0, 1.0, 0.0, 1.0, 0.0], &[1.0; 6]), big);
        assert_eq!(dot(big, &[1.0, 1.0], &[1.0; 2]), big + 2.0);
        assert_eq!(dot(big, &[1.0, 0.0], &[1.0; 2]), big);
        // Ties go to even, and products are not rounded on their own.
        assert_eq!(dot(0.0, &[big, 0.0, 3.0, 0.0], &[1.0; 4]), big + 4.0);
        let x = 1.0 + 2f32.powi(-7);
        assert_eq!(dot(0.0, &[-1.0, 0.0, x, 0.0], &[1.0, 0.0, x, 0.0]), x.mul_add(x, -1.0));
    }

    #[test]
    fn subnormal_operands_and_sums_of_bf16_are_zeros() {
        let least = f32::MIN_POSITIVE;
        let below = f32::from_bits(0x007f_0000);
        assert_eq!(dot(0.0, &[below, 0.0], &[2f32.powi(100), 0.0]), 0.0);
        assert_eq!(dot(below, &[1.0, 0.0], &[least, 0.0]), least);
        assert_eq!(dot(0.0, &[least, 0.0], &[0.5, 0.0]), 0.0);
        assert_eq!(dot(0.0, &[least * 1.5, -least], &[1.0, 1.0]), 0.0);
        assert_eq!(dot(-least * 1.5, &[least, 0.0], &[1.0, 0.0]), 0.0);
        // The sum 2⁻¹²⁶ (1 - 2⁻²⁵) rounds to a normal number, 2⁻¹²⁶ (1 - 2⁻²⁴) is none.
        let (small, half) = (2f32.powi(-100), 2f32.powi(-50));
        assert_eq!(fused(-small, half / 2.0, least), least);
        assert_eq!(fused(-small, half, least), 0.0);
    }
}
