//! Arrays of 16 lanes: lets tests run the 16-lane path of every kernel on machines without AVX-512.

use std::array::from_fn;

use super::{Simd, SimdOp};

type F = [f32; 16];
type I = [i32; 16];

/// 16 lanes on any processor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    const LANES: usize = 16;
    const TILE_ROWS: usize = 12;
    type F = F;
    type I = I;
    type Mask = [bool; 16];

    fn run<O: SimdOp>(self, op: O) -> O::Output {
        op.eval(self)
    }

    fn splat(self, x: f32) -> F {
        [x; 16]
    }

    unsafe fn load(self, p: *const f32) -> F {
        // SAFETY: by the caller's promise.
        from_fn(|i| unsafe { *p.add(i) })
    }

    unsafe fn store(self, p: *mut f32, x: F) {
        // SAFETY: by the caller's promise.
        (0..16).for_each(|i| unsafe { *p.add(i) = x[i] });
    }

    unsafe fn load_n(self, p: *const f32, n: usize) -> F {
        // SAFETY: only the first n elements are read.
        from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }

    unsafe fn store_n(self, p: *mut f32, x: F, n: usize) {
        // SAFETY: only the first n elements are written.
        (0..n).for_each(|i| unsafe { *p.add(i) = x[i] });
    }

    fn add(self, a: F, b: F) -> F {
        from_fn(|i| a[i] + b[i])
    }
    fn sub(self, a: F, b: F) -> F {
        from_fn(|i| a[i] - b[i])
    }
    fn mul(self, a: F, b: F) -> F {
        from_fn(|i| a[i] * b[i])
    }
    fn div(self, a: F, b: F) -> F {
        from_fn(|i| a[i] / b[i])
    }
    fn fma(self, a: F, b: F, c: F) -> F {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    fn min(self, a: F, b: F) -> F {
        from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    fn max(self, a: F, b: F) -> F {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    fn round(self, a: F) -> F {
        a.map(f32::round_ties_even)
    }
    fn less(self, a: F, b: F) -> [bool; 16] {
        from_fn(|i| a[i] < b[i])
    }
    fn is_nan(self, a: F) -> [bool; 16] {
        a.map(f32::is_nan)
    }
    fn select(self, mask: [bool; 16], a: F, b: F) -> F {
        from_fn(|i| if mask[i] { a[i] } else { b[i] })
    }
    fn splat_i(self, x: i32) -> I {
        [x; 16]
    }
    fn to_int(self, a: F) -> I {
        let fits = |x: f32| (-2_147_483_648.0..2_147_483_648.0).contains(&x);
        a.map(|x| if fits(x) { x.round_ties_even() as i32 } else { i32::MIN })
    }
    fn to_float(self, a: I) -> F {
        a.map(|x| x as f32)
    }
    fn bits(self, a: F) -> I {
        a.map(|x| x.to_bits() as i32)
    }
    fn float_from_bits(self, a: I) -> F {
        a.map(|x| f32::from_bits(x as u32))
    }
    fn add_i(self, a: I, b: I) -> I {
        from_fn(|i| a[i].wrapping_add(b[i]))
    }
    fn sub_i(self, a: I, b: I) -> I {
        from_fn(|i| a[i].wrapping_sub(b[i]))
    }
    fn and_i(self, a: I, b: I) -> I {
        from_fn(|i| a[i] & b[i])
    }
    fn or_i(self, a: I, b: I) -> I {
        from_fn(|i| a[i] | b[i])
    }
    fn shl_i<const N: u32>(self, a: I) -> I {
        a.map(|x| x << N)
    }
    fn sar_i<const N: u32>(self, a: I) -> I {
        a.map(|x| x >> N)
    }
}
