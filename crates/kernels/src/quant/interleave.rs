//! Bytes of four vectors interleaved, four to a 32-bit lane, and their dot products with others.
//!
//! Interleaving goes by 128-bit lanes: the first of the four vectors that it makes holds bytes 0 to
//! 3 of every 16, the last one bytes 12 to 15.

use super::narrow::Quad;

/// Vectors of bytes interleaved into four taps for each 32-bit lane.
pub(crate) trait Taps: Quad {
    /// Whether left elements are taken for signed bytes: those that are unsigned to the others,
    /// less 128.
    const LEFT_SIGNED: bool = false;
    /// Four unsigned elements in each lane, or signed ones if `LEFT_SIGNED`.
    type Left: Copy;
    /// Four signed elements in each lane.
    type Right: Copy;
    /// Bytes of a left or right vector in memory.
    const TAPS_BYTES: usize;

    /// # Safety
    /// `4 * LANES` bytes are readable at `p`.
    unsafe fn load_bytes(self, p: *const u8) -> Self::Bytes;
    fn flip(self, bytes: Self::Bytes, by: u8) -> Self::Bytes;
    /// Bytes 4v to 4v + 3 of every 16, from each of the four in turn, in vector v.
    fn interleave(self, bytes: [Self::Bytes; 4]) -> [Self::Bytes; 4];
    /// # Safety
    /// `TAPS_BYTES` bytes are writable at `p`.
    unsafe fn store_left(self, taps: Self::Bytes, p: *mut u8);
    /// # Safety
    /// `TAPS_BYTES` bytes are writable at `p`.
    unsafe fn store_right(self, taps: Self::Bytes, p: *mut u8);
    /// # Safety
    /// What `store_left` stored is readable at `p`.
    unsafe fn load_left(self, p: *const u8) -> Self::Left;
    /// # Safety
    /// What `store_right` stored is readable at `p`.
    unsafe fn load_right(self, p: *const u8) -> Self::Right;
    fn dot_taps(self, sum: Self::Sum, left: Self::Left, right: Self::Right) -> Self::Sum;
}

/// The channel of lane `lane` of interleaved vector `vector`.
pub(super) fn channel(vector: usize, lane: usize) -> usize {
    lane / 4 * 16 + vector * 4 + lane % 4
}

/// The methods of [`Taps`] for vectors of one type, by the names of its intrinsics.
#[cfg(target_arch = "x86_64")]
macro_rules! taps {
    ($vector:ty, $load:ident $splat:ident $xor:ident, $low8:ident $high8:ident $low16:ident
     $high16:ident) => {
        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn load_bytes(self, p: *const u8) -> $vector {
            // SAFETY: by the caller's promise and the token.
            unsafe { $load(p.cast()) }
        }

        #[inline(always)]
        fn flip(self, bytes: $vector, by: u8) -> $vector {
            // SAFETY: the token proves that the instructions exist.
            unsafe { $xor(bytes, $splat(by as i8)) }
        }

        #[inline(always)]
        fn interleave(self, [a, b, c, d]: [$vector; 4]) -> [$vector; 4] {
            // SAFETY: the token proves that the instructions exist.
            unsafe {
                let (first, second) = ($low8(a, b), $low8(c, d));
                let (third, fourth) = ($high8(a, b), $high8(c, d));
                [
                    $low16(first, second),
                    $high16(first, second),
                    $low16(third, fourth),
                    $high16(third, fourth),
                ]
            }
        }
    };
}

/// The methods of [`Taps`] where vectors lie in memory as they are, by the names of intrinsics.
#[cfg(target_arch = "x86_64")]
macro_rules! plain_taps {
    ($vector:ty, $load:ident $store:ident $dot:ident) => {
        type Left = $vector;
        type Right = $vector;
        const TAPS_BYTES: usize = size_of::<$vector>();

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn store_left(self, taps: $vector, p: *mut u8) {
            // SAFETY: by the caller's promise and the token.
            unsafe { $store(p.cast(), taps) }
        }

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn store_right(self, taps: $vector, p: *mut u8) {
            // SAFETY: by the caller's promise and the token.
            unsafe { $store(p.cast(), taps) }
        }

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn load_left(self, p: *const u8) -> $vector {
            // SAFETY: by the caller's promise and the token.
            unsafe { $load(p.cast()) }
        }

        #[inline(always)]
        // SAFETY: the contract is that of the trait.
        unsafe fn load_right(self, p: *const u8) -> $vector {
            // SAFETY: by the caller's promise and the token.
            unsafe { $load(p.cast()) }
        }

        #[inline(always)]
        fn dot_taps(self, sum: $vector, left: $vector, right: $vector) -> $vector {
            // SAFETY: the token proves that the instructions exist.
            unsafe { $dot(sum, left, right) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub(super) use {plain_taps, taps};

#[cfg(test)]
impl Taps for crate::simd::Portable {
    type Left = [u8; 64];
    type Right = [u8; 64];
    const TAPS_BYTES: usize = 64;

    unsafe fn load_bytes(self, p: *const u8) -> [u8; 64] {
        // SAFETY: by the caller's promise.
        unsafe { p.cast::<[u8; 64]>().read() }
    }

    fn flip(self, bytes: [u8; 64], by: u8) -> [u8; 64] {
        bytes.map(|byte| byte ^ by)
    }

    fn interleave(self, bytes: [[u8; 64]; 4]) -> [[u8; 64]; 4] {
        use std::array::from_fn;
        from_fn(|v| from_fn(|i| bytes[i % 4][channel(v, i / 4)]))
    }

    unsafe fn store_left(self, taps: [u8; 64], p: *mut u8) {
        // SAFETY: by the caller's promise.
        unsafe { p.cast::<[u8; 64]>().write(taps) }
    }

    unsafe fn store_right(self, taps: [u8; 64], p: *mut u8) {
        // SAFETY: by the caller's promise.
        unsafe { p.cast::<[u8; 64]>().write(taps) }
    }

    unsafe fn load_left(self, p: *const u8) -> [u8; 64] {
        // SAFETY: by the caller's promise.
        unsafe { p.cast::<[u8; 64]>().read() }
    }

    unsafe fn load_right(self, p: *const u8) -> [u8; 64] {
        // SAFETY: by the caller's promise.
        unsafe { p.cast::<[u8; 64]>().read() }
    }

    fn dot_taps(self, sum: [i32; 16], left: [u8; 64], right: [u8; 64]) -> [i32; 16] {
        let product = |i: usize| i32::from(left[i]) * i32::from(right[i] as i8);
        std::array::from_fn(|lane| {
            sum[lane].wrapping_add((4 * lane..4 * lane + 4).map(product).sum())
        })
    }
}
