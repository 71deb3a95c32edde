//! Dot products of four unsigned by four signed bytes, added to 32-bit lanes, per instruction set.
//! All are exact: AVX2 widens to 16 bits, since its byte product saturates. Those of AArch64 are in
//! `neon`.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::blocks::Blocks;
#[cfg(test)]
use super::blocks::Scalar;
#[cfg(target_arch = "x86_64")]
use super::blocks::{Pair, Single};
use super::interleave::Taps;
#[cfg(target_arch = "x86_64")]
use super::narrow::Quad;
#[cfg(target_arch = "aarch64")]
use super::neon::{Dotprod, I8mm};
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx2;
#[cfg(target_arch = "aarch64")]
use crate::simd::Neon;
use crate::{Cpu, Isa};

/// A computation generic over the instruction set.
pub(crate) trait DotOp {
    fn eval<D: Dot>(self, d: D);
}

/// Lanes of 32-bit sums.
pub(crate) trait Dot: Taps {
    type Blocks: Blocks;
    /// Vectors of half the length, or the same if these are the shortest.
    type Half: Taps;
    /// Rows of a tile that is two vectors wide.
    const TILE_ROWS: usize;
    /// Four elements of a row, in every lane.
    type Row: Copy;
    /// Four bytes of each of `LANES` columns.
    type Columns: Copy;

    /// Evaluates `op` in a function compiled for this instruction set.
    fn run<O: DotOp>(self, op: O);
    /// Bytes that four elements of a row take once prepared.
    const ROW_BYTES: usize;
    /// Makes elements as [`Taps::LEFT_SIGNED`] says of four bytes, flipped by `flip`, in the form
    /// that `row` reads: the same bytes if `ROW_BYTES` is 4.
    ///
    /// # Safety
    /// `len`, a multiple of 4, bytes are readable at `from`, `len / 4 * ROW_BYTES` writable at
    /// `to`.
    unsafe fn prepare(self, from: *const u8, len: usize, flip: u8, to: *mut u8);
    /// # Safety
    /// `ROW_BYTES` prepared bytes are readable at `p`.
    unsafe fn row(self, p: *const u8) -> Self::Row;
    /// # Safety
    /// `4 * LANES` bytes are readable at `p`.
    unsafe fn columns(self, p: *const i8) -> Self::Columns;
    fn dot(self, sum: Self::Sum, row: Self::Row, columns: Self::Columns) -> Self::Sum;
    /// # Safety
    /// `LANES` elements are writable at `p`.
    unsafe fn store(self, p: *mut i32, sum: Self::Sum);
    /// The arithmetic of 16 lanes.
    fn blocks(self) -> Self::Blocks;
    fn half(self) -> Self::Half;
}

/// Prepares a row that is read as it is, but flipped.
///
/// # Safety
/// `len` bytes are readable at `from` and writable at `to`.
#[inline(always)]
pub(super) unsafe fn flip_bytes(from: *const u8, len: usize, flip: u8, to: *mut u8) {
    // SAFETY: by the caller's promise; the row and its copy are distinct.
    let (from, to) =
        unsafe { (std::slice::from_raw_parts(from, len), std::slice::from_raw_parts_mut(to, len)) };
    let ((wide_to, to), (wide, from)) = (to.as_chunks_mut::<64>(), from.as_chunks::<64>());
    for (to, from) in wide_to.iter_mut().zip(wide) {
        (0..64).for_each(|i| to[i] = from[i] ^ flip);
    }
    let ((narrow_to, _), (narrow, _)) = (to.as_chunks_mut::<16>(), from.as_chunks::<16>());
    for (to, from) in narrow_to.iter_mut().zip(narrow) {
        (0..16).for_each(|i| to[i] = from[i] ^ flip);
    }
    let done = narrow.len() * 16;
    to[done..].iter_mut().zip(&from[done..]).for_each(|(to, from)| *to = from ^ flip);
}

/// Evaluates `op` with the best dot product of `cpu`; AVX-512 without VNNI runs the AVX2 one.
/// `false` on [`Isa::Reference`].
pub(crate) fn dispatch<O: DotOp>(cpu: Cpu, op: O) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(d) = Avx512Vnni::prove(cpu) {
            d.run(op);
            return true;
        }
        if let Some(d) = AvxVnni::prove(cpu) {
            d.run(op);
            return true;
        }
        if let Some(d) = Avx2::prove(cpu) {
            d.run(op);
            return true;
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        if let Some(d) = I8mm::prove(cpu) {
            d.run(op);
            return true;
        }
        if let Some(d) = Dotprod::prove(cpu) {
            d.run(op);
            return true;
        }
        if let Some(d) = Neon::prove(cpu) {
            d.run(op);
            return true;
        }
    }
    let _ = op;
    debug_assert_eq!(cpu.isa(), Isa::Reference);
    false
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::interleave::{plain_taps, taps};
    use super::super::narrow::{Limits, narrow_256, narrow_512, quad_256, quad_512};
    use super::*;

    #[target_feature(enable = "avx2,fma")]
    fn enter_avx2<O: DotOp>(d: Avx2, op: O) {
        op.eval(d);
    }

    impl Quad for Avx2 {
        quad_256!();
    }

    impl Taps for Avx2 {
        /// Bytes 0 and 2, bytes 1 and 3, as 16-bit lanes.
        type Left = [__m256i; 2];
        type Right = [__m256i; 2];
        const TAPS_BYTES: usize = 64;

        taps!(__m256i, _mm256_loadu_si256 _mm256_set1_epi8 _mm256_xor_si256,
            _mm256_unpacklo_epi8 _mm256_unpackhi_epi8 _mm256_unpacklo_epi16 _mm256_unpackhi_epi16);

        #[inline(always)]
        unsafe fn store_left(self, taps: __m256i, p: *mut u8) {
            // SAFETY: by the caller's promise and the token.
            unsafe {
                let even = _mm256_and_si256(taps, _mm256_set1_epi16(0xff));
                _mm256_storeu_si256(p.cast(), even);
                _mm256_storeu_si256(p.add(32).cast(), _mm256_srli_epi16::<8>(taps));
            }
        }

        #[inline(always)]
        unsafe fn store_right(self, taps: __m256i, p: *mut u8) {
            // SAFETY: by the caller's promise and the token.
            unsafe {
                let [even, odd] = self.columns((&raw const taps).cast());
                _mm256_storeu_si256(p.cast(), even);
                _mm256_storeu_si256(p.add(32).cast(), odd);
            }
        }

        #[inline(always)]
        unsafe fn load_left(self, p: *const u8) -> [__m256i; 2] {
            // SAFETY: by the caller's promise and the token.
            unsafe { [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())] }
        }

        #[inline(always)]
        unsafe fn load_right(self, p: *const u8) -> [__m256i; 2] {
            // SAFETY: by the caller's promise and the token.
            unsafe { [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())] }
        }

        #[inline(always)]
        fn dot_taps(self, sum: __m256i, left: [__m256i; 2], right: [__m256i; 2]) -> __m256i {
            self.dot(sum, left, right)
        }
    }

    impl Dot for Avx2 {
        type Blocks = Pair;
        type Half = Self;
        const TILE_ROWS: usize = 6;
        /// Bytes 0 and 2, bytes 1 and 3, as 16-bit lanes.
        type Row = [__m256i; 2];
        const ROW_BYTES: usize = 8;
        type Columns = [__m256i; 2];

        #[inline(always)]
        fn run<O: DotOp>(self, op: O) {
            // SAFETY: the token proves that the instructions exist.
            unsafe { enter_avx2(self, op) }
        }

        #[inline(always)]
        unsafe fn prepare(self, from: *const u8, len: usize, flip: u8, to: *mut u8) {
            let flip = u32::from_ne_bytes([flip; 4]);
            // SAFETY: by the caller's promise; a group becomes two words.
            unsafe {
                let (from, to) = (from.cast::<u32>(), to.cast::<[u32; 2]>());
                for i in 0..len / 4 {
                    let x = from.add(i).read_unaligned() ^ flip;
                    to.add(i).write_unaligned([x & 0x00ff_00ff, (x >> 8) & 0x00ff_00ff]);
                }
            }
        }

        #[inline(always)]
        unsafe fn row(self, p: *const u8) -> [__m256i; 2] {
            // SAFETY: by the caller's promise and the token.
            unsafe {
                let p = p.cast::<i32>();
                let (even, odd) = (p.read_unaligned(), p.add(1).read_unaligned());
                [_mm256_set1_epi32(even), _mm256_set1_epi32(odd)]
            }
        }

        #[inline(always)]
        unsafe fn columns(self, p: *const i8) -> [__m256i; 2] {
            // SAFETY: by the caller's promise and the token.
            unsafe {
                let x = _mm256_loadu_si256(p.cast());
                [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)), _mm256_srai_epi16::<8>(x)]
            }
        }

        #[inline(always)]
        fn dot(self, sum: __m256i, row: [__m256i; 2], columns: [__m256i; 2]) -> __m256i {
            // SAFETY: the token proves that the instructions exist.
            unsafe {
                let even = _mm256_madd_epi16(row[0], columns[0]);
                let odd = _mm256_madd_epi16(row[1], columns[1]);
                _mm256_add_epi32(sum, _mm256_add_epi32(even, odd))
            }
        }

        #[inline(always)]
        unsafe fn store(self, p: *mut i32, sum: __m256i) {
            // SAFETY: by the caller's promise and the token.
            unsafe { _mm256_storeu_si256(p.cast(), sum) }
        }

        #[inline(always)]
        fn blocks(self) -> Pair {
            // SAFETY: the token proves that the instructions exist.
            unsafe { Pair::promised() }
        }

        #[inline(always)]
        fn half(self) -> Self {
            self
        }
    }

    /// Proof that the VEX form of VNNI exists.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct AvxVnni(());

    impl AvxVnni {
        pub(crate) fn prove(cpu: Cpu) -> Option<AvxVnni> {
            cpu.has_avx_vnni().then_some(AvxVnni(()))
        }
    }

    #[target_feature(enable = "avx2,fma,avxvnni")]
    fn enter_avx_vnni<O: DotOp>(d: AvxVnni, op: O) {
        op.eval(d);
    }

    impl Quad for AvxVnni {
        quad_256!();
    }

    impl Taps for AvxVnni {
        taps!(__m256i, _mm256_loadu_si256 _mm256_set1_epi8 _mm256_xor_si256,
            _mm256_unpacklo_epi8 _mm256_unpackhi_epi8 _mm256_unpacklo_epi16 _mm256_unpackhi_epi16);
        plain_taps!(__m256i, _mm256_loadu_si256 _mm256_storeu_si256 _mm256_dpbusd_avx_epi32);
    }

    impl Dot for AvxVnni {
        type Blocks = Pair;
        type Half = Self;
        const TILE_ROWS: usize = 6;
        type Row = __m256i;
        const ROW_BYTES: usize = 4;
        type Columns = __m256i;

        #[inline(always)]
        fn run<O: DotOp>(self, op: O) {
            // SAFETY: the token proves that the instructions exist.
            unsafe { enter_avx_vnni(self, op) }
        }

        #[inline(always)]
        unsafe fn prepare(self, from: *const u8, len: usize, flip: u8, to: *mut u8) {
            // SAFETY: by the caller's promise.
            unsafe { flip_bytes(from, len, flip, to) }
        }

        #[inline(always)]
        unsafe fn row(self, p: *const u8) -> __m256i {
            // SAFETY: by the caller's promise and the token.
            unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
        }

        #[inline(always)]
        unsafe fn columns(self, p: *const i8) -> __m256i {
            // SAFETY: by the caller's promise and the token.
            unsafe { _mm256_loadu_si256(p.cast()) }
        }

        #[inline(always)]
        fn dot(self, sum: __m256i, row: __m256i, columns: __m256i) -> __m256i {
            // SAFETY: the token proves that the instructions exist.
            unsafe { _mm256_dpbusd_avx_epi32(sum, row, columns) }
        }

        #[inline(always)]
        unsafe fn store(self, p: *mut i32, sum: __m256i) {
            // SAFETY: by the caller's promise and the token.
            unsafe { _mm256_storeu_si256(p.cast(), sum) }
        }

        #[inline(always)]
        fn blocks(self) -> Pair {
            // SAFETY: the token proves that the instructions exist.
            unsafe { Pair::promised() }
        }

        #[inline(always)]
        fn half(self) -> Self {
            self
        }
    }

    /// Proof that AVX-512 with VNNI exists.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx512Vnni(());

    impl Avx512Vnni {
        pub(crate) fn prove(cpu: Cpu) -> Option<Avx512Vnni> {
            cpu.isa().includes(Isa::Vnni).then_some(Avx512Vnni(()))
        }
    }

    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn enter_avx512_vnni<O: DotOp>(d: Avx512Vnni, op: O) {
        op.eval(d);
    }

    impl Quad for Avx512Vnni {
        quad_512!();
    }

    impl Taps for Avx512Vnni {
        taps!(__m512i, _mm512_loadu_si512 _mm512_set1_epi8 _mm512_xor_si512,
            _mm512_unpacklo_epi8 _mm512_unpackhi_epi8 _mm512_unpacklo_epi16 _mm512_unpackhi_epi16);
        plain_taps!(__m512i, _mm512_loadu_si512 _mm512_storeu_si512 _mm512_dpbusd_epi32);
    }

    /// The same proof, for 256-bit vectors.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx512VnniHalf(());

    impl Quad for Avx512VnniHalf {
        quad_256!();
    }

    impl Taps for Avx512VnniHalf {
        taps!(__m256i, _mm256_loadu_si256 _mm256_set1_epi8 _mm256_xor_si256,
            _mm256_unpacklo_epi8 _mm256_unpackhi_epi8 _mm256_unpacklo_epi16 _mm256_unpackhi_epi16);
        plain_taps!(__m256i, _mm256_loadu_si256 _mm256_storeu_si256 _mm256_dpbusd_epi32);
    }

    impl Dot for Avx512Vnni {
        type Blocks = Single;
        type Half = Avx512VnniHalf;
        const TILE_ROWS: usize = 12;
        type Row = __m512i;
        const ROW_BYTES: usize = 4;
        type Columns = __m512i;

        #[inline(always)]
        fn run<O: DotOp>(self, op: O) {
            // SAFETY: the token proves that the instructions exist.
            unsafe { enter_avx512_vnni(self, op) }
        }

        #[inline(always)]
        unsafe fn prepare(self, from: *const u8, len: usize, flip: u8, to: *mut u8) {
            // SAFETY: by the caller's promise.
            unsafe { flip_bytes(from, len, flip, to) }
        }

        #[inline(always)]
        unsafe fn row(self, p: *const u8) -> __m512i {
            // SAFETY: by the caller's promise and the token.
            unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
        }

        #[inline(always)]
        unsafe fn columns(self, p: *const i8) -> __m512i {
            // SAFETY: by the caller's promise and the token.
            unsafe { _mm512_loadu_si512(p.cast()) }
        }

        #[inline(always)]
        fn dot(self, sum: __m512i, row: __m512i, columns: __m512i) -> __m512i {
            // SAFETY: the token proves that the instructions exist.
            unsafe { _mm512_dpbusd_epi32(sum, row, columns) }
        }

        #[inline(always)]
        unsafe fn store(self, p: *mut i32, sum: __m512i) {
            // SAFETY: by the caller's promise and the token.
            unsafe { _mm512_storeu_si512(p.cast(), sum) }
        }

        #[inline(always)]
        fn blocks(self) -> Single {
            // SAFETY: the token proves that the instructions exist.
            unsafe { Single::promised() }
        }

        #[inline(always)]
        fn half(self) -> Avx512VnniHalf {
            Avx512VnniHalf(())
        }
    }
}

#[cfg(target_arch = "x86_64")]
use x86::{Avx512Vnni, AvxVnni};

#[cfg(test)]
impl Dot for crate::simd::Portable {
    type Blocks = Scalar;
    type Half = Self;
    const TILE_ROWS: usize = 12;
    type Row = [u8; 4];
    const ROW_BYTES: usize = 4;
    type Columns = [[i8; 4]; 16];

    fn run<O: DotOp>(self, op: O) {
        op.eval(self);
    }

    unsafe fn prepare(self, from: *const u8, len: usize, flip: u8, to: *mut u8) {
        // SAFETY: by the caller's promise.
        unsafe { flip_bytes(from, len, flip, to) }
    }

    unsafe fn row(self, p: *const u8) -> [u8; 4] {
        // SAFETY: by the caller's promise.
        unsafe { p.cast::<[u8; 4]>().read_unaligned() }
    }

    unsafe fn columns(self, p: *const i8) -> [[i8; 4]; 16] {
        // SAFETY: by the caller's promise.
        unsafe { p.cast::<[[i8; 4]; 16]>().read_unaligned() }
    }

    fn dot(self, sum: [i32; 16], row: [u8; 4], columns: [[i8; 4]; 16]) -> [i32; 16] {
        std::array::from_fn(|lane| {
            let products = row.iter().zip(columns[lane]).map(|(&a, b)| i32::from(a) * i32::from(b));
            sum[lane].wrapping_add(products.sum())
        })
    }

    unsafe fn store(self, p: *mut i32, sum: [i32; 16]) {
        // SAFETY: by the caller's promise.
        (0..16).for_each(|i| unsafe { *p.add(i) = sum[i] });
    }

    fn blocks(self) -> Scalar {
        Scalar
    }

    fn half(self) -> Self {
        self
    }
}
