//! From four vectors of 32-bit sums to one vector of bytes.
//!
//! Sums are requantised as in `blocks`, by one fused multiply-add of f64, and packed with
//! saturation: 32 to 16 bits, the zero point added, 16 to 8 bits, then clamped. Saturating and
//! adding keep the order of numbers, so the clamped result is that of the exact sum, as long as a
//! sum that saturates at 16 bits is beyond all bytes even with the zero point: hence [`Limits`]
//! takes only zero points between -256 and 256. Packing and shuffling go by 128-bit lanes; one
//! permutation at the end puts 64 bytes in order.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

#[cfg(any(test, target_arch = "x86_64"))]
use super::blocks::WHOLE;

/// Zero point and bounds of bytes, all raised by `flip` so that they are unsigned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(super) zero: i16,
    pub(super) low: u8,
    pub(super) high: u8,
    /// 0 for unsigned bytes, 0x80 for signed ones: what takes the raising back.
    pub(super) flip: u8,
}

impl Limits {
    /// `None` unless both bounds are unsigned bytes, or both signed ones, and the zero point is
    /// between -256 and 256.
    pub(crate) fn new(zero_point: i32, low: i32, high: i32) -> Option<Limits> {
        if !(-255..256).contains(&zero_point) {
            return None;
        }
        let flip = if low < 0 { 0x80 } else { 0 };
        let raised = |x: i32| u8::try_from(x.checked_add(flip.into())?).ok();
        let zero = i16::try_from(zero_point + i32::from(flip)).ok()?;
        Some(Limits { zero, low: raised(low)?, high: raised(high)?, flip })
    }
}

/// Four vectors of sums and the vector of bytes that they become.
pub(crate) trait Quad: Copy {
    /// i32 lanes in a vector: 8 or 16.
    const LANES: usize;
    type Sum: Copy;
    /// `4 * LANES` bytes.
    type Bytes: Copy;

    /// # Safety
    /// `LANES` elements are readable at `p`.
    unsafe fn load_sum(self, p: *const i32) -> Self::Sum;
    /// Bytes as numbers.
    ///
    /// # Safety
    /// `LANES` bytes are readable at `p`.
    unsafe fn widen_bytes<const SIGNED: bool>(self, p: *const u8) -> Self::Sum;
    /// `a * b + c` modulo 2^32.
    fn mul_add(self, a: Self::Sum, b: Self::Sum, c: Self::Sum) -> Self::Sum;
    /// `clamp(round_ties_even(sum * scale) + zero, low, high)`, one vector after the other; if
    /// `APART`, four lanes of each vector in turn.
    ///
    /// # Safety
    /// `LANES` scales below 1, one for each lane, are readable at every pointer.
    unsafe fn narrow<const APART: bool>(
        self,
        sums: [Self::Sum; 4],
        scales: [*const f64; 4],
        limits: &Limits,
    ) -> Self::Bytes;
    /// # Safety
    /// `4 * LANES` bytes are writable at `to`.
    unsafe fn store_whole(self, bytes: Self::Bytes, to: *mut u8);
    /// # Safety
    /// `2 * LANES` bytes are writable at both pointers.
    unsafe fn store_halves(self, bytes: Self::Bytes, to: [*mut u8; 2]);
    /// # Safety
    /// `LANES` bytes are writable at every pointer.
    unsafe fn store_quarters(self, bytes: Self::Bytes, to: [*mut u8; 4]);
}

/// Copies fewer than 64 bytes.
///
/// # Safety
/// `count` bytes are readable at `from` and writable at `to`, which do not overlap.
#[inline(always)]
pub(crate) unsafe fn copy_few(mut from: *const u8, mut to: *mut u8, count: usize) {
    macro_rules! pieces {
        ($($len:literal)*) => {$(
            if count & $len != 0 {
                // SAFETY: the pieces add up to `count` bytes.
                unsafe {
                    let piece = from.cast::<[u8; $len]>().read_unaligned();
                    to.cast::<[u8; $len]>().write_unaligned(piece);
                    (from, to) = (from.add($len), to.add($len));
                }
            }
        )*};
    }
    pieces!(32 16 8 4 2 1);
    let _ = (from, to);
}

/// Where 16-bit words of a vector of bytes come from.
#[cfg(target_arch = "x86_64")]
#[repr(align(64))]
struct Order([u16; 32]);

/// One vector after the other.
#[cfg(target_arch = "x86_64")]
static IN_TURN: Order = {
    let mut order = [0; 32];
    let mut to = 0;
    while to < 32 {
        let (vector, pair) = (to / 8, to % 8);
        order[to] = (8 * (pair % 4) + 2 * vector + pair / 4) as u16;
        to += 1;
    }
    Order(order)
};

/// Four lanes of each vector in turn.
#[cfg(target_arch = "x86_64")]
static BY_FOURS: Order = {
    let mut order = [0; 32];
    let mut to = 0;
    while to < 32 {
        let (vector, pair) = (to % 8 / 2, to / 8 * 2 + to % 2);
        order[to] = (8 * (pair % 4) + 2 * vector + pair / 4) as u16;
        to += 1;
    }
    Order(order)
};

/// # Safety
/// AVX-512 F exists; 16 scales are readable.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn scale_512(x: __m512i, scales: *const f64) -> __m512i {
    // SAFETY: by the caller's promise.
    unsafe {
        let whole = _mm512_set1_pd(WHOLE);
        let first = _mm512_cvtepi32_pd(_mm512_castsi512_si256(x));
        let second = _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64::<1>(x));
        let first = _mm512_fmadd_pd(first, _mm512_loadu_pd(scales), whole);
        let second = _mm512_fmadd_pd(second, _mm512_loadu_pd(scales.add(8)), whole);
        let (first, second) = (_mm512_castpd_ps(first), _mm512_castpd_ps(second));
        _mm512_castps_si512(_mm512_shuffle_ps::<0b10_00_10_00>(first, second))
    }
}

/// [`Quad::narrow`] of 64 bytes.
///
/// # Safety
/// AVX-512 F and BW exist; 16 scales are readable at every pointer.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn narrow_512<const APART: bool>(
    sums: [__m512i; 4],
    scales: [*const f64; 4],
    limits: &Limits,
) -> __m512i {
    // SAFETY: by the caller's promise.
    unsafe {
        let zero = _mm512_set1_epi16(limits.zero);
        let first = scale_512(sums[0], scales[0]);
        let first = _mm512_packs_epi32(first, scale_512(sums[1], scales[1]));
        let second = scale_512(sums[2], scales[2]);
        let second = _mm512_packs_epi32(second, scale_512(sums[3], scales[3]));
        let first = _mm512_adds_epi16(first, zero);
        let second = _mm512_adds_epi16(second, zero);
        let bytes = _mm512_packus_epi16(first, second);
        let order = if APART { &BY_FOURS } else { &IN_TURN };
        let bytes = _mm512_permutexvar_epi16(_mm512_load_si512(order.0.as_ptr().cast()), bytes);
        let bytes = _mm512_max_epu8(bytes, _mm512_set1_epi8(limits.low as i8));
        let bytes = _mm512_min_epu8(bytes, _mm512_set1_epi8(limits.high as i8));
        _mm512_xor_si512(bytes, _mm512_set1_epi8(limits.flip as i8))
    }
}

/// Sums times scales, rounded: lanes 0, 1, 4, 5, 2, 3, 6 and 7.
///
/// # Safety
/// AVX2 and FMA exist; 8 scales are readable.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn scale_256(x: __m256i, scales: *const f64) -> __m256i {
    // SAFETY: by the caller's promise.
    unsafe {
        let whole = _mm256_set1_pd(WHOLE);
        let first = _mm256_cvtepi32_pd(_mm256_castsi256_si128(x));
        let second = _mm256_cvtepi32_pd(_mm256_extracti128_si256::<1>(x));
        let first = _mm256_fmadd_pd(first, _mm256_loadu_pd(scales), whole);
        let second = _mm256_fmadd_pd(second, _mm256_loadu_pd(scales.add(4)), whole);
        let (first, second) = (_mm256_castpd_ps(first), _mm256_castpd_ps(second));
        _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(first, second))
    }
}

/// [`Quad::narrow`] of 32 bytes.
///
/// # Safety
/// AVX2 and FMA exist; 8 scales are readable at every pointer.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn narrow_256<const APART: bool>(
    sums: [__m256i; 4],
    scales: [*const f64; 4],
    limits: &Limits,
) -> __m256i {
    // SAFETY: by the caller's promise.
    unsafe {
        let zero = _mm256_set1_epi16(limits.zero);
        let first = scale_256(sums[0], scales[0]);
        let first = _mm256_packs_epi32(first, scale_256(sums[1], scales[1]));
        let second = scale_256(sums[2], scales[2]);
        let second = _mm256_packs_epi32(second, scale_256(sums[3], scales[3]));
        let first = _mm256_adds_epi16(first, zero);
        let second = _mm256_adds_epi16(second, zero);
        let mut bytes = _mm256_packus_epi16(first, second);
        if APART {
            let even_first = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
            bytes = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(even_first));
        }
        let bytes = _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes);
        let zip = _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
        let bytes = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(zip));
        let bytes = _mm256_max_epu8(bytes, _mm256_set1_epi8(limits.low as i8));
        let bytes = _mm256_min_epu8(bytes, _mm256_set1_epi8(limits.high as i8));
        _mm256_xor_si256(bytes, _mm256_set1_epi8(limits.flip as i8))
    }
}

/// The methods of [`Quad`] for 256-bit vectors.
#[cfg(target_arch = "x86_64")]
macro_rules! quad_256 {
    () => {
        const LANES: usize = 8;
        type Sum = __m256i;
        type Bytes = __m256i;

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn load_sum(self, p: *const i32) -> __m256i {
            // SAFETY: by the caller's promise and the token.
            unsafe { _mm256_loadu_si256(p.cast()) }
        }

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn widen_bytes<const SIGNED: bool>(self, p: *const u8) -> __m256i {
            // SAFETY: by the caller's promise and the token.
            unsafe {
                let bytes = _mm_loadl_epi64(p.cast());
                if SIGNED { _mm256_cvtepi8_epi32(bytes) } else { _mm256_cvtepu8_epi32(bytes) }
            }
        }

        #[inline(always)]
        fn mul_add(self, a: __m256i, b: __m256i, c: __m256i) -> __m256i {
            // SAFETY: the token proves that the instructions exist.
            unsafe { _mm256_add_epi32(_mm256_mullo_epi32(a, b), c) }
        }

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn narrow<const APART: bool>(
            self,
            sums: [__m256i; 4],
            scales: [*const f64; 4],
            limits: &Limits,
        ) -> __m256i {
            // SAFETY: by the caller's promise and the token.
            unsafe { narrow_256::<APART>(sums, scales, limits) }
        }

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn store_whole(self, bytes: __m256i, to: *mut u8) {
            // SAFETY: by the caller's promise and the token.
            unsafe { _mm256_storeu_si256(to.cast(), bytes) }
        }

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn store_halves(self, bytes: __m256i, to: [*mut u8; 2]) {
            // SAFETY: by the caller's promise and the token.
            unsafe {
                _mm_storeu_si128(to[0].cast(), _mm256_castsi256_si128(bytes));
                _mm_storeu_si128(to[1].cast(), _mm256_extracti128_si256::<1>(bytes));
            }
        }

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn store_quarters(self, bytes: __m256i, to: [*mut u8; 4]) {
            // SAFETY: by the caller's promise and the token.
            unsafe {
                let (low, high) =
                    (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
                _mm_storel_epi64(to[0].cast(), low);
                _mm_storel_epi64(to[1].cast(), _mm_unpackhi_epi64(low, low));
                _mm_storel_epi64(to[2].cast(), high);
                _mm_storel_epi64(to[3].cast(), _mm_unpackhi_epi64(high, high));
            }
        }
    };
}

/// The methods of [`Quad`] for 512-bit vectors.
#[cfg(target_arch = "x86_64")]
macro_rules! quad_512 {
    () => {
        const LANES: usize = 16;
        type Sum = __m512i;
        type Bytes = __m512i;

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn load_sum(self, p: *const i32) -> __m512i {
            // SAFETY: by the caller's promise and the token.
            unsafe { _mm512_loadu_si512(p.cast()) }
        }

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn widen_bytes<const SIGNED: bool>(self, p: *const u8) -> __m512i {
            // SAFETY: by the caller's promise and the token.
            unsafe {
                let bytes = _mm_loadu_si128(p.cast());
                if SIGNED { _mm512_cvtepi8_epi32(bytes) } else { _mm512_cvtepu8_epi32(bytes) }
            }
        }

        #[inline(always)]
        fn mul_add(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
            // SAFETY: the token proves that the instructions exist.
            unsafe { _mm512_add_epi32(_mm512_mullo_epi32(a, b), c) }
        }

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn narrow<const APART: bool>(
            self,
            sums: [__m512i; 4],
            scales: [*const f64; 4],
            limits: &Limits,
        ) -> __m512i {
            // SAFETY: by the caller's promise and the token.
            unsafe { narrow_512::<APART>(sums, scales, limits) }
        }

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn store_whole(self, bytes: __m512i, to: *mut u8) {
            // SAFETY: by the caller's promise and the token.
            unsafe { _mm512_storeu_si512(to.cast(), bytes) }
        }

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn store_halves(self, bytes: __m512i, to: [*mut u8; 2]) {
            // SAFETY: by the caller's promise and the token.
            unsafe {
                _mm256_storeu_si256(to[0].cast(), _mm512_castsi512_si256(bytes));
                _mm256_storeu_si256(to[1].cast(), _mm512_extracti64x4_epi64::<1>(bytes));
            }
        }

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn store_quarters(self, bytes: __m512i, to: [*mut u8; 4]) {
            // SAFETY: by the caller's promise and the token.
            unsafe {
                _mm_storeu_si128(to[0].cast(), _mm512_castsi512_si128(bytes));
                _mm_storeu_si128(to[1].cast(), _mm512_extracti32x4_epi32::<1>(bytes));
                _mm_storeu_si128(to[2].cast(), _mm512_extracti32x4_epi32::<2>(bytes));
                _mm_storeu_si128(to[3].cast(), _mm512_extracti32x4_epi32::<3>(bytes));
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub(super) use {quad_256, quad_512};

#[cfg(test)]
impl Quad for crate::simd::Portable {
    const LANES: usize = 16;
    type Sum = [i32; 16];
    type Bytes = [u8; 64];

    unsafe fn load_sum(self, p: *const i32) -> [i32; 16] {
        // SAFETY: by the caller's promise.
        unsafe { p.cast::<[i32; 16]>().read() }
    }

    unsafe fn widen_bytes<const SIGNED: bool>(self, p: *const u8) -> [i32; 16] {
        // SAFETY: by the caller's promise.
        let bytes = unsafe { p.cast::<[u8; 16]>().read() };
        bytes.map(|byte| if SIGNED { i32::from(byte as i8) } else { i32::from(byte) })
    }

    fn mul_add(self, a: [i32; 16], b: [i32; 16], c: [i32; 16]) -> [i32; 16] {
        std::array::from_fn(|i| a[i].wrapping_mul(b[i]).wrapping_add(c[i]))
    }

    unsafe fn narrow<const APART: bool>(
        self,
        sums: [[i32; 16]; 4],
        scales: [*const f64; 4],
        limits: &Limits,
    ) -> [u8; 64] {
        std::array::from_fn(|to| {
            let (vector, lane) = match APART {
                true => (to % 16 / 4, to / 16 * 4 + to % 4),
                false => (to / 16, to % 16),
            };
            // SAFETY: by the caller's promise.
            let scale = unsafe { *scales[vector].add(lane) };
            let scaled = f64::from(sums[vector][lane]).mul_add(scale, WHOLE).to_bits() as i32;
            let raised = scaled.saturating_add(limits.zero.into());
            (raised.clamp(limits.low.into(), limits.high.into()) as u8) ^ limits.flip
        })
    }

    unsafe fn store_whole(self, bytes: [u8; 64], to: *mut u8) {
        // SAFETY: by the caller's promise.
        unsafe { to.cast::<[u8; 64]>().write(bytes) }
    }

    unsafe fn store_halves(self, bytes: [u8; 64], to: [*mut u8; 2]) {
        for (to, half) in to.into_iter().zip(bytes.as_chunks::<32>().0) {
            // SAFETY: by the caller's promise.
            unsafe { to.cast::<[u8; 32]>().write(*half) }
        }
    }

    unsafe fn store_quarters(self, bytes: [u8; 64], to: [*mut u8; 4]) {
        for (to, quarter) in to.into_iter().zip(bytes.as_chunks::<16>().0) {
            // SAFETY: by the caller's promise.
            unsafe { to.cast::<[u8; 16]>().write(*quarter) }
        }
    }
}

#[cfg(test)]
mod tests {
    use landfall_tensor::{FixedPointScale, requantize};
    use proptest::prelude::*;

    use super::*;
    use crate::Cpu;
    use crate::quant::blocks::real_scale;
    use crate::quant::interleave::channel;
    use crate::quant::lanes::{Dot, DotOp, dispatch};
    use crate::simd::Portable;

    const ALL: usize = 64;

    /// Zero point and bounds.
    type Range = (i32, i32, i32);

    /// Sums with their scales, 64 of both.
    #[derive(Clone, Copy)]
    struct Numbers<'a> {
        sums: &'a [i32],
        fixed: &'a [FixedPointScale],
        range: Range,
    }

    impl Numbers<'_> {
        /// Compares every byte with the scalar rule.
        fn check<Q: Quad, const APART: bool>(&self, q: Q) -> Result<(), TestCaseError> {
            let (zero_point, low, high) = self.range;
            let limits = Limits::new(zero_point, low, high).unwrap();
            let real: Vec<f64> = self.fixed.iter().copied().map(real_scale).collect();
            for first in (0..ALL).step_by(4 * Q::LANES) {
                let vector = |v: usize| first + v * Q::LANES;
                let mut bytes = [0u8; ALL];
                // SAFETY: sums, scales and bytes are as many as vectors have.
                unsafe {
                    let sums = [0, 1, 2, 3].map(|v| q.load_sum(self.sums[vector(v)..].as_ptr()));
                    let scales = [0, 1, 2, 3].map(|v| real[vector(v)..].as_ptr());
                    let narrow = q.narrow::<APART>(sums, scales, &limits);
                    q.store_whole(narrow, bytes.as_mut_ptr());
                }
                for (v, lane) in (0..4).flat_map(|v| (0..Q::LANES).map(move |lane| (v, lane))) {
                    let (sum, scale) = (self.sums[vector(v) + lane], self.fixed[vector(v) + lane]);
                    let to = if APART { channel(v, lane) } else { v * Q::LANES + lane };
                    let exact = i64::from(requantize(sum, scale)) + i64::from(zero_point);
                    let expected = exact.clamp(low.into(), high.into()) as u8;
                    prop_assert_eq!(bytes[to], expected, "{} {:?} {:?}", sum, scale, self.range);
                }
            }
            Ok(())
        }
    }

    struct Check<'a>(Numbers<'a>, &'a mut Result<(), TestCaseError>);

    impl DotOp for Check<'_> {
        #[inline(always)]
        fn eval<D: Dot>(self, d: D) {
            let Check(numbers, result) = self;
            *result = numbers
                .check::<D, false>(d)
                .and_then(|()| numbers.check::<D, true>(d))
                .and_then(|()| numbers.check::<D::Half, false>(d.half()))
                .and_then(|()| numbers.check::<D::Half, true>(d.half()));
        }
    }

    fn check(numbers: Numbers<'_>) -> Result<(), TestCaseError> {
        for cpu in Cpu::tested() {
            let mut result = Ok(());
            dispatch(cpu, Check(numbers, &mut result));
            result?;
        }
        let mut result = Ok(());
        Dot::run(Portable, Check(numbers, &mut result));
        result
    }

    fn sums() -> impl Strategy<Value = i32> {
        let extremes = [i32::MIN, i32::MIN + 1, -1, 0, 1, i32::MAX - 1, i32::MAX];
        prop_oneof![
            any::<i32>(),
            -100_000..100_000i32,
            prop::sample::select(extremes.to_vec()),
            // Of few bits: ties where the scale is a power of two.
            (any::<i8>(), 0u32..24).prop_map(|(x, shift)| i32::from(x) << shift),
        ]
    }

    /// Below 1, of every magnitude.
    fn scales() -> impl Strategy<Value = FixedPointScale> {
        let exact = (1i32..40).prop_map(|exponent| 2f64.powi(-exponent));
        let any = (0.5..1.0f64, 0i32..40).prop_map(|(x, exponent)| x * 2f64.powi(-exponent));
        let largest = FixedPointScale { mantissa: i32::MAX, shift: 31 };
        let zero = FixedPointScale { mantissa: 0, shift: 31 };
        let new = |scale: f64| match FixedPointScale::new(scale).unwrap() {
            scale if scale.mantissa == 0 => FixedPointScale { mantissa: 0, shift: 31 },
            scale if scale.shift < 31 => FixedPointScale { mantissa: i32::MAX, shift: 31 },
            scale => scale,
        };
        prop_oneof![exact.prop_map(new), any.prop_map(new), Just(largest), Just(zero)]
    }

    fn ranges() -> impl Strategy<Value = Range> {
        let bytes = prop_oneof![Just((-128, 127)), Just((0, 255))];
        let bounds = bytes.prop_flat_map(|(low, high)| (low..=high, low..=high));
        (-255i32..256, bounds)
            .prop_map(|(zero, (a, b)): (i32, (i32, i32))| (zero, a.min(b), a.max(b)))
    }

    proptest! {
        #[test]
        fn narrowing_is_the_scalar_rule(
            sums in prop::collection::vec(sums(), ALL),
            fixed in prop::collection::vec(scales(), ALL),
            range in ranges(),
        ) {
            check(Numbers { sums: &sums, fixed: &fixed, range })?;
        }
    }

    #[test]
    fn only_bytes_are_limits() {
        for range in [(0, 0, 255), (255, 3, 4), (-255, -128, 127), (5, -1, 0)] {
            assert!(Limits::new(range.0, range.1, range.2).is_some(), "{range:?}");
        }
        let refused =
            [(256, 0, 255), (-256, 0, 255), (i32::MAX, 0, 1), (0, -1, 128), (0, 0, i32::MAX)];
        for range in refused {
            assert!(Limits::new(range.0, range.1, range.2).is_none(), "{range:?}");
        }
        assert!(Limits::new(0, i32::MIN, 0).is_none());
    }
}
