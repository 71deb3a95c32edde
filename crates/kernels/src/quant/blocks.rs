//! Sixteen 32-bit lanes: what the epilogue and the depthwise kernel compute with.
//!
//! `landfall_tensor::requantize` is integer arithmetic, and so it is in scalar code. In vectors the
//! same integers come from one fused multiply-add of f64: `fma(acc, scale, 1.5 * 2^52)` rounds the
//! exact product to an integer, ties to even, because a 31-bit mantissa is an exact f64 and numbers
//! next to `1.5 * 2^52` lie one apart; its low 32 bits are the result.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use landfall_tensor::{FixedPointScale, requantize};

#[cfg(target_arch = "x86_64")]
use super::narrow::scale_256;
use crate::gemm::PANEL;

/// Sums of 16 columns.
pub(crate) type Block = [i32; PANEL];

/// Numbers of this size are whole, and a sum with it is rounded to a whole number.
#[cfg(any(test, target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) const WHOLE: f64 = 1.5 * (1u64 << 52) as f64;

/// Scales of 16 columns, each below 1: the same numbers twice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scales<'a> {
    pub(crate) fixed: &'a [FixedPointScale; PANEL],
    pub(crate) real: &'a [f64; PANEL],
}

/// A fixed-point scale as the number that it is, exactly.
pub(crate) fn real_scale(scale: FixedPointScale) -> f64 {
    f64::from(scale.mantissa) * 2f64.powi(-(scale.shift as i32))
}

/// Arithmetic modulo 2^32 on 16 lanes.
pub(crate) trait Blocks: Copy {
    type Block: Copy;

    fn load(self, x: &Block) -> Self::Block;
    fn store(self, x: Self::Block, to: &mut Block);
    fn splat(self, x: i32) -> Self::Block;
    fn add(self, a: Self::Block, b: Self::Block) -> Self::Block;
    fn sub(self, a: Self::Block, b: Self::Block) -> Self::Block;
    fn mul(self, a: Self::Block, b: Self::Block) -> Self::Block;
    /// Bytes as numbers.
    fn widen<const SIGNED: bool>(self, bytes: &[u8; PANEL]) -> Self::Block;
    /// `round_ties_even(x * scale)`.
    fn requantize(self, x: Self::Block, scales: Scales<'_>) -> Self::Block;
    /// Stores `clamp(x, low, high) + zero` modulo 256.
    fn store_bytes(self, x: Self::Block, low: i32, high: i32, zero: i32, to: &mut [u8; PANEL]);
    /// Stores `x * (factor * scale) + bias`, rounding the last product and the sum at once.
    fn store_floats(
        self,
        x: Self::Block,
        factor: f32,
        scales: &[f32; PANEL],
        bias: &[f32; PANEL],
        to: &mut [f32; PANEL],
    );
}

/// One lane after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar;

impl Blocks for Scalar {
    type Block = Block;

    fn load(self, x: &Block) -> Block {
        *x
    }

    fn store(self, x: Block, to: &mut Block) {
        *to = x;
    }

    fn splat(self, x: i32) -> Block {
        [x; PANEL]
    }

    fn add(self, a: Block, b: Block) -> Block {
        std::array::from_fn(|j| a[j].wrapping_add(b[j]))
    }

    fn sub(self, a: Block, b: Block) -> Block {
        std::array::from_fn(|j| a[j].wrapping_sub(b[j]))
    }

    fn mul(self, a: Block, b: Block) -> Block {
        std::array::from_fn(|j| a[j].wrapping_mul(b[j]))
    }

    fn widen<const SIGNED: bool>(self, bytes: &[u8; PANEL]) -> Block {
        bytes.map(|byte| if SIGNED { i32::from(byte as i8) } else { i32::from(byte) })
    }

    fn requantize(self, x: Block, scales: Scales<'_>) -> Block {
        std::array::from_fn(|j| requantize(x[j], scales.fixed[j]))
    }

    fn store_bytes(self, x: Block, low: i32, high: i32, zero: i32, to: &mut [u8; PANEL]) {
        *to = x.map(|x| (x.clamp(low, high) + zero) as u8);
    }

    fn store_floats(
        self,
        x: Block,
        factor: f32,
        scales: &[f32; PANEL],
        bias: &[f32; PANEL],
        to: &mut [f32; PANEL],
    ) {
        *to = std::array::from_fn(|j| (x[j] as f32).mul_add(factor * scales[j], bias[j]));
    }
}

/// A method whose body is intrinsics.
#[cfg(target_arch = "x86_64")]
macro_rules! intrinsic {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) $(-> $ret)? {
            // SAFETY: the token proves that the instructions exist; arrays are as long as vectors.
            unsafe { $body }
        }
    )*};
}

/// Two AVX2 vectors, with FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair(());

#[cfg(target_arch = "x86_64")]
impl Pair {
    /// # Safety
    /// AVX2 and FMA exist.
    pub(super) unsafe fn promised() -> Pair {
        Pair(())
    }
}

#[cfg(target_arch = "x86_64")]
impl Blocks for Pair {
    type Block = [__m256i; 2];

    intrinsic! {
        fn load(x: &Block) -> [__m256i; 2] = {
            let p = x.as_ptr().cast::<__m256i>();
            [_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1))]
        };
        fn store(x: [__m256i; 2], to: &mut Block) = {
            let p = to.as_mut_ptr().cast::<__m256i>();
            _mm256_storeu_si256(p, x[0]);
            _mm256_storeu_si256(p.add(1), x[1]);
        };
        fn splat(x: i32) -> [__m256i; 2] = [_mm256_set1_epi32(x); 2];
        fn add(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] =
            [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])];
        fn sub(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] =
            [_mm256_sub_epi32(a[0], b[0]), _mm256_sub_epi32(a[1], b[1])];
        fn mul(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] =
            [_mm256_mullo_epi32(a[0], b[0]), _mm256_mullo_epi32(a[1], b[1])];
        fn requantize(x: [__m256i; 2], scales: Scales<'_>) -> [__m256i; 2] = [
            requantize_half(x[0], scales.real.as_ptr()),
            requantize_half(x[1], scales.real.as_ptr().add(8)),
        ];
        fn store_bytes(x: [__m256i; 2], low: i32, high: i32, zero: i32, to: &mut [u8; PANEL]) = {
            let (low, high) = (_mm256_set1_epi32(low), _mm256_set1_epi32(high));
            let (zero, byte) = (_mm256_set1_epi32(zero), _mm256_set1_epi32(0xff));
            let first = _mm256_min_epi32(high, _mm256_max_epi32(low, x[0]));
            let second = _mm256_min_epi32(high, _mm256_max_epi32(low, x[1]));
            let first = _mm256_and_si256(byte, _mm256_add_epi32(first, zero));
            let second = _mm256_and_si256(byte, _mm256_add_epi32(second, zero));
            // Packing goes by 128-bit lanes; the permutation puts the quarters in order.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(
                _mm256_packus_epi32(first, second),
            );
            let (words, rest) =
                (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm_packus_epi16(words, rest));
        };
    }

    #[inline(always)]
    fn widen<const SIGNED: bool>(self, bytes: &[u8; PANEL]) -> [__m256i; 2] {
        // SAFETY: the token proves that the instructions exist.
        unsafe {
            let first = _mm_loadl_epi64(bytes.as_ptr().cast());
            let second = _mm_loadl_epi64(bytes.as_ptr().add(8).cast());
            if SIGNED {
                [_mm256_cvtepi8_epi32(first), _mm256_cvtepi8_epi32(second)]
            } else {
                [_mm256_cvtepu8_epi32(first), _mm256_cvtepu8_epi32(second)]
            }
        }
    }

    #[inline(always)]
    fn store_floats(
        self,
        x: [__m256i; 2],
        factor: f32,
        scales: &[f32; PANEL],
        bias: &[f32; PANEL],
        to: &mut [f32; PANEL],
    ) {
        // SAFETY: the token proves that the instructions exist; arrays are as long as vectors.
        unsafe {
            let factor = _mm256_set1_ps(factor);
            for (half, x) in [(0, x[0]), (8, x[1])] {
                let scales = _mm256_loadu_ps(scales.as_ptr().add(half));
                let bias = _mm256_loadu_ps(bias.as_ptr().add(half));
                let scale = _mm256_mul_ps(factor, scales);
                let y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(x), scale, bias);
                _mm256_storeu_ps(to.as_mut_ptr().add(half), y);
            }
        }
    }
}

/// # Safety
/// AVX2 and FMA exist; 8 scales are readable.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn requantize_half(x: __m256i, scales: *const f64) -> __m256i {
    // SAFETY: by the caller's promise.
    unsafe { _mm256_permute4x64_epi64::<0b11_01_10_00>(scale_256(x, scales)) }
}

/// One AVX-512 vector.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Single(());

#[cfg(target_arch = "x86_64")]
impl Single {
    /// # Safety
    /// AVX-512 F, BW, VL and DQ exist.
    pub(super) unsafe fn promised() -> Single {
        Single(())
    }
}

#[cfg(target_arch = "x86_64")]
impl Blocks for Single {
    type Block = __m512i;

    intrinsic! {
        fn load(x: &Block) -> __m512i = _mm512_loadu_si512(x.as_ptr().cast());
        fn store(x: __m512i, to: &mut Block) = _mm512_storeu_si512(to.as_mut_ptr().cast(), x);
        fn splat(x: i32) -> __m512i = _mm512_set1_epi32(x);
        fn add(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        fn sub(a: __m512i, b: __m512i) -> __m512i = _mm512_sub_epi32(a, b);
        fn mul(a: __m512i, b: __m512i) -> __m512i = _mm512_mullo_epi32(a, b);
        fn requantize(x: __m512i, scales: Scales<'_>) -> __m512i = {
            let (first, second) = (_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64::<1>(x));
            let (whole, scales) = (_mm512_set1_pd(WHOLE), scales.real.as_ptr());
            let first = _mm512_fmadd_pd(_mm512_cvtepi32_pd(first), _mm512_loadu_pd(scales), whole);
            let scales = _mm512_loadu_pd(scales.add(8));
            let second = _mm512_fmadd_pd(_mm512_cvtepi32_pd(second), scales, whole);
            let first = _mm512_cvtepi64_epi32(_mm512_castpd_si512(first));
            let second = _mm512_cvtepi64_epi32(_mm512_castpd_si512(second));
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second)
        };
        fn store_bytes(x: __m512i, low: i32, high: i32, zero: i32, to: &mut [u8; PANEL]) = {
            let x = _mm512_max_epi32(_mm512_set1_epi32(low), x);
            let x = _mm512_min_epi32(_mm512_set1_epi32(high), x);
            let bytes = _mm512_cvtepi32_epi8(_mm512_add_epi32(x, _mm512_set1_epi32(zero)));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        };
    }

    #[inline(always)]
    fn widen<const SIGNED: bool>(self, bytes: &[u8; PANEL]) -> __m512i {
        // SAFETY: the token proves that the instructions exist.
        unsafe {
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            if SIGNED { _mm512_cvtepi8_epi32(bytes) } else { _mm512_cvtepu8_epi32(bytes) }
        }
    }

    #[inline(always)]
    fn store_floats(
        self,
        x: __m512i,
        factor: f32,
        scales: &[f32; PANEL],
        bias: &[f32; PANEL],
        to: &mut [f32; PANEL],
    ) {
        // SAFETY: the token proves that the instructions exist; arrays are as long as vectors.
        unsafe {
            let scales = _mm512_loadu_ps(scales.as_ptr());
            let scale = _mm512_mul_ps(_mm512_set1_ps(factor), scales);
            let bias = _mm512_loadu_ps(bias.as_ptr());
            let y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(x), scale, bias);
            _mm512_storeu_ps(to.as_mut_ptr(), y);
        }
    }
}
