//! Functions applied element by element, with broadcasting, over every numeric type.
//!
//! The broadcast pattern is worked out once, when a plan is made ([`Broadcast`]); running it is a
//! walk over rows whose inner loops the compiler vectorises. Half-precision types compute in `f32`.

mod binary;
mod broadcast;
mod cast;
mod select;
#[cfg(test)]
mod tests;
mod unary;

pub use binary::{
    BinaryFn, BitFn, CompareFn, IntegerFn, LogicFn, accumulate_float, accumulate_integer,
    binary_bits, binary_compare, binary_float, binary_integer, binary_logic, power_integer,
};
pub use broadcast::Broadcast;
pub use cast::{CAST_BLOCK, CastElement, Number, read_numbers, write_numbers};
pub use select::select;
pub use unary::{Integer, IntegerUnary, UnaryFn, unary_float, unary_integer};

use landfall_tensor::{Element, bf16, f16};

/// A floating-point element type.
pub trait Float: Element {
    /// The type that functions are evaluated in.
    type Wide: Wide;
    /// The value in the wide type, exactly.
    fn widen(self) -> Self::Wide;
    /// The nearest value of this type.
    fn narrow(wide: Self::Wide) -> Self;
}

macro_rules! floats {
    ($($ty:ty, $wide:ty, $widen:expr, $narrow:expr;)*) => {$(
        impl Float for $ty {
            type Wide = $wide;
            #[inline(always)]
            fn widen(self) -> $wide { ($widen)(self) }
            #[inline(always)]
            fn narrow(wide: $wide) -> $ty { ($narrow)(wide) }
        }
    )*};
}

floats! {
    f32, f32, |x| x, |x| x;
    f64, f64, |x| x, |x| x;
    f16, f32, f16::to_f32, f16::from_f32;
    bf16, f32, bf16::to_f32, bf16::from_f32;
}

/// The real functions that evaluation needs, in `f32` or `f64`.
pub trait Wide:
    Copy
    + PartialOrd
    + Send
    + Sync
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::Rem<Output = Self>
{
    /// The nearest value to a constant.
    fn of(value: f64) -> Self;
    /// The value as `f64`.
    fn to_f64(self) -> f64;
    /// A function of one argument by its `f32` and `f64` forms.
    fn apply(self, f32_form: fn(f32) -> f32, f64_form: fn(f64) -> f64) -> Self;
    /// `self` to the power `other`.
    fn power(self, other: Self) -> Self;
}

macro_rules! wides {
    ($($ty:ty, $form:ident;)*) => {$(
        impl Wide for $ty {
            #[inline(always)]
            fn of(value: f64) -> $ty { value as $ty }
            #[inline(always)]
            fn to_f64(self) -> f64 { f64::from(self) }
            #[inline(always)]
            fn apply(self, _f32_form: fn(f32) -> f32, _f64_form: fn(f64) -> f64) -> $ty {
                $form(_f32_form, _f64_form)(self)
            }
            #[inline(always)]
            fn power(self, other: $ty) -> $ty { self.powf(other) }
        }
    )*};
}

#[inline(always)]
fn first<A, B>(a: A, _: B) -> A {
    a
}

#[inline(always)]
fn second<A, B>(_: A, b: B) -> B {
    b
}

wides! {
    f32, first;
    f64, second;
}
