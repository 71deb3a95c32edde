//! Transposition of one block of a matrix.

use crate::Cpu;
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx2;
#[cfg(target_arch = "aarch64")]
use crate::simd::Neon;

/// `to[c][r] = from[r][c]` for `rows` × `columns` elements; both come with the distance of rows.
///
/// # Safety
/// All elements addressed are readable, or writable by this thread alone.
pub(crate) unsafe fn transpose_block<T: Copy>(
    cpu: Cpu,
    (rows, columns): (usize, usize),
    (from, from_stride): (*const T, usize),
    (to, to_stride): (*mut T, usize),
) {
    // SAFETY: by the caller's promise; four-byte elements are moved, never interpreted.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if size_of::<T>() == 4
            && let Some(token) = Avx2::prove(cpu)
        {
            let (from, to) = ((from.cast(), from_stride), (to.cast(), to_stride));
            return x86::transpose_words(token, (rows, columns), from, to);
        }
        #[cfg(target_arch = "x86_64")]
        if size_of::<T>() == 1
            && (rows, to_stride) == (3, 3)
            && let Some(token) = Avx2::prove(cpu)
        {
            return x86::zip_three_bytes(token, columns, (from.cast(), from_stride), to.cast());
        }
        #[cfg(target_arch = "aarch64")]
        if size_of::<T>() == 4
            && let Some(token) = Neon::prove(cpu)
        {
            let (from, to) = ((from.cast(), from_stride), (to.cast(), to_stride));
            return aarch64::transpose_words(token, (rows, columns), from, to);
        }
        #[cfg(target_arch = "aarch64")]
        if size_of::<T>() == 1
            && (rows, to_stride) == (3, 3)
            && let Some(token) = Neon::prove(cpu)
        {
            return aarch64::zip_three_bytes(token, columns, (from.cast(), from_stride), to.cast());
        }
        let _ = cpu;
        transpose_scalar((0..rows, 0..columns), (from, from_stride), (to, to_stride));
    }
}

/// # Safety
/// As [`transpose_block`].
#[inline(always)]
unsafe fn transpose_scalar<T: Copy>(
    (rows, columns): (std::ops::Range<usize>, std::ops::Range<usize>),
    (from, from_stride): (*const T, usize),
    (to, to_stride): (*mut T, usize),
) {
    const SIDE: usize = 16;
    for first_row in rows.clone().step_by(SIDE) {
        for column in columns.clone() {
            for row in first_row..rows.end.min(first_row + SIDE) {
                // SAFETY: by the caller's promise.
                unsafe {
                    *to.add(column * to_stride + row) = *from.add(row * from_stride + column)
                };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::array::from_fn;
    use std::ops::Range;

    use super::*;

    /// # Safety
    /// As [`transpose_block`].
    pub(super) unsafe fn transpose_words(
        _: Avx2,
        shape: (usize, usize),
        from: (*const f32, usize),
        to: (*mut f32, usize),
    ) {
        // SAFETY: the token proves AVX2; the rest is the caller's promise.
        unsafe { words(shape, from, to) }
    }

    /// Where the bytes of three planes go: for each 16 of the 48 bytes that 16 columns make, for
    /// each plane, which column, or none.
    const ZIP: [[[i8; 16]; 3]; 3] = {
        let mut zip = [[[-1; 16]; 3]; 3];
        let mut to = 0;
        while to < 48 {
            zip[to / 16][to % 3][to % 16] = (to / 3) as i8;
            to += 1;
        }
        zip
    };

    /// Three rows of bytes side by side: an image's planes.
    ///
    /// # Safety
    /// As [`transpose_block`], for three rows and results that lie together.
    pub(super) unsafe fn zip_three_bytes(
        _: Avx2,
        columns: usize,
        from: (*const u8, usize),
        to: *mut u8,
    ) {
        // SAFETY: the token proves AVX2; the rest is the caller's promise.
        unsafe { three_bytes(columns, from, to) }
    }

    /// # Safety
    /// As [`zip_three_bytes`].
    #[target_feature(enable = "avx2")]
    unsafe fn three_bytes(columns: usize, (from, stride): (*const u8, usize), to: *mut u8) {
        let whole = columns & !15;
        // SAFETY: by the caller's promise.
        unsafe {
            for column in (0..whole).step_by(16) {
                let planes: [__m128i; 3] =
                    from_fn(|i| _mm_loadu_si128(from.add(i * stride + column).cast()));
                for (i, zip) in ZIP.iter().enumerate() {
                    let parts: [__m128i; 3] = from_fn(|plane| {
                        let order = _mm_loadu_si128(zip[plane].as_ptr().cast());
                        _mm_shuffle_epi8(planes[plane], order)
                    });
                    let bytes = _mm_or_si128(_mm_or_si128(parts[0], parts[1]), parts[2]);
                    _mm_storeu_si128(to.add(column * 3 + i * 16).cast(), bytes);
                }
            }
            transpose_scalar((0..3, whole..columns), (from, stride), (to, 3));
        }
    }

    /// # Safety
    /// As [`transpose_block`].
    #[target_feature(enable = "avx2")]
    unsafe fn words(
        (rows, columns): (usize, usize),
        (from, from_stride): (*const f32, usize),
        (to, to_stride): (*mut f32, usize),
    ) {
        let (whole_rows, whole_columns) = (rows & !7, columns & !7);
        // SAFETY: by the caller's promise.
        unsafe {
            for column in (0..whole_columns).step_by(8) {
                for row in (0..whole_rows).step_by(8) {
                    let from = from.add(row * from_stride + column);
                    eight(from, from_stride, to.add(column * to_stride + row), to_stride);
                }
            }
            edge((whole_rows..rows, 0..whole_columns), (from, from_stride), (to, to_stride));
            edge((0..rows, whole_columns..columns), (from, from_stride), (to, to_stride));
        }
    }

    /// What is left of a matrix: blocks of four rows of four, then single elements.
    ///
    /// # Safety
    /// As [`transpose_block`].
    #[target_feature(enable = "avx2")]
    unsafe fn edge(
        (rows, columns): (Range<usize>, Range<usize>),
        (from, from_stride): (*const f32, usize),
        (to, to_stride): (*mut f32, usize),
    ) {
        let (whole_rows, whole_columns) = (rows.len() & !3, columns.len() & !3);
        // SAFETY: by the caller's promise.
        unsafe {
            for column in columns.clone().step_by(4).take(whole_columns / 4) {
                for row in rows.clone().step_by(4).take(whole_rows / 4) {
                    let from = from.add(row * from_stride + column);
                    four(from, from_stride, to.add(column * to_stride + row), to_stride);
                }
            }
            let (from, to) = ((from, from_stride), (to, to_stride));
            let (last_row, last_column) = (rows.start + whole_rows, columns.start + whole_columns);
            transpose_scalar((last_row..rows.end, columns.start..last_column), from, to);
            transpose_scalar((rows, last_column..columns.end), from, to);
        }
    }

    /// Four rows of four.
    ///
    /// # Safety
    /// As [`transpose_block`].
    #[target_feature(enable = "avx2")]
    unsafe fn four(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: by the caller's promise.
        let r: [__m128; 4] = from_fn(|i| unsafe { _mm_loadu_ps(from.add(i * from_stride)) });
        let (low, high) = (_mm_unpacklo_ps(r[0], r[1]), _mm_unpackhi_ps(r[0], r[1]));
        let (low_2, high_2) = (_mm_unpacklo_ps(r[2], r[3]), _mm_unpackhi_ps(r[2], r[3]));
        let columns = [
            _mm_movelh_ps(low, low_2),
            _mm_movehl_ps(low_2, low),
            _mm_movelh_ps(high, high_2),
            _mm_movehl_ps(high_2, high),
        ];
        for (i, column) in columns.into_iter().enumerate() {
            // SAFETY: by the caller's promise.
            unsafe { _mm_storeu_ps(to.add(i * to_stride), column) };
        }
    }

    /// Eight rows of eight.
    ///
    /// # Safety
    /// As [`transpose_block`].
    #[target_feature(enable = "avx2")]
    unsafe fn eight(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: by the caller's promise.
        let r: [__m256; 8] = from_fn(|i| unsafe { _mm256_loadu_ps(from.add(i * from_stride)) });
        // Pairs of rows interleaved, then pairs of pairs: each half holds four rows of one column.
        let pairs: [__m256; 8] = from_fn(|i| match i % 2 {
            0 => _mm256_unpacklo_ps(r[i], r[i + 1]),
            _ => _mm256_unpackhi_ps(r[i - 1], r[i]),
        });
        let quads: [__m256; 8] = from_fn(|i| {
            let (a, b) = (pairs[i / 4 * 4 + i % 4 / 2], pairs[i / 4 * 4 + i % 4 / 2 + 2]);
            match i % 2 {
                0 => _mm256_shuffle_ps::<0x44>(a, b),
                _ => _mm256_shuffle_ps::<0xee>(a, b),
            }
        });
        for i in 0..4 {
            let low = _mm256_permute2f128_ps::<0x20>(quads[i], quads[i + 4]);
            let high = _mm256_permute2f128_ps::<0x31>(quads[i], quads[i + 4]);
            // SAFETY: by the caller's promise.
            unsafe {
                _mm256_storeu_ps(to.add(i * to_stride), low);
                _mm256_storeu_ps(to.add((i + 4) * to_stride), high);
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use std::arch::aarch64::*;
    use std::array::from_fn;

    use super::*;

    /// Three rows of bytes side by side: an image's planes.
    ///
    /// # Safety
    /// As [`transpose_block`], for three rows and results that lie together.
    pub(super) unsafe fn zip_three_bytes(
        _: Neon,
        columns: usize,
        (from, stride): (*const u8, usize),
        to: *mut u8,
    ) {
        let whole = columns & !15;
        // SAFETY: the token proves the instructions; the rest is the caller's promise.
        unsafe {
            for column in (0..whole).step_by(16) {
                let [a, b, c]: [uint8x16_t; 3] =
                    from_fn(|i| vld1q_u8(from.add(i * stride + column)));
                vst3q_u8(to.add(column * 3), uint8x16x3_t(a, b, c));
            }
            transpose_scalar((0..3, whole..columns), (from, stride), (to, 3));
        }
    }

    /// # Safety
    /// As [`transpose_block`].
    pub(super) unsafe fn transpose_words(
        _: Neon,
        (rows, columns): (usize, usize),
        (from, from_stride): (*const f32, usize),
        (to, to_stride): (*mut f32, usize),
    ) {
        let (whole_rows, whole_columns) = (rows & !3, columns & !3);
        // SAFETY: the token proves the instructions; the rest is the caller's promise.
        unsafe {
            for column in (0..whole_columns).step_by(4) {
                for row in (0..whole_rows).step_by(4) {
                    let from = from.add(row * from_stride + column);
                    four(from, from_stride, to.add(column * to_stride + row), to_stride);
                }
            }
            let (from, to) = ((from, from_stride), (to, to_stride));
            transpose_scalar((whole_rows..rows, 0..whole_columns), from, to);
            transpose_scalar((0..rows, whole_columns..columns), from, to);
        }
    }

    /// Four rows of four.
    ///
    /// # Safety
    /// As [`transpose_block`]; Advanced SIMD exists.
    #[inline(always)]
    unsafe fn four(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: by the caller's promise.
        unsafe {
            let [a, b, c, d]: [float32x4_t; 4] = from_fn(|i| vld1q_f32(from.add(i * from_stride)));
            let (ac, bd) = (vzip1q_f32(a, c), vzip1q_f32(b, d));
            vst1q_f32(to, vzip1q_f32(ac, bd));
            vst1q_f32(to.add(to_stride), vzip2q_f32(ac, bd));
            let (ac, bd) = (vzip2q_f32(a, c), vzip2q_f32(b, d));
            vst1q_f32(to.add(2 * to_stride), vzip1q_f32(ac, bd));
            vst1q_f32(to.add(3 * to_stride), vzip2q_f32(ac, bd));
        }
    }
}
