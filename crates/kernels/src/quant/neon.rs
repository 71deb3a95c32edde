//! 8-bit arithmetic of AArch64: [`Dot`] with the dot-product instructions, and without them.
//!
//! Eight lanes are two registers of four, as for f32. Three forms of one product, all exact:
//!
//! - plain Advanced SIMD widens both operands to 16 bits and multiplies a column's elements by a
//!   lane of the row, since its byte product of mixed signs does not exist;
//! - FEAT_DotProd multiplies bytes of equal signs, so left elements are read signed, which is 128
//!   less, and the epilogue takes off a zero point that is 128 less ([`Taps::LEFT_SIGNED`]);
//! - FEAT_I8MM multiplies unsigned by signed bytes as they are.
//!
//! The instructions of the last two are written as assembly: the compiler's functions for them are
//! not stable.

use std::arch::aarch64::*;
use std::arch::asm;
use std::array::from_fn;

use super::blocks::{Block, Blocks, Scales, WHOLE};
use super::interleave::Taps;
use super::lanes::{Dot, DotOp, flip_bytes};
use super::narrow::{Limits, Quad};
use crate::gemm::PANEL;
use crate::simd::Neon;
use crate::{Cpu, Isa};

/// Proof that Advanced SIMD with dot products of equal signs exists.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dotprod(());

impl Dotprod {
    pub(super) fn prove(cpu: Cpu) -> Option<Dotprod> {
        cpu.isa().includes(Isa::Dotprod).then_some(Dotprod(()))
    }
}

/// Proof that Advanced SIMD with dot products of mixed signs exists.
#[derive(Debug, Clone, Copy)]
pub(super) struct I8mm(());

impl I8mm {
    pub(super) fn prove(cpu: Cpu) -> Option<I8mm> {
        cpu.isa().includes(Isa::I8mm).then_some(I8mm(()))
    }
}

type Sum = [int32x4_t; 2];
type Bytes = [uint8x16_t; 2];

/// Sums times scales, rounded, by one fused multiply-add each: see `blocks`.
///
/// # Safety
/// Advanced SIMD exists; 4 scales are readable.
#[inline(always)]
unsafe fn scale(x: int32x4_t, scales: *const f64) -> int32x4_t {
    // SAFETY: by the caller's promise.
    unsafe {
        let whole = vdupq_n_f64(WHOLE);
        let first = vcvtq_f64_s64(vmovl_s32(vget_low_s32(x)));
        let second = vcvtq_f64_s64(vmovl_high_s32(x));
        let first = vfmaq_f64(whole, first, vld1q_f64(scales));
        let second = vfmaq_f64(whole, second, vld1q_f64(scales.add(2)));
        vuzp1q_s32(vreinterpretq_s32_f64(first), vreinterpretq_s32_f64(second))
    }
}

/// 16 sums as bytes.
///
/// # Safety
/// Advanced SIMD exists; 4 scales are readable at every pointer.
#[inline(always)]
unsafe fn narrow(sums: [int32x4_t; 4], scales: [*const f64; 4], limits: &Limits) -> uint8x16_t {
    // SAFETY: by the caller's promise.
    unsafe {
        let zero = vdupq_n_s16(limits.zero);
        let first = vqmovn_s32(scale(sums[0], scales[0]));
        let first = vqmovn_high_s32(first, scale(sums[1], scales[1]));
        let second = vqmovn_s32(scale(sums[2], scales[2]));
        let second = vqmovn_high_s32(second, scale(sums[3], scales[3]));
        let first = vqmovun_s16(vqaddq_s16(first, zero));
        let bytes = vqmovun_high_s16(first, vqaddq_s16(second, zero));
        let bytes = vmaxq_u8(bytes, vdupq_n_u8(limits.low));
        let bytes = vminq_u8(bytes, vdupq_n_u8(limits.high));
        veorq_u8(bytes, vdupq_n_u8(limits.flip))
    }
}

/// The methods of [`Quad`].
macro_rules! quad {
    ($token:ident) => {
        impl Quad for $token {
            const LANES: usize = 8;
            type Sum = Sum;
            type Bytes = Bytes;

            #[inline(always)]
            unsafe fn load_sum(self, p: *const i32) -> Sum {
                // SAFETY: by the caller's promise and the token.
                unsafe { [vld1q_s32(p), vld1q_s32(p.add(4))] }
            }

            #[inline(always)]
            unsafe fn widen_bytes<const SIGNED: bool>(self, p: *const u8) -> Sum {
                // SAFETY: by the caller's promise and the token.
                unsafe {
                    let bytes = vld1_u8(p);
                    let words = match SIGNED {
                        true => vmovl_s8(vreinterpret_s8_u8(bytes)),
                        false => vreinterpretq_s16_u16(vmovl_u8(bytes)),
                    };
                    [vmovl_s16(vget_low_s16(words)), vmovl_high_s16(words)]
                }
            }

            #[inline(always)]
            fn mul_add(self, a: Sum, b: Sum, c: Sum) -> Sum {
                // SAFETY: the token proves that the instructions exist.
                unsafe { [vmlaq_s32(c[0], a[0], b[0]), vmlaq_s32(c[1], a[1], b[1])] }
            }

            #[inline(always)]
            unsafe fn narrow<const APART: bool>(
                self,
                [a, b, c, d]: [Sum; 4],
                scales: [*const f64; 4],
                limits: &Limits,
            ) -> Bytes {
                let [e, f, g, h] = scales;
                let half = |p: *const f64| p.wrapping_add(4);
                let (first, second) = match APART {
                    true => (
                        ([a[0], b[0], c[0], d[0]], scales),
                        ([a[1], b[1], c[1], d[1]], scales.map(half)),
                    ),
                    false => (
                        ([a[0], a[1], b[0], b[1]], [e, half(e), f, half(f)]),
                        ([c[0], c[1], d[0], d[1]], [g, half(g), h, half(h)]),
                    ),
                };
                // SAFETY: by the caller's promise and the token.
                unsafe { [narrow(first.0, first.1, limits), narrow(second.0, second.1, limits)] }
            }

            #[inline(always)]
            unsafe fn store_whole(self, bytes: Bytes, to: *mut u8) {
                // SAFETY: by the caller's promise and the token.
                unsafe { self.store_halves(bytes, [to, to.add(16)]) }
            }

            #[inline(always)]
            unsafe fn store_halves(self, bytes: Bytes, to: [*mut u8; 2]) {
                // SAFETY: by the caller's promise and the token.
                unsafe {
                    vst1q_u8(to[0], bytes[0]);
                    vst1q_u8(to[1], bytes[1]);
                }
            }

            #[inline(always)]
            unsafe fn store_quarters(self, bytes: Bytes, to: [*mut u8; 4]) {
                // SAFETY: by the caller's promise and the token.
                unsafe {
                    vst1_u8(to[0], vget_low_u8(bytes[0]));
                    vst1_u8(to[1], vget_high_u8(bytes[0]));
                    vst1_u8(to[2], vget_low_u8(bytes[1]));
                    vst1_u8(to[3], vget_high_u8(bytes[1]));
                }
            }
        }
    };
}

quad!(Neon);
quad!(Dotprod);
quad!(I8mm);

/// The methods of [`Taps`] that load and interleave.
macro_rules! taps {
    () => {
        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn load_bytes(self, p: *const u8) -> Bytes {
            // SAFETY: by the caller's promise and the token.
            unsafe { [vld1q_u8(p), vld1q_u8(p.add(16))] }
        }

        #[inline(always)]
        fn flip(self, bytes: Bytes, by: u8) -> Bytes {
            // SAFETY: the token proves that the instructions exist.
            bytes.map(|x| unsafe { veorq_u8(x, vdupq_n_u8(by)) })
        }

        #[inline(always)]
        fn interleave(self, [a, b, c, d]: [Bytes; 4]) -> [Bytes; 4] {
            // SAFETY: the token proves that the instructions exist.
            let [first, second] =
                [0, 1].map(|i: usize| unsafe { interleave([a[i], b[i], c[i], d[i]]) });
            from_fn(|v| [first[v], second[v]])
        }
    };
}

/// Bytes 4v to 4v + 3 from each of the four in turn, in register v.
///
/// # Safety
/// Advanced SIMD exists.
#[inline(always)]
unsafe fn interleave([a, b, c, d]: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
    // SAFETY: by the caller's promise.
    unsafe {
        let [first, second] = [vzip1q_u8(a, b), vzip1q_u8(c, d)].map(|x| vreinterpretq_u16_u8(x));
        let [third, fourth] = [vzip2q_u8(a, b), vzip2q_u8(c, d)].map(|x| vreinterpretq_u16_u8(x));
        let pairs = [
            vzip1q_u16(first, second),
            vzip2q_u16(first, second),
            vzip1q_u16(third, fourth),
            vzip2q_u16(third, fourth),
        ];
        pairs.map(|x| vreinterpretq_u8_u16(x))
    }
}

/// The four taps of eight lanes, apart.
///
/// # Safety
/// Advanced SIMD exists.
#[inline(always)]
unsafe fn apart(taps: Bytes) -> [uint8x8_t; 4] {
    // SAFETY: by the caller's promise.
    unsafe {
        let (even, odd) = (vuzp1q_u8(taps[0], taps[1]), vuzp2q_u8(taps[0], taps[1]));
        let (first, last) = (vuzp1q_u8(even, odd), vuzp2q_u8(even, odd));
        [vget_low_u8(first), vget_high_u8(first), vget_low_u8(last), vget_high_u8(last)]
    }
}

impl Taps for Neon {
    /// The taps one after the other, as 16-bit lanes.
    type Left = [int16x8_t; 4];
    type Right = [int16x8_t; 4];
    const TAPS_BYTES: usize = 64;

    taps!();

    #[inline(always)]
    unsafe fn store_left(self, taps: Bytes, p: *mut u8) {
        // SAFETY: by the caller's promise and the token.
        unsafe {
            let taps = apart(taps).map(|tap| vreinterpretq_s16_u16(vmovl_u8(tap)));
            p.cast::<[int16x8_t; 4]>().write_unaligned(taps);
        }
    }

    #[inline(always)]
    unsafe fn store_right(self, taps: Bytes, p: *mut u8) {
        // SAFETY: by the caller's promise and the token.
        unsafe {
            let taps = apart(taps).map(|tap| vmovl_s8(vreinterpret_s8_u8(tap)));
            p.cast::<[int16x8_t; 4]>().write_unaligned(taps);
        }
    }

    #[inline(always)]
    unsafe fn load_left(self, p: *const u8) -> [int16x8_t; 4] {
        // SAFETY: by the caller's promise.
        unsafe { p.cast::<[int16x8_t; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_right(self, p: *const u8) -> [int16x8_t; 4] {
        // SAFETY: by the caller's promise.
        unsafe { p.cast::<[int16x8_t; 4]>().read_unaligned() }
    }

    #[inline(always)]
    fn dot_taps(self, sum: Sum, left: [int16x8_t; 4], right: [int16x8_t; 4]) -> Sum {
        let [mut low, mut high] = sum;
        for (left, right) in left.into_iter().zip(right) {
            // SAFETY: the token proves that the instructions exist.
            unsafe {
                low = vmlal_s16(low, vget_low_s16(left), vget_low_s16(right));
                high = vmlal_high_s16(high, left, right);
            }
        }
        [low, high]
    }
}

/// The methods of [`Dot`] that do not depend on how bytes are multiplied.
macro_rules! dot {
    ($enter:ident) => {
        type Blocks = Quadruple;
        type Half = Self;

        #[inline(always)]
        fn run<O: DotOp>(self, op: O) {
            // SAFETY: the token proves that the instructions exist.
            unsafe { $enter(self, op) }
        }

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn store(self, p: *mut i32, sum: Sum) {
            // SAFETY: by the caller's promise and the token.
            unsafe {
                vst1q_s32(p, sum[0]);
                vst1q_s32(p.add(4), sum[1]);
            }
        }

        #[inline(always)]
        fn blocks(self) -> Quadruple {
            Quadruple(())
        }

        #[inline(always)]
        fn half(self) -> Self {
            self
        }
    };
}

#[target_feature(enable = "neon")]
#[inline(never)]
fn enter_neon<O: DotOp>(d: Neon, op: O) {
    op.eval(d);
}

impl Dot for Neon {
    /// Sums of 5 rows and the widened columns of 2 vectors take 28 of 32 registers.
    const TILE_ROWS: usize = 5;
    /// Four 16-bit elements, one for each of four columns' elements.
    type Row = int16x4_t;
    const ROW_BYTES: usize = 8;
    /// First elements of eight columns, then second ones and so on, as 16-bit lanes.
    type Columns = [int16x8_t; 4];

    dot!(enter_neon);

    #[inline(always)]
    unsafe fn prepare(self, from: *const u8, len: usize, flip: u8, to: *mut u8) {
        let to = to.cast::<u16>();
        // SAFETY: by the caller's promise.
        (0..len).for_each(|i| unsafe { to.add(i).write_unaligned((*from.add(i) ^ flip).into()) });
    }

    #[inline(always)]
    unsafe fn row(self, p: *const u8) -> int16x4_t {
        // SAFETY: by the caller's promise.
        unsafe { p.cast::<int16x4_t>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn columns(self, p: *const i8) -> [int16x8_t; 4] {
        // SAFETY: by the caller's promise and the token.
        unsafe {
            let int8x8x4_t(a, b, c, d) = vld4_s8(p);
            [vmovl_s8(a), vmovl_s8(b), vmovl_s8(c), vmovl_s8(d)]
        }
    }

    #[inline(always)]
    fn dot(self, sum: Sum, row: int16x4_t, columns: [int16x8_t; 4]) -> Sum {
        let [mut low, mut high] = sum;
        macro_rules! each {
            ($($k:literal)*) => {$(
                low = vmlal_lane_s16::<$k>(low, vget_low_s16(columns[$k]), row);
                high = vmlal_high_lane_s16::<$k>(high, columns[$k], row);
            )*};
        }
        // SAFETY: the token proves that the instructions exist.
        unsafe {
            each!(0 1 2 3);
        }
        [low, high]
    }
}

/// [`Taps`] and [`Dot`] by one instruction, which multiplies left bytes that are `$signed`, or not,
/// by signed ones.
macro_rules! dot_product {
    ($token:ident $enter:ident, $features:literal, $instruction:literal, $signed:literal) => {
        #[target_feature(enable = $features)]
        #[inline(never)]
        fn $enter<O: DotOp>(d: $token, op: O) {
            op.eval(d);
        }

        impl $token {
            /// Four dot products of four bytes.
            #[target_feature(enable = $features)]
            #[inline]
            fn dot_four(self, sum: int32x4_t, left: uint8x16_t, right: uint8x16_t) -> int32x4_t {
                let mut sum = sum;
                // SAFETY: this function is compiled for the instruction, which touches no memory.
                unsafe {
                    asm!(
                        concat!($instruction, " {sum:v}.4s, {left:v}.16b, {right:v}.16b"),
                        sum = inout(vreg) sum,
                        left = in(vreg) left,
                        right = in(vreg) right,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
                sum
            }
        }

        impl Taps for $token {
            type Left = Bytes;
            type Right = Bytes;
            const TAPS_BYTES: usize = 32;
            const LEFT_SIGNED: bool = $signed;

            taps!();

            #[inline(always)]
            unsafe fn store_left(self, taps: Bytes, p: *mut u8) {
                // SAFETY: by the caller's promise.
                unsafe { self.store_whole(taps, p) }
            }

            #[inline(always)]
            unsafe fn store_right(self, taps: Bytes, p: *mut u8) {
                // SAFETY: by the caller's promise.
                unsafe { self.store_whole(taps, p) }
            }

            #[inline(always)]
            unsafe fn load_left(self, p: *const u8) -> Bytes {
                // SAFETY: by the caller's promise.
                unsafe { self.load_bytes(p) }
            }

            #[inline(always)]
            unsafe fn load_right(self, p: *const u8) -> Bytes {
                // SAFETY: by the caller's promise.
                unsafe { self.load_bytes(p) }
            }

            #[inline(always)]
            fn dot_taps(self, sum: Sum, left: Bytes, right: Bytes) -> Sum {
                // SAFETY: the token proves that the instruction exists.
                unsafe {
                    let low = self.dot_four(sum[0], left[0], right[0]);
                    [low, self.dot_four(sum[1], left[1], right[1])]
                }
            }
        }

        impl Dot for $token {
            const TILE_ROWS: usize = 6;
            type Row = uint8x16_t;
            const ROW_BYTES: usize = 4;
            type Columns = Bytes;

            dot!($enter);

            #[inline(always)]
            unsafe fn prepare(self, from: *const u8, len: usize, flip: u8, to: *mut u8) {
                // SAFETY: by the caller's promise.
                unsafe { flip_bytes(from, len, flip, to) }
            }

            #[inline(always)]
            unsafe fn row(self, p: *const u8) -> uint8x16_t {
                // SAFETY: by the caller's promise and the token.
                unsafe { vreinterpretq_u8_u32(vdupq_n_u32(p.cast::<u32>().read_unaligned())) }
            }

            #[inline(always)]
            unsafe fn columns(self, p: *const i8) -> Bytes {
                // SAFETY: by the caller's promise.
                unsafe { self.load_bytes(p.cast()) }
            }

            #[inline(always)]
            fn dot(self, sum: Sum, row: uint8x16_t, columns: Bytes) -> Sum {
                // SAFETY: the token proves that the instruction exists.
                unsafe {
                    let low = self.dot_four(sum[0], row, columns[0]);
                    [low, self.dot_four(sum[1], row, columns[1])]
                }
            }
        }
    };
}

dot_product!(Dotprod enter_dotprod, "neon,dotprod", "sdot", true);
dot_product!(I8mm enter_i8mm, "neon,i8mm", "usdot", false);

/// Four registers; only code that holds a token of this file or [`Neon`] makes one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quadruple(());

/// A method whose result is an expression of intrinsics for each register `$i`.
macro_rules! lanewise {
    ($($name:ident($($arg:ident: $ty:ty),*), $i:ident = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) -> [int32x4_t; 4] {
            // SAFETY: the token proves that the instructions exist; arrays are as long as four
            // registers.
            unsafe {
                [
                    { let $i = 0; $body },
                    { let $i = 1; $body },
                    { let $i = 2; $body },
                    { let $i = 3; $body },
                ]
            }
        }
    )*};
}

impl Blocks for Quadruple {
    type Block = [int32x4_t; 4];

    lanewise! {
        load(x: &Block), i = vld1q_s32(x.as_ptr().add(4 * i));
        splat(x: i32), _i = vdupq_n_s32(x);
        add(a: [int32x4_t; 4], b: [int32x4_t; 4]), i = vaddq_s32(a[i], b[i]);
        sub(a: [int32x4_t; 4], b: [int32x4_t; 4]), i = vsubq_s32(a[i], b[i]);
        mul(a: [int32x4_t; 4], b: [int32x4_t; 4]), i = vmulq_s32(a[i], b[i]);
        requantize(x: [int32x4_t; 4], scales: Scales<'_>), i =
            scale(x[i], scales.real.as_ptr().add(4 * i));
    }

    #[inline(always)]
    fn store(self, x: [int32x4_t; 4], to: &mut Block) {
        for (x, to) in x.into_iter().zip(to.as_chunks_mut::<4>().0) {
            // SAFETY: the token proves that the instructions exist.
            unsafe { vst1q_s32(to.as_mut_ptr(), x) };
        }
    }

    #[inline(always)]
    fn widen<const SIGNED: bool>(self, bytes: &[u8; PANEL]) -> [int32x4_t; 4] {
        // SAFETY: the token proves that the instructions exist.
        unsafe {
            let bytes = vld1q_u8(bytes.as_ptr());
            let [low, high] = match SIGNED {
                true => {
                    let bytes = vreinterpretq_s8_u8(bytes);
                    [vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes)]
                }
                false => [vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes)]
                    .map(|x| vreinterpretq_s16_u16(x)),
            };
            [
                vmovl_s16(vget_low_s16(low)),
                vmovl_high_s16(low),
                vmovl_s16(vget_low_s16(high)),
                vmovl_high_s16(high),
            ]
        }
    }

    #[inline(always)]
    fn store_bytes(self, x: [int32x4_t; 4], low: i32, high: i32, zero: i32, to: &mut [u8; PANEL]) {
        // SAFETY: the token proves that the instructions exist.
        unsafe {
            let (low, high) = (vdupq_n_s32(low), vdupq_n_s32(high));
            let x = x.map(|x| vaddq_s32(vminq_s32(high, vmaxq_s32(low, x)), vdupq_n_s32(zero)));
            let first = vmovn_high_s32(vmovn_s32(x[0]), x[1]);
            let second = vmovn_high_s32(vmovn_s32(x[2]), x[3]);
            let bytes = vmovn_high_s16(vmovn_s16(first), second);
            vst1q_u8(to.as_mut_ptr(), vreinterpretq_u8_s8(bytes));
        }
    }

    #[inline(always)]
    fn store_floats(
        self,
        x: [int32x4_t; 4],
        factor: f32,
        scales: &[f32; PANEL],
        bias: &[f32; PANEL],
        to: &mut [f32; PANEL],
    ) {
        for (i, x) in x.into_iter().enumerate() {
            // SAFETY: the token proves that the instructions exist; arrays are as long as four
            // registers.
            unsafe {
                let scale = vmulq_f32(vdupq_n_f32(factor), vld1q_f32(scales.as_ptr().add(4 * i)));
                let bias = vld1q_f32(bias.as_ptr().add(4 * i));
                vst1q_f32(to.as_mut_ptr().add(4 * i), vfmaq_f32(bias, vcvtq_f32_s32(x), scale));
            }
        }
    }
}
