//! What is folded, and in which arithmetic: half-precision types in `f32`, other floats in their
//! own type, integers in 64 bits with wrap-around.

use crate::elementwise::CastElement;
use landfall_tensor::{bf16, f16};

/// What a fold's accumulator becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    Keep,
    /// Divided by the number of elements; integers truncate towards zero.
    Mean,
    SquareRoot,
    Ln,
}

/// A numeric type that can be folded.
pub trait Reducible: CastElement {
    /// The type of accumulators. Every element converts exactly.
    type Acc: Copy + PartialOrd + Send + Sync;
    /// Zero.
    const ZERO: Self::Acc;
    /// One.
    const ONE: Self::Acc;
    /// Below or equal to every element.
    const LOWEST: Self::Acc;
    /// Above or equal to every element.
    const HIGHEST: Self::Acc;
    /// The element as an accumulator.
    fn accumulator(self) -> Self::Acc;
    /// The nearest element; integers keep their low bits.
    fn element(acc: Self::Acc) -> Self;
    /// Sum; integers wrap.
    fn add(a: Self::Acc, b: Self::Acc) -> Self::Acc;
    /// Product; integers wrap.
    fn multiply(a: Self::Acc, b: Self::Acc) -> Self::Acc;
    /// Magnitude.
    fn magnitude(a: Self::Acc) -> Self::Acc;
    /// Whether it is not a number.
    fn is_nan(a: Self::Acc) -> bool;
    /// `a / count`, and `0` for integers if `count` is 0.
    fn divide(a: Self::Acc, count: usize) -> Self::Acc;
    /// The accumulator as a real number.
    fn real(a: Self::Acc) -> f64;
    /// `a` as an element after the last step.
    #[inline(always)]
    fn square_root(a: Self::Acc) -> Self {
        Self::from_real(Self::real(a).sqrt())
    }
}

macro_rules! floats {
    ($($ty:ty, $acc:ty, $to:expr, $from:expr;)*) => {$(
        impl Reducible for $ty {
            type Acc = $acc;
            const ZERO: $acc = 0.0;
            const ONE: $acc = 1.0;
            const LOWEST: $acc = <$acc>::NEG_INFINITY;
            const HIGHEST: $acc = <$acc>::INFINITY;
            #[inline(always)]
            fn accumulator(self) -> $acc { ($to)(self) }
            #[inline(always)]
            fn element(acc: $acc) -> $ty { ($from)(acc) }
            #[inline(always)]
            fn add(a: $acc, b: $acc) -> $acc { a + b }
            #[inline(always)]
            fn multiply(a: $acc, b: $acc) -> $acc { a * b }
            #[inline(always)]
            fn magnitude(a: $acc) -> $acc { a.abs() }
            #[inline(always)]
            fn is_nan(a: $acc) -> bool { a.is_nan() }
            #[inline(always)]
            fn divide(a: $acc, count: usize) -> $acc { a / count as $acc }
            #[inline(always)]
            fn real(a: $acc) -> f64 { f64::from(a) }
        }
    )*};
}

floats! {
    f32, f32, |x| x, |x| x;
    f64, f64, |x| x, |x| x;
    f16, f32, f16::to_f32, f16::from_f32;
    bf16, f32, bf16::to_f32, bf16::from_f32;
}

macro_rules! integers {
    ($($ty:ty, $acc:ty, $magnitude:expr;)*) => {$(
        impl Reducible for $ty {
            type Acc = $acc;
            const ZERO: $acc = 0;
            const ONE: $acc = 1;
            const LOWEST: $acc = <$ty>::MIN as $acc;
            const HIGHEST: $acc = <$ty>::MAX as $acc;
            #[inline(always)]
            fn accumulator(self) -> $acc { self as $acc }
            #[inline(always)]
            fn element(acc: $acc) -> $ty { acc as $ty }
            #[inline(always)]
            fn add(a: $acc, b: $acc) -> $acc { a.wrapping_add(b) }
            #[inline(always)]
            fn multiply(a: $acc, b: $acc) -> $acc { a.wrapping_mul(b) }
            #[inline(always)]
            fn magnitude(a: $acc) -> $acc { ($magnitude)(a) }
            #[inline(always)]
            fn is_nan(_: $acc) -> bool { false }
            #[inline(always)]
            fn divide(a: $acc, count: usize) -> $acc { a.checked_div(count as $acc).unwrap_or(0) }
            #[inline(always)]
            fn real(a: $acc) -> f64 { a as f64 }
        }
    )*};
}

integers! {
    i8, i64, i64::wrapping_abs;
    u8, i64, |a| a;
    i16, i64, i64::wrapping_abs;
    u16, i64, |a| a;
    i32, i64, i64::wrapping_abs;
    u32, i64, |a| a;
    i64, i64, i64::wrapping_abs;
    u64, u64, |a| a;
}

/// An associative combination of elements.
pub(super) trait Fold<T: Reducible>: Copy + Send + Sync + 'static {
    /// The fold of nothing.
    const START: T::Acc;
    /// One more element.
    fn take(acc: T::Acc, x: T::Acc) -> T::Acc;
    /// Two folds together.
    fn join(a: T::Acc, b: T::Acc) -> T::Acc;
}

macro_rules! folds {
    ($(
        $(#[$doc:meta])*
        $name:ident: $start:ident, |$a:ident, $x:ident| $take:expr, $join:expr;
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(super) struct $name;

        impl<T: Reducible> Fold<T> for $name {
            const START: T::Acc = T::$start;
            #[inline(always)]
            fn take($a: T::Acc, $x: T::Acc) -> T::Acc { $take }
            #[inline(always)]
            fn join($a: T::Acc, $x: T::Acc) -> T::Acc { $join }
        }
    )*};
}

folds! {
    Sum: ZERO, |a, x| T::add(a, x), T::add(a, x);
    SumOfMagnitudes: ZERO, |a, x| T::add(a, T::magnitude(x)), T::add(a, x);
    SumOfSquares: ZERO, |a, x| T::add(a, T::multiply(x, x)), T::add(a, x);
    Product: ONE, |a, x| T::multiply(a, x), T::multiply(a, x);
    /// NaN if any element is.
    Largest: LOWEST, |a, x| larger::<T>(a, x), larger::<T>(a, x);
    /// NaN if any element is.
    Smallest: HIGHEST, |a, x| smaller::<T>(a, x), smaller::<T>(a, x);
}

/// The larger; NaN if either is.
#[inline(always)]
pub(crate) fn larger<T: Reducible>(a: T::Acc, x: T::Acc) -> T::Acc {
    if (x > a) | T::is_nan(x) { x } else { a }
}

/// The smaller; NaN if either is.
#[inline(always)]
pub(crate) fn smaller<T: Reducible>(a: T::Acc, x: T::Acc) -> T::Acc {
    if (x < a) | T::is_nan(x) { x } else { a }
}

/// `acc` over `count` elements, after the last step.
#[inline(always)]
pub(super) fn finished<T: Reducible>(acc: T::Acc, finish: Finish, count: usize) -> T {
    match finish {
        Finish::Keep => T::element(acc),
        Finish::Mean => T::element(T::divide(acc, count)),
        Finish::SquareRoot => T::square_root(acc),
        Finish::Ln => T::from_real(T::real(acc).ln()),
    }
}

const LANES: usize = 32;
/// Elements after which the lanes are joined: bounds the rounding error of long sums.
const BLOCK: usize = 4096;

/// The fold of a contiguous row.
#[inline(always)]
pub(super) fn fold_row<T: Reducible, F: Fold<T>>(row: &[T]) -> T::Acc {
    let sequence = |start, part: &[T]| part.iter().fold(start, |a, &x| F::take(a, x.accumulator()));
    if row.len() < 2 * LANES {
        return sequence(F::START, row);
    }
    let mut total = F::START;
    for block in row.chunks(BLOCK) {
        let (groups, rest) = block.as_chunks::<LANES>();
        let mut lanes = [F::START; LANES];
        for group in groups {
            for (lane, &x) in lanes.iter_mut().zip(group) {
                *lane = F::take(*lane, x.accumulator());
            }
        }
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] = F::join(lanes[i], lanes[i + width]);
            }
            width /= 2;
        }
        total = sequence(F::join(total, lanes[0]), rest);
    }
    total
}
