//! Dot products of bf16 pairs per instruction set: `vdpbf16ps` where it exists, elsewhere the same
//! two fused multiply-adds of operands widened to f32.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::{Element, PAIR, rounded};
#[cfg(target_arch = "aarch64")]
use crate::simd::Neon;
use crate::simd::Simd;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::{Cpu, Isa};

/// A computation generic over the instruction set.
pub(super) trait PairOp {
    fn eval<D: Pairs>(self, d: D);
}

/// Lanes of f32 sums that take a pair of bf16 products at a time.
pub(super) trait Pairs: Copy {
    /// The arithmetic of the sums.
    type Sums: Simd;
    /// Bytes of an element of a prepared row.
    const ELEMENT_BYTES: usize;
    /// A pair of a row, in every lane.
    type Row: Copy;
    /// A pair of each lane's column.
    type Columns: Copy;

    /// Evaluates `op` in a function compiled for this instruction set.
    fn enter<O: PairOp>(self, op: O);
    fn sums(self) -> Self::Sums;
    /// Rounds `len` elements to the form that `row` reads.
    ///
    /// # Safety
    /// They are readable at `from` and writable at `to`.
    unsafe fn prepare(self, from: *const f32, len: usize, to: *mut u8);
    /// # Safety
    /// A prepared pair is readable at `p`.
    unsafe fn row(self, p: *const u8) -> Self::Row;
    /// # Safety
    /// A pair for each lane is readable at `p`.
    unsafe fn columns(self, p: *const Element) -> Self::Columns;
    fn dot(self, sum: Sum<Self>, row: Self::Row, columns: Self::Columns) -> Sum<Self>;
}

/// A vector of sums.
pub(super) type Sum<D> = <<D as Pairs>::Sums as Simd>::F;

/// Evaluates `op` with the best dot product of `cpu`. `false` on [`Isa::Reference`].
pub(super) fn dispatch<O: PairOp>(cpu: Cpu, op: O) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(d) = Avx512Bf16::prove(cpu) {
            d.enter(op);
            return true;
        }
        if let Some(d) = Avx512::prove(cpu) {
            d.enter(op);
            return true;
        }
        if let Some(d) = Avx2::prove(cpu) {
            d.enter(op);
            return true;
        }
    }
    #[cfg(target_arch = "aarch64")]
    if let Some(d) = Neon::prove(cpu) {
        d.enter(op);
        return true;
    }
    let _ = op;
    debug_assert_eq!(cpu.isa(), Isa::Reference);
    false
}

/// Proof that AVX-512 with AVX512_BF16 exists.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512Bf16(Avx512);

#[cfg(target_arch = "x86_64")]
impl Avx512Bf16 {
    fn prove(cpu: Cpu) -> Option<Avx512Bf16> {
        if cpu.has_bf16() { Avx512::prove(cpu).map(Avx512Bf16) } else { None }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn enter_bf16<O: PairOp>(d: Avx512Bf16, op: O) {
    op.eval(d);
}

#[cfg(target_arch = "x86_64")]
impl Pairs for Avx512Bf16 {
    type Sums = Avx512;
    const ELEMENT_BYTES: usize = 2;
    type Row = __m512bh;
    type Columns = __m512bh;

    #[inline(always)]
    fn enter<O: PairOp>(self, op: O) {
        // SAFETY: the token proves that the instructions exist.
        unsafe { enter_bf16(self, op) }
    }

    #[inline(always)]
    fn sums(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    unsafe fn prepare(self, from: *const f32, len: usize, to: *mut u8) {
        const LANES: usize = 16;
        let to = to.cast::<i16>();
        // SAFETY: by the caller's promise and the token; masks keep to `len` elements.
        unsafe {
            let mut i = 0;
            while i + 2 * LANES <= len {
                let [low, high] = [0, LANES].map(|lane| _mm512_loadu_ps(from.add(i + lane)));
                let both = _mm512_cvtne2ps_pbh(high, low);
                to.add(i).cast::<__m512bh>().write_unaligned(both);
                i += 2 * LANES;
            }
            while i < len {
                let mask = u16::MAX >> LANES.saturating_sub(len - i);
                let x = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from.add(i)));
                let bits = std::mem::transmute::<__m256bh, __m256i>(x);
                _mm256_mask_storeu_epi16(to.add(i), mask, bits);
                i += LANES;
            }
        }
    }

    #[inline(always)]
    unsafe fn row(self, p: *const u8) -> __m512bh {
        // SAFETY: by the caller's promise and the token; both types are 64 bytes of any bits.
        unsafe {
            let pair = p.cast::<i32>().read_unaligned();
            std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair))
        }
    }

    #[inline(always)]
    unsafe fn columns(self, p: *const Element) -> __m512bh {
        // SAFETY: by the caller's promise.
        unsafe { p.cast::<__m512bh>().read_unaligned() }
    }

    #[inline(always)]
    fn dot(self, sum: __m512, row: __m512bh, columns: __m512bh) -> __m512 {
        // SAFETY: the token proves that the instructions exist.
        unsafe { _mm512_dpbf16_ps(sum, row, columns) }
    }
}

/// Pairs for a set of fused multiply-adds: prepared rows are f32, packed pairs are widened by
/// shifting and masking.
macro_rules! widening {
    ($token:ident, $enter:ident, $features:literal) => {
        #[target_feature(enable = $features)]
        fn $enter<O: PairOp>(d: $token, op: O) {
            op.eval(d);
        }

        impl Pairs for $token {
            type Sums = $token;
            const ELEMENT_BYTES: usize = 4;
            /// The even and the odd elements.
            type Row = [<$token as Simd>::F; 2];
            type Columns = [<$token as Simd>::F; 2];

            #[inline(always)]
            fn enter<O: PairOp>(self, op: O) {
                // SAFETY: the token proves that the instructions exist.
                unsafe { $enter(self, op) }
            }

            #[inline(always)]
            fn sums(self) -> $token {
                self
            }

            #[inline(always)]
            unsafe fn prepare(self, from: *const f32, len: usize, to: *mut u8) {
                let to = to.cast::<f32>();
                // SAFETY: by the caller's promise.
                (0..len).for_each(|i| unsafe { to.add(i).write_unaligned(rounded(*from.add(i))) });
            }

            #[inline(always)]
            unsafe fn row(self, p: *const u8) -> Self::Row {
                // SAFETY: by the caller's promise.
                unsafe { p.cast::<[f32; 2]>().read_unaligned() }.map(|x| self.splat(x))
            }

            #[inline(always)]
            unsafe fn columns(self, p: *const Element) -> Self::Columns {
                // SAFETY: by the caller's promise; a pair is as long as a lane.
                let pairs = self.bits(unsafe { self.load(p.cast()) });
                let even = self.shl_i::<16>(pairs);
                let odd = self.and_i(pairs, self.splat_i(0xffff_0000_u32 as i32));
                [self.float_from_bits(even), self.float_from_bits(odd)]
            }

            #[inline(always)]
            fn dot(self, sum: Sum<Self>, row: Self::Row, columns: Self::Columns) -> Sum<Self> {
                self.fma(row[0], columns[0], self.fma(row[1], columns[1], sum))
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
widening!(Avx2, enter_avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
widening!(Avx512, enter_avx512, "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq");
#[cfg(target_arch = "aarch64")]
widening!(Neon, enter_neon, "neon");
const _: () = assert!(PAIR * size_of::<Element>() == size_of::<f32>());
