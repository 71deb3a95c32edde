//! Choosing the precision of a package by the error that it makes.
//!
//! A server must not change answers silently, so `auto` is decided once, when the package is
//! written, on golden inputs that its author gives, and kept in the package. The error is that of
//! the scalar kernels, which round operands like all others: the choice depends on no machine.

use anyhow::{Result, ensure};
use landfall_tensor::Precision;

use crate::commands::arguments;
use crate::engine::floats;
use crate::npz::Arrays;

/// What `--precision` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PrecisionChoice {
    /// This one.
    Fixed(Precision),
    /// bf16 if its error is within the limit, or else f32.
    Auto,
}

/// Reads `auto` or a precision's name.
pub(super) fn choice(text: &str) -> Result<PrecisionChoice, String> {
    match text {
        "auto" => Ok(PrecisionChoice::Auto),
        _ => arguments::precision(text)
            .map(PrecisionChoice::Fixed)
            .map_err(|error| format!("{error}; or auto")),
    }
}

/// Reads a limit on the error.
pub(super) fn limit(text: &str) -> Result<f64, String> {
    let limit = text.parse().ok().filter(|limit| (0.0..=1.0).contains(limit));
    limit.ok_or_else(|| format!("expected a number from 0 to 1, found '{text}'"))
}

/// By how much outputs differ: the largest over all outputs, of floats the greatest difference as a
/// fraction of the greatest finite size in `expected`, of other types the share of elements that
/// differ. Infinite if one is NaN or infinite and the other is not the same.
pub(super) fn error(expected: &Arrays, found: &Arrays) -> Result<f64> {
    let mut largest = 0f64;
    for ((name, a), (_, b)) in expected.iter().zip(found) {
        ensure!(a.shape() == b.shape(), "output '{name}' changes its shape with the precision");
        let error = match (floats(a)?, floats(b)?) {
            (Some(a), Some(b)) => difference(&a, &b),
            _ if a == b => 0.0,
            _ => differing(a.bytes(), b.bytes(), a.elements()),
        };
        largest = largest.max(error);
    }
    Ok(largest)
}

fn difference(expected: &[f64], found: &[f64]) -> f64 {
    let finite = expected.iter().copied().filter(|x| x.is_finite());
    let size = finite.fold(0f64, |size, x| size.max(x.abs()));
    let pairs = expected.iter().zip(found);
    let differences = pairs.map(|(a, b)| match (a - b).abs() {
        _ if a == b || (a.is_nan() && b.is_nan()) => 0.0,
        difference if difference.is_finite() && size > 0.0 => difference / size,
        _ => f64::INFINITY,
    });
    differences.fold(0.0, f64::max)
}

/// The share of elements that differ; all of them where that cannot be told.
fn differing(a: Option<&[u8]>, b: Option<&[u8]>, elements: usize) -> f64 {
    let (Some(a), Some(b)) = (a, b) else { return 1.0 };
    let size = (a.len() / elements.max(1)).max(1);
    let pairs = a.chunks(size).zip(b.chunks(size));
    pairs.filter(|(a, b)| a != b).count() as f64 / elements.max(1) as f64
}

#[cfg(test)]
mod tests {
    use landfall_tensor::{Shape, Tensor};

    use super::*;

    fn arrays<T: landfall_tensor::Element>(values: &[T]) -> Arrays {
        vec![("y".to_owned(), Tensor::from_slice(Shape::from([values.len()]), values).unwrap())]
    }

    #[test]
    fn errors_are_fractions_of_the_greatest_value_or_of_the_elements() {
        let error = |a: &[f32], b: &[f32]| error(&arrays(a), &arrays(b)).unwrap();
        assert_eq!(error(&[1.0, -4.0], &[2.0, -4.0]), 0.25);
        assert_eq!(error(&[f32::NAN, 1.0], &[f32::NAN, 1.0]), 0.0);
        assert_eq!(error(&[f32::INFINITY, 2.0], &[f32::INFINITY, 1.0]), 0.5);
        assert_eq!(error(&[1.0], &[f32::NAN]), f64::INFINITY);
        assert_eq!(error(&[0.0], &[1e-9]), f64::INFINITY);
        assert_eq!(error(&[], &[]), 0.0);
        let labels = super::error(&arrays(&[1i64, 2, 3, 4]), &arrays(&[1i64, 2, 3, 5])).unwrap();
        assert_eq!(labels, 0.25);
    }
}
