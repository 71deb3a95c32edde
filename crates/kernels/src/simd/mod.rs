//! The vector operations that kernels are written over, one implementation per instruction set.
//!
//! A value of a [`Simd`] type proves that the instructions exist, so arithmetic is safe; only
//! memory access is `unsafe`. A kernel is a [`SimdOp`]; [`Simd::run`] evaluates it inside a
//! function compiled for the instruction set. `eval` and everything it calls per element must be
//! `#[inline(always)]`, or vectors are passed through memory.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(test)]
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
#[cfg(test)]
pub(crate) use portable::Portable;

use crate::{Cpu, Isa};

/// A computation generic over the instruction set.
pub(crate) trait SimdOp {
    type Output;
    fn eval<S: Simd>(self, s: S) -> Self::Output;
}

/// Lanes of f32 and i32 of one width.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// f32 lanes in a vector: 8 or 16.
    const LANES: usize;
    /// Rows of a matrix-product tile that is two vectors wide.
    const TILE_ROWS: usize;
    type F: Copy;
    type I: Copy;
    type Mask: Copy;

    /// Evaluates `op` in a function compiled for this instruction set.
    fn run<O: SimdOp>(self, op: O) -> O::Output;

    fn splat(self, x: f32) -> Self::F;
    /// # Safety
    /// `LANES` elements are readable at `p`; no alignment is needed.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// # Safety
    /// `LANES` elements are writable at `p`.
    unsafe fn store(self, p: *mut f32, x: Self::F);
    /// The first `n < LANES` elements, then zeros.
    ///
    /// # Safety
    /// `n` elements are readable at `p`.
    unsafe fn load_n(self, p: *const f32, n: usize) -> Self::F;
    /// # Safety
    /// `n < LANES` elements are writable at `p`.
    unsafe fn store_n(self, p: *mut f32, x: Self::F, n: usize);

    /// Asks for the cache line of `p`, which may be any address, to be brought into L2.
    #[inline(always)]
    fn prefetch<T>(self, p: *const T) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch of any address is a hint without effect on results, and every
        // processor of the architecture has it.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T1>(p.cast());
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        unsafe {
            std::arch::asm!(
                "prfm pldl2keep, [{}]", in(reg) p, options(nostack, preserves_flags, readonly)
            );
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let _ = p;
    }

    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c` with one rounding.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The smaller; `b` if either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// The larger; `b` if either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// Nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    fn less(self, a: Self::F, b: Self::F) -> Self::Mask;
    /// True where `a` is NaN.
    fn is_nan(self, a: Self::F) -> Self::Mask;
    /// `a` where the mask is set, else `b`.
    fn select(self, mask: Self::Mask, a: Self::F, b: Self::F) -> Self::F;

    fn splat_i(self, x: i32) -> Self::I;
    /// Nearest integer; out of range gives `i32::MIN`.
    fn to_int(self, a: Self::F) -> Self::I;
    fn to_float(self, a: Self::I) -> Self::F;
    fn bits(self, a: Self::F) -> Self::I;
    fn float_from_bits(self, a: Self::I) -> Self::F;
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn shl_i<const N: u32>(self, a: Self::I) -> Self::I;
    /// Arithmetic shift.
    fn sar_i<const N: u32>(self, a: Self::I) -> Self::I;

    /// Sum of the lanes: halves added pairwise, the same order on every instruction set of one
    /// width.
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        let lanes = self.lanes(a);
        let mut width = Self::LANES / 2;
        let mut lanes = lanes;
        while width > 0 {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
            width /= 2;
        }
        lanes[0]
    }

    /// Largest lane; NaN lanes may be ignored.
    #[inline(always)]
    fn max_lane(self, a: Self::F) -> f32 {
        self.lanes(a)[..Self::LANES].iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    fn lanes(self, a: Self::F) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        // SAFETY: a vector has at most 16 lanes.
        unsafe { self.store(lanes.as_mut_ptr(), a) };
        lanes
    }

    #[inline(always)]
    fn neg(self, a: Self::F) -> Self::F {
        self.float_from_bits(self.xor_sign(a))
    }

    #[inline(always)]
    fn xor_sign(self, a: Self::F) -> Self::I {
        self.add_i(self.bits(a), self.splat_i(i32::MIN))
    }

    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        self.float_from_bits(self.and_i(self.bits(a), self.splat_i(i32::MAX)))
    }

    /// The magnitude of `a`, which must not be negative, with the sign of `sign`.
    #[inline(always)]
    fn with_sign_of(self, a: Self::F, sign: Self::F) -> Self::F {
        let sign = self.and_i(self.bits(sign), self.splat_i(i32::MIN));
        self.float_from_bits(self.or_i(self.bits(a), sign))
    }
}

struct Call<W>(W);

impl<W: FnMut()> SimdOp for Call<W> {
    type Output = ();

    #[inline(always)]
    fn eval<S: Simd>(mut self, _: S) {
        (self.0)();
    }
}

/// Runs plain loops compiled for the widest vectors of `cpu`. `work` and what it calls per element
/// must be `#[inline(always)]`, or the loops are compiled for the baseline.
#[inline(always)]
pub(crate) fn autovectorize(cpu: Cpu, mut work: impl FnMut()) {
    if dispatch(cpu, Call(&mut work)).is_none() {
        work();
    }
}

/// Evaluates `op` with the widest vectors of `cpu`; `None` on [`Isa::Reference`].
pub(crate) fn dispatch<O: SimdOp>(cpu: Cpu, op: O) -> Option<O::Output> {
    match cpu.isa() {
        Isa::Reference => None,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Some(Avx2::prove(cpu)?.run(op)),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Vnni | Isa::Amx => Some(Avx512::prove(cpu)?.run(op)),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::Dotprod | Isa::I8mm => Some(Neon::prove(cpu)?.run(op)),
        // No proof of another architecture's levels is ever made.
        _ => None,
    }
}

/// Runs plain loops inside a function compiled for the instruction set of `cpu`. The closure and
/// what it calls per element must be `#[inline(always)]`.
#[inline(always)]
pub(crate) fn in_vector_code(cpu: Cpu, body: impl FnOnce()) {
    struct Body<F>(F);
    impl<F: FnOnce()> SimdOp for Body<F> {
        type Output = ();

        #[inline(always)]
        fn eval<S: Simd>(self, _: S) {
            (self.0)();
        }
    }
    if cpu.isa() == Isa::Reference {
        body();
    } else {
        dispatch(cpu, Body(body));
    }
}
