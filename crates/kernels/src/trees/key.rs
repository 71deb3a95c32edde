//! Real numbers as unsigned integers of the same order.

use std::fmt::Debug;

/// An unsigned integer that stands for a real number of the same size.
///
/// Keys of numbers ascend with them; both zeros have one key. No number has key 0 or
/// [`Key::HIGHEST`] or the key below that: these stand for "below everything", for a leaf's
/// threshold and "above everything".
pub(super) trait Key:
    bytemuck::Pod + Ord + Debug + Send + Sync + std::hash::Hash + Into<u64> + TryFrom<u64>
{
    /// Below every number.
    const LOWEST: Self;
    /// Derived columns hold this for yes and [`Key::LOWEST`] for no.
    const ONE: Self;
    /// Above every number.
    const HIGHEST: Self;

    /// The key of a number; `None` for NaN.
    fn of(value: f64) -> Option<Self>;

    /// The next lower key; the lowest stays.
    fn before(self) -> Self;
}

macro_rules! keys {
    ($($key:ty, $signed:ty, $real:ty;)*) => {$(
        impl Key for $key {
            const LOWEST: $key = 0;
            const ONE: $key = 1;
            const HIGHEST: $key = <$key>::MAX;

            #[inline(always)]
            fn of(value: f64) -> Option<$key> {
                let value = value as $real;
                // Adding zero makes the negative zero positive.
                let bits = (value + 0.0).to_bits();
                let negative = (bits as $signed >> (<$key>::BITS - 1)) as $key;
                let sign = 1 << (<$key>::BITS - 1);
                (!value.is_nan()).then_some(bits ^ (negative | sign))
            }

            fn before(self) -> $key {
                self.saturating_sub(1)
            }
        }
    )*};
}

keys! {
    u32, i32, f32;
    u64, i64, f64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_extremes() {
        let numbers = [f64::NEG_INFINITY, -3.5, -1e-40, 0.0, 1e-40, 2.0, 3e38, f64::INFINITY];
        let keys: Vec<u32> = numbers.iter().filter_map(|&x| u32::of(x)).collect();
        assert!(keys.is_sorted_by(|a, b| a < b));
        assert!(keys[0] > u32::ONE && keys[7] < u32::HIGHEST - 1);
        assert_eq!(u64::of(-0.0), u64::of(0.0));
        assert_eq!(u64::of(f64::NAN), None);
        let below = f64::from_bits(2.0f64.to_bits() - 1);
        assert_eq!(u64::of(2.0).map(Key::before), u64::of(below));
    }
}
