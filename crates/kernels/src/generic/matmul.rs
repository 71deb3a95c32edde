//! Matrix products of any element type and any strides.

use landfall_tensor::{Element, bf16, f16};

use crate::Exec;
use crate::parallel::over_range;
use crate::shared::SharedMut;

/// An element that can be multiplied and summed; sums are kept in a wider type where that helps.
pub trait Scalar: Element {
    /// The type of sums.
    type Sum: Copy + Send + Sync;
    /// Nothing summed yet.
    const ZERO: Self::Sum;
    /// `sum + a b`; integers wrap.
    fn add_product(sum: Self::Sum, a: Self, b: Self) -> Self::Sum;
    /// The sum as an element.
    fn finish(sum: Self::Sum) -> Self;
}

macro_rules! scalars {
    ($(
        $ty:ty, $sum:ty, $zero:expr,
        |$s:ident, $a:ident, $b:ident| $add:expr, |$f:ident| $finish:expr;
    )*) => {$(
        impl Scalar for $ty {
            type Sum = $sum;
            const ZERO: $sum = $zero;
            #[inline(always)]
            fn add_product($s: $sum, $a: $ty, $b: $ty) -> $sum { $add }
            #[inline(always)]
            fn finish($f: $sum) -> $ty { $finish }
        }
    )*};
}

scalars! {
    f32, f32, 0.0, |s, a, b| s + a * b, |s| s;
    f64, f64, 0.0, |s, a, b| s + a * b, |s| s;
    f16, f32, 0.0, |s, a, b| s + a.to_f32() * b.to_f32(), |s| f16::from_f32(s);
    bf16, f32, 0.0, |s, a, b| s + a.to_f32() * b.to_f32(), |s| bf16::from_f32(s);
    i8, i8, 0, |s, a, b| s.wrapping_add(a.wrapping_mul(b)), |s| s;
    u8, u8, 0, |s, a, b| s.wrapping_add(a.wrapping_mul(b)), |s| s;
    i16, i16, 0, |s, a, b| s.wrapping_add(a.wrapping_mul(b)), |s| s;
    u16, u16, 0, |s, a, b| s.wrapping_add(a.wrapping_mul(b)), |s| s;
    i32, i32, 0, |s, a, b| s.wrapping_add(a.wrapping_mul(b)), |s| s;
    u32, u32, 0, |s, a, b| s.wrapping_add(a.wrapping_mul(b)), |s| s;
    i64, i64, 0, |s, a, b| s.wrapping_add(a.wrapping_mul(b)), |s| s;
    u64, u64, 0, |s, a, b| s.wrapping_add(a.wrapping_mul(b)), |s| s;
}

/// Shape and strides of one product: `a [m, k]`, `b [k, n]`, `out [m, n]` contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// Rows.
    pub m: usize,
    /// Depth.
    pub k: usize,
    /// Columns.
    pub n: usize,
    /// Distance between rows and columns of `a`.
    pub a: [usize; 2],
    /// Distance between rows and columns of `b`.
    pub b: [usize; 2],
}

/// `out = a b`, summed along the depth in order.
///
/// # Panics
/// If a slice is shorter than its shape and strides demand.
pub fn matmul_direct<T: Scalar>(exec: Exec<'_>, p: &Product, a: &[T], b: &[T], out: &mut [T]) {
    assert_eq!(out.len(), p.m * p.n);
    let shared = SharedMut::new(out);
    over_range(exec, p.m, p.n.saturating_mul(p.k), &|rows| {
        let mut sums = vec![T::ZERO; p.n];
        for i in rows {
            sums.fill(T::ZERO);
            for k in 0..p.k {
                let x = a[i * p.a[0] + k * p.a[1]];
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum = T::add_product(*sum, x, b[k * p.b[0] + j * p.b[1]]);
                }
            }
            // SAFETY: parts are disjoint rows.
            let row = unsafe { shared.range(i * p.n, p.n) };
            row.iter_mut().zip(&sums).for_each(|(o, &sum)| *o = T::finish(sum));
        }
    });
}
