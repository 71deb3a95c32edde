//! Sampling of images between their pixels: resizing, grids, regions of interest.

mod interpolate;
mod nearest;
#[cfg(test)]
mod tests;

pub use interpolate::{Interpolation, Taps, interpolate};
pub use nearest::{NearestAxis, gather_nearest};

use landfall_tensor::{bf16, f16};

use crate::elementwise::{Float, Wide};

/// An element that can be interpolated.
pub trait Sample: Copy + Send + Sync {
    /// What interpolation computes in.
    type Wide: Wide + bytemuck::AnyBitPattern + bytemuck::NoUninit;
    /// The value, exactly (integers of more than 53 bits are rounded).
    fn read(self) -> Self::Wide;
    /// The nearest value of this type, halves to even.
    fn write(value: Self::Wide) -> Self;
}

macro_rules! float_samples {
    ($($ty:ty)*) => {$(
        impl Sample for $ty {
            type Wide = <$ty as Float>::Wide;
            #[inline(always)]
            fn read(self) -> Self::Wide { self.widen() }
            #[inline(always)]
            fn write(value: Self::Wide) -> $ty { <$ty as Float>::narrow(value) }
        }
    )*};
}

macro_rules! integer_samples {
    ($($ty:ty)*) => {$(
        impl Sample for $ty {
            type Wide = f64;
            #[inline(always)]
            fn read(self) -> f64 { self as f64 }
            #[inline(always)]
            fn write(value: f64) -> $ty { value.round_ties_even() as $ty }
        }
    )*};
}

float_samples! { f32 f64 f16 bf16 }
integer_samples! { i8 u8 i16 u16 i32 u32 i64 u64 }
