//! Advanced SIMD of AArch64: 8 lanes in two registers of four.
//!
//! Two registers make one vector because then tiles, panels and the order of sums are those of
//! AVX2, whose results these are to the bit, and a tile of 6 rows and 16 columns takes 24 of the 32
//! registers for its sums.

use std::arch::aarch64::*;

use super::{Simd, SimdOp};
use crate::{Cpu, Isa};

/// Proof that Advanced SIMD exists.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    pub(crate) fn prove(cpu: Cpu) -> Option<Neon> {
        cpu.isa().includes(Isa::Neon).then_some(Neon(()))
    }
}

#[target_feature(enable = "neon")]
#[inline(never)]
fn enter<O: SimdOp>(s: Neon, op: O) -> O::Output {
    op.eval(s)
}

/// A method that is an expression of intrinsics for each register `$i`.
macro_rules! lanewise {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty, $i:ident = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $ret {
            // SAFETY: the token proves that the instructions exist.
            unsafe { [{ let $i = 0; $body }, { let $i = 1; $body }] }
        }
    )*};
}

type F = [float32x4_t; 2];
type I = [int32x4_t; 2];
type Mask = [uint32x4_t; 2];

/// The first `n < 4` elements, then zeros.
///
/// # Safety
/// `n` elements are readable at `p`.
#[inline(always)]
unsafe fn load_few(p: *const f32, n: usize) -> float32x4_t {
    // SAFETY: by the caller's promise; only code that holds the token calls this.
    unsafe {
        let zero = vdupq_n_f32(0.0);
        match n {
            0 => zero,
            1 => vld1q_lane_f32::<0>(p, zero),
            2 => vcombine_f32(vld1_f32(p), vdup_n_f32(0.0)),
            _ => vld1q_lane_f32::<2>(p.add(2), vcombine_f32(vld1_f32(p), vdup_n_f32(0.0))),
        }
    }
}

/// # Safety
/// `n < 4` elements are writable at `p`.
#[inline(always)]
unsafe fn store_few(p: *mut f32, x: float32x4_t, n: usize) {
    // SAFETY: the pieces written add up to `n` elements; only code that holds the token calls this.
    unsafe {
        match n {
            0 => {}
            1 => vst1q_lane_f32::<0>(p, x),
            2 => vst1_f32(p, vget_low_f32(x)),
            _ => {
                vst1_f32(p, vget_low_f32(x));
                vst1q_lane_f32::<2>(p.add(2), x);
            }
        }
    }
}

/// Rounded as by [`Simd::to_int`]; the instruction itself saturates, and gives 0 for NaN.
///
/// # Safety
/// Advanced SIMD exists.
#[inline(always)]
unsafe fn to_int(a: float32x4_t) -> int32x4_t {
    // SAFETY: by the caller's promise.
    unsafe {
        let fits = vcaltq_f32(a, vdupq_n_f32(2_147_483_648.0));
        vbslq_s32(fits, vcvtnq_s32_f32(a), vdupq_n_s32(i32::MIN))
    }
}

impl Simd for Neon {
    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;
    type F = F;
    type I = I;
    type Mask = Mask;

    #[inline(always)]
    fn run<O: SimdOp>(self, op: O) -> O::Output {
        // SAFETY: the token proves that the instructions exist.
        unsafe { enter(self, op) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> F {
        // SAFETY: by the caller's promise.
        unsafe { [vld1q_f32(p), vld1q_f32(p.add(4))] }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: F) {
        // SAFETY: by the caller's promise.
        unsafe {
            vst1q_f32(p, x[0]);
            vst1q_f32(p.add(4), x[1]);
        }
    }

    #[inline(always)]
    unsafe fn load_n(self, p: *const f32, n: usize) -> F {
        // SAFETY: the pieces read add up to `n` elements.
        unsafe {
            match n.checked_sub(4) {
                Some(rest) => [vld1q_f32(p), load_few(p.add(4), rest)],
                None => [load_few(p, n), vdupq_n_f32(0.0)],
            }
        }
    }

    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, x: F, n: usize) {
        // SAFETY: the pieces written add up to `n` elements.
        unsafe {
            match n.checked_sub(4) {
                Some(rest) => {
                    vst1q_f32(p, x[0]);
                    store_few(p.add(4), x[1], rest);
                }
                None => store_few(p, x[0], n),
            }
        }
    }

    lanewise! {
        splat(x: f32) -> F, _i = vdupq_n_f32(x);
        add(a: F, b: F) -> F, i = vaddq_f32(a[i], b[i]);
        sub(a: F, b: F) -> F, i = vsubq_f32(a[i], b[i]);
        mul(a: F, b: F) -> F, i = vmulq_f32(a[i], b[i]);
        div(a: F, b: F) -> F, i = vdivq_f32(a[i], b[i]);
        fma(a: F, b: F, c: F) -> F, i = vfmaq_f32(c[i], a[i], b[i]);
        min(a: F, b: F) -> F, i = vbslq_f32(vcltq_f32(a[i], b[i]), a[i], b[i]);
        max(a: F, b: F) -> F, i = vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i]);
        round(a: F) -> F, i = vrndnq_f32(a[i]);
        less(a: F, b: F) -> Mask, i = vcltq_f32(a[i], b[i]);
        is_nan(a: F) -> Mask, i = vmvnq_u32(vceqq_f32(a[i], a[i]));
        select(mask: Mask, a: F, b: F) -> F, i = vbslq_f32(mask[i], a[i], b[i]);
        splat_i(x: i32) -> I, _i = vdupq_n_s32(x);
        to_int(a: F) -> I, i = to_int(a[i]);
        to_float(a: I) -> F, i = vcvtq_f32_s32(a[i]);
        bits(a: F) -> I, i = vreinterpretq_s32_f32(a[i]);
        float_from_bits(a: I) -> F, i = vreinterpretq_f32_s32(a[i]);
        add_i(a: I, b: I) -> I, i = vaddq_s32(a[i], b[i]);
        sub_i(a: I, b: I) -> I, i = vsubq_s32(a[i], b[i]);
        and_i(a: I, b: I) -> I, i = vandq_s32(a[i], b[i]);
        or_i(a: I, b: I) -> I, i = vorrq_s32(a[i], b[i]);
    }

    #[inline(always)]
    fn shl_i<const N: u32>(self, a: I) -> I {
        // SAFETY: the token proves that the instructions exist.
        unsafe {
            let by = vdupq_n_s32(N as i32);
            [vshlq_s32(a[0], by), vshlq_s32(a[1], by)]
        }
    }

    #[inline(always)]
    fn sar_i<const N: u32>(self, a: I) -> I {
        // SAFETY: the token proves that the instructions exist.
        unsafe {
            let by = vdupq_n_s32(-(N as i32));
            [vshlq_s32(a[0], by), vshlq_s32(a[1], by)]
        }
    }
}
