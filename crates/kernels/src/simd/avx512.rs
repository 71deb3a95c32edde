//! AVX-512 F, BW, VL and DQ: 16 lanes.

use std::arch::x86_64::*;

use super::{Simd, SimdOp};
use crate::{Cpu, Isa};

/// Proof that AVX-512 F, BW, VL and DQ exist.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn prove(cpu: Cpu) -> Option<Avx512> {
        cpu.isa().includes(Isa::Avx512).then_some(Avx512(()))
    }
}

/// A mask of the first `n` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    debug_assert!(n < 16);
    (1 << n) - 1
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
fn enter<O: SimdOp>(s: Avx512, op: O) -> O::Output {
    op.eval(s)
}

/// A method that is one intrinsic, or a short expression of them.
macro_rules! lanewise {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $ret {
            // SAFETY: the token proves that the instructions exist.
            unsafe { $body }
        }
    )*};
}

impl Simd for Avx512 {
    const LANES: usize = 16;
    const TILE_ROWS: usize = 12;
    type F = __m512;
    type I = __m512i;
    type Mask = __mmask16;

    #[inline(always)]
    fn run<O: SimdOp>(self, op: O) -> O::Output {
        // SAFETY: the token proves that the instructions exist.
        unsafe { enter(self, op) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: by the caller's promise.
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: __m512) {
        // SAFETY: by the caller's promise.
        unsafe { _mm512_storeu_ps(p, x) }
    }

    #[inline(always)]
    unsafe fn load_n(self, p: *const f32, n: usize) -> __m512 {
        // SAFETY: lanes outside the mask are not accessed.
        unsafe { _mm512_maskz_loadu_ps(first(n), p) }
    }

    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, x: __m512, n: usize) {
        // SAFETY: lanes outside the mask are not accessed.
        unsafe { _mm512_mask_storeu_ps(p, first(n), x) }
    }

    lanewise! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        round(a: __m512) -> __m512 =
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        less(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b);
        is_nan(a: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
        select(mask: __mmask16, a: __m512, b: __m512) -> __m512 = _mm512_mask_blend_ps(mask, b, a);
        splat_i(x: i32) -> __m512i = _mm512_set1_epi32(x);
        to_int(a: __m512) -> __m512i = _mm512_cvtps_epi32(a);
        to_float(a: __m512i) -> __m512 = _mm512_cvtepi32_ps(a);
        bits(a: __m512) -> __m512i = _mm512_castps_si512(a);
        float_from_bits(a: __m512i) -> __m512 = _mm512_castsi512_ps(a);
        add_i(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        sub_i(a: __m512i, b: __m512i) -> __m512i = _mm512_sub_epi32(a, b);
        and_i(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512(a, b);
        or_i(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
    }

    #[inline(always)]
    fn shl_i<const N: u32>(self, a: __m512i) -> __m512i {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_sll_epi32(a, _mm_cvtsi32_si128(N as i32)) }
    }

    #[inline(always)]
    fn sar_i<const N: u32>(self, a: __m512i) -> __m512i {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_sra_epi32(a, _mm_cvtsi32_si128(N as i32)) }
    }
}
