//! Rotary position embedding (Su et al., "RoFormer", section 3.2).

use crate::Exec;
use crate::elementwise::Float;
use crate::parallel::over_chunks;

/// Extents and options of a rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotary {
    /// Heads.
    pub heads: usize,
    /// Tokens of one sequence.
    pub tokens: usize,
    /// Elements of a head.
    pub columns: usize,
    /// Elements of a head that are rotated, from the first: even, at most `columns`.
    pub rotated: usize,
    /// Pairs are neighbours; else the halves of what is rotated.
    pub interleaved: bool,
    /// `[batch, heads, tokens, columns]`, else `[batch, tokens, heads, columns]`.
    pub heads_first: bool,
}

/// Rotates `x`. Row `rows[batch tokens]` of `cos` and `sin`, `[.., rotated / 2]`, holds the angles
/// of a token; without `rows` it is the token's own.
///
/// # Panics
/// If a slice is shorter than the extents demand.
pub fn rotary<T: Float>(
    exec: Exec<'_>,
    shape: &Rotary,
    x: &[T],
    (cos, sin): (&[T], &[T]),
    rows: Option<&[i64]>,
    out: &mut [T],
) {
    assert_eq!(x.len(), out.len(), "output length");
    assert!(shape.rotated <= shape.columns, "more rotated than there is");
    let half = shape.rotated / 2;
    let (heads, tokens) = (shape.heads, shape.tokens);
    over_chunks(exec, out, shape.columns, 4, &|first, chunk| {
        for (i, out) in chunk.chunks_exact_mut(shape.columns).enumerate() {
            let index = first + i;
            let token = match shape.heads_first {
                true => index / (heads * tokens) * tokens + index % tokens,
                false => index / heads,
            };
            let row = rows.map_or(token, |rows| rows[token] as usize);
            let (cos, sin) = (&cos[row * half..][..half], &sin[row * half..][..half]);
            let x = &x[index * shape.columns..][..shape.columns];
            out.copy_from_slice(x);
            for pair in 0..half {
                let (a, b) = match shape.interleaved {
                    true => (2 * pair, 2 * pair + 1),
                    false => (pair, half + pair),
                };
                let (c, s) = (cos[pair].widen(), sin[pair].widen());
                let (real, imaginary) = (x[a].widen(), x[b].widen());
                out[a] = T::narrow(c * real - s * imaginary);
                out[b] = T::narrow(s * real + c * imaginary);
            }
        }
    });
}
