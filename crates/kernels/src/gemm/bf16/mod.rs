//! Matrix products with operands in bf16 and sums in f32.
//!
//! The arithmetic is that of the x86 instruction `vdpbf16ps`, on every instruction set below AMX:
//!
//! - Operands are rounded to bf16 (8 significant bits) to nearest, ties to even; magnitudes below
//!   2⁻¹²⁶ become zero of their sign.
//! - Elements of depth come in pairs, the last one completed with zero. A pair is two fused
//!   multiply-adds to the f32 sum, each rounded to nearest even: the odd element first, then the
//!   even one. Products of bf16 are exact in f32, so each pair rounds twice.
//! - The instruction takes and gives sums below 2⁻¹²⁶ as zeros, whatever the processor's modes;
//!   the others keep them. That is the only difference: results are the same bits wherever no sum
//!   of a prefix is that small.
//!
//! On AMX it is that of `tdpbf16ps`, for any number of rows. Operands are rounded alike, but sums
//! are formed otherwise: of every 32 elements of depth, counted from the first one, the even and
//! the odd ones are summed apart, each by fused multiply-adds from zero on, then both sums are
//! added, then the sum of the 32 to that of the elements before. Zeros complete the last 32; all
//! sums below 2⁻¹²⁶ are taken and given as zeros. So a product goes through at most 16 + K / 32
//! roundings. Each of the two orders, which are those of Intel's manual, has a scalar twin
//! (`reference.rs`).
//!
//! Bias, residual and activation follow in f32. Error: against exact operands, each product is off
//! by at most 2⁻⁷ + 2⁻¹⁶ of itself (2⁻⁸ from each operand), to which come the f32 roundings of K
//! additions: for f32 operands in the normal range
//! `|error| <= (2⁻⁷ + 2⁻¹⁶ + (K + 1) 2⁻²⁴) · Σ |a| |b|` up to terms of second order, where no
//! operand rounds to infinity (from 2¹²⁸ - 2¹¹⁹ on) and no sum is below 2⁻¹²⁶.
//!
//! Right-hand operands are packed once as `[N/16][K/2][16][2]`, zero padded: a vector of pairs for
//! 16 columns, which AMX tiles read as well (16 rows of such vectors are one tile). Left rows stay
//! f32 in memory; groups of them are rounded to bf16 before their sums begin (`drive.rs`).

mod drive;
mod lanes;
mod pack;
mod reference;
#[cfg(test)]
mod tests;
mod tile;
#[cfg(target_arch = "x86_64")]
mod tiles;

pub(super) use drive::run_part;
pub(crate) use pack::pack_bf16_with;
pub use pack::{PackedBf16, pack_bf16, packed_bf16_len};

use super::drive::{Right, run};
use super::{Epilogue, RowsMut, RowsRef};
use crate::Exec;
use crate::rows::DenseRows;

/// An element of a packed operand.
pub(crate) type Element = half::bf16;

/// Elements of depth that lie together.
pub(crate) const PAIR: usize = 2;

/// Elements of depth that AMX sums apart.
const TILE_DEPTH: usize = 32;

/// `out[m, n] = activation(a[m, k] · b[k, n] + bias + residual)` with the product's operands in
/// bf16.
///
/// # Panics
/// If an operand is shorter than its shape.
pub fn gemm_bf16(
    exec: Exec<'_>,
    m: usize,
    a: RowsRef<'_>,
    b: PackedBf16<'_>,
    epilogue: &Epilogue<'_>,
    mut out: RowsMut<'_>,
) {
    let rows = DenseRows::new(a.data, m, b.k(), a.stride);
    run(exec, &epilogue.product(&rows, Right::PackedBf16(b.as_ptr()), b.n(), &mut out));
}

/// The bits of `x` rounded to bf16 as the instructions round: to nearest even, NaN quiet,
/// subnormals to zero.
#[inline(always)]
fn rounded_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let nearest = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    let quiet = (bits >> 16) as u16 | 0x40;
    let zero = (bits >> 16) as u16 & 0x8000;
    match magnitude {
        0x7f80_0001.. => quiet,
        ..0x0080_0000 => zero,
        _ => nearest,
    }
}

/// `x` rounded to bf16, as f32.
#[inline(always)]
fn rounded(x: f32) -> f32 {
    f32::from_bits(u32::from(rounded_bits(x)) << 16)
}
