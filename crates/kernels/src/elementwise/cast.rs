//! Conversions between numeric types.
//!
//! Real to integer truncates towards zero and saturates; integer to narrower integer wraps;
//! anything but zero is true. These are the rules of C where C defines them, and Rust's where it
//! does not.

use landfall_tensor::{Element, bf16, f16};

/// A numeric type that converts to every other.
pub trait CastElement: Element {
    /// From a value that is real or was made real exactly.
    fn from_real(value: f64) -> Self;
    /// From an integer.
    fn from_integer(value: i128) -> Self;
    /// This value as one or the other.
    fn number(self) -> Number;
    /// This value as a real number, rounded if it is an integer of more than 53 bits.
    #[inline(always)]
    fn to_real(self) -> f64 {
        match self.number() {
            Number::Real(x) => x,
            Number::Integer(x) => x as f64,
        }
    }
}

/// A real or an integer.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// A real number; every float converts exactly.
    Real(f64),
    /// An integer.
    Integer(i128),
}

macro_rules! integer_casts {
    ($($ty:ty)*) => {$(
        impl CastElement for $ty {
            #[inline(always)]
            fn from_real(value: f64) -> $ty { value as $ty }
            #[inline(always)]
            fn from_integer(value: i128) -> $ty { value as $ty }
            #[inline(always)]
            fn number(self) -> Number { Number::Integer(self as i128) }
        }
    )*};
}

macro_rules! float_casts {
    ($($ty:ty, $from:expr;)*) => {$(
        impl CastElement for $ty {
            #[inline(always)]
            fn from_real(value: f64) -> $ty { ($from)(value) }
            #[inline(always)]
            fn from_integer(value: i128) -> $ty { ($from)(value as f64) }
            #[inline(always)]
            fn number(self) -> Number { Number::Real(f64::from(self)) }
        }
    )*};
}

integer_casts! { i8 u8 i16 u16 i32 u32 i64 u64 }
float_casts! {
    f32, |x: f64| x as f32;
    f64, |x: f64| x;
    f16, f16::from_f64;
    bf16, bf16::from_f64;
}

/// Numbers converted at a time: each pair of types then needs no loop of its own.
pub const CAST_BLOCK: usize = 128;

/// Reads elements as numbers.
pub fn read_numbers<A: CastElement>(input: &[A], numbers: &mut [Number]) {
    for (number, &x) in numbers.iter_mut().zip(input) {
        *number = x.number();
    }
}

/// Writes numbers as elements; `to_bool` makes everything but zero one.
pub fn write_numbers<B: CastElement>(numbers: &[Number], out: &mut [B], to_bool: bool) {
    for (o, &number) in out.iter_mut().zip(numbers) {
        *o = match number {
            Number::Real(x) if to_bool => B::from_integer(i128::from(x != 0.0)),
            Number::Integer(x) if to_bool => B::from_integer(i128::from(x != 0)),
            Number::Real(x) => B::from_real(x),
            Number::Integer(x) => B::from_integer(x),
        };
    }
}
