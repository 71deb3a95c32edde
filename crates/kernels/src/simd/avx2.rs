//! AVX2 and FMA: 8 lanes.

use std::arch::x86_64::*;

use super::{Simd, SimdOp};
use crate::{Cpu, Isa};

/// Proof that AVX2 and FMA exist.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn prove(cpu: Cpu) -> Option<Avx2> {
        cpu.isa().includes(Isa::Avx2).then_some(Avx2(()))
    }
}

const MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// A mask of the first `n` lanes.
#[inline(always)]
fn first(n: usize) -> __m256i {
    let window = &MASKS[8 - n.min(8)..];
    // SAFETY: 8 to 16 elements are left; only code that holds the token calls this.
    unsafe { _mm256_loadu_si256(window.as_ptr().cast()) }
}

#[target_feature(enable = "avx2,fma")]
fn enter<O: SimdOp>(s: Avx2, op: O) -> O::Output {
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

impl Simd for Avx2 {
    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;
    type F = __m256;
    type I = __m256i;
    type Mask = __m256;

    #[inline(always)]
    fn run<O: SimdOp>(self, op: O) -> O::Output {
        // SAFETY: the token proves that the instructions exist.
        unsafe { enter(self, op) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        // SAFETY: by the caller's promise.
        unsafe { _mm256_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: __m256) {
        // SAFETY: by the caller's promise.
        unsafe { _mm256_storeu_ps(p, x) }
    }

    #[inline(always)]
    unsafe fn load_n(self, p: *const f32, n: usize) -> __m256 {
        // SAFETY: lanes outside the mask are not accessed.
        unsafe { _mm256_maskload_ps(p, first(n)) }
    }

    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, x: __m256, n: usize) {
        // Some processors take tens of cycles for a masked store.
        // SAFETY: the pieces written add up to `n` elements.
        unsafe {
            let (mut p, mut rest) = (p, _mm256_castps256_ps128(x));
            if n & 4 != 0 {
                _mm_storeu_ps(p, rest);
                (p, rest) = (p.add(4), _mm256_extractf128_ps::<1>(x));
            }
            if n & 2 != 0 {
                _mm_storel_pd(p.cast(), _mm_castps_pd(rest));
                (p, rest) = (p.add(2), _mm_movehl_ps(rest, rest));
            }
            if n & 1 != 0 {
                _mm_store_ss(p, rest);
            }
        }
    }

    lanewise! {
        splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        round(a: __m256) -> __m256 =
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        less(a: __m256, b: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_LT_OQ>(a, b);
        is_nan(a: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a);
        select(mask: __m256, a: __m256, b: __m256) -> __m256 = _mm256_blendv_ps(b, a, mask);
        splat_i(x: i32) -> __m256i = _mm256_set1_epi32(x);
        to_int(a: __m256) -> __m256i = _mm256_cvtps_epi32(a);
        to_float(a: __m256i) -> __m256 = _mm256_cvtepi32_ps(a);
        bits(a: __m256) -> __m256i = _mm256_castps_si256(a);
        float_from_bits(a: __m256i) -> __m256 = _mm256_castsi256_ps(a);
        add_i(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        sub_i(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi32(a, b);
        and_i(a: __m256i, b: __m256i) -> __m256i = _mm256_and_si256(a, b);
        or_i(a: __m256i, b: __m256i) -> __m256i = _mm256_or_si256(a, b);
    }

    #[inline(always)]
    fn shl_i<const N: u32>(self, a: __m256i) -> __m256i {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_sll_epi32(a, _mm_cvtsi32_si128(N as i32)) }
    }

    #[inline(always)]
    fn sar_i<const N: u32>(self, a: __m256i) -> __m256i {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm256_sra_epi32(a, _mm_cvtsi32_si128(N as i32)) }
    }
}
