//! ONNX's rule for a right answer, as its backend test runner states it.
//!
//! As many outputs as expected; the same shape and element type; floating-point elements within
//! `atol + rtol * |expected|`, a NaN where a NaN is expected, infinities exact; for bf16 the
//! relative tolerance is at least two units in the last place. Integers, booleans and strings must
//! be equal, where ONNX's own runner would let integers differ by the relative tolerance too.

use landfall_tensor::{DType, Element, Tensor, bf16, f16};

const BF16_RTOL_MIN: f64 = 1.0 / 64.0;

/// Allowed difference of floating-point elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    pub(crate) rtol: f64,
    pub(crate) atol: f64,
}

/// Why `got` is not the expected tensor; `None` if it is. Without `values` only shape and type
/// count.
pub(crate) fn difference(
    got: &Tensor,
    expected: &Tensor,
    tolerance: Tolerance,
    values: bool,
) -> Option<String> {
    if got.dtype() != expected.dtype() {
        return Some(format!("datatype {}, expected {}", got.dtype(), expected.dtype()));
    }
    if got.shape() != expected.shape() {
        return Some(format!("shape {}, expected {}", got.shape(), expected.shape()));
    }
    if !values {
        return None;
    }
    match (floats(got), floats(expected)) {
        (Some(got_values), Some(wanted)) => {
            let rtol = match got.dtype() {
                DType::BF16 => tolerance.rtol.max(BF16_RTOL_MIN),
                _ => tolerance.rtol,
            };
            float_difference(&got_values, &wanted, Tolerance { rtol, ..tolerance })
        }
        _ => (got != expected).then(|| exact_difference(got, expected)),
    }
}

fn float_difference(got: &[f64], expected: &[f64], tolerance: Tolerance) -> Option<String> {
    let wrong: Vec<usize> =
        (0..expected.len()).filter(|&i| !close(got[i], expected[i], tolerance)).collect();
    let first = *wrong.first()?;
    Some(format!(
        "{} of {} elements differ; element {first} is {}, expected {}",
        wrong.len(),
        expected.len(),
        got[first],
        expected[first]
    ))
}

fn close(got: f64, expected: f64, tolerance: Tolerance) -> bool {
    let both_nan = got.is_nan() && expected.is_nan();
    let finite = got.is_finite() && expected.is_finite();
    both_nan
        || got == expected
        || (finite && (got - expected).abs() <= tolerance.atol + tolerance.rtol * expected.abs())
}

fn exact_difference(got: &Tensor, expected: &Tensor) -> String {
    let (got, expected) = (texts(got), texts(expected));
    let wrong: Vec<usize> = (0..expected.len()).filter(|&i| got[i] != expected[i]).collect();
    let first = wrong.first().copied().unwrap_or_default();
    format!(
        "{} of {} elements differ; element {first} is {}, expected {}",
        wrong.len(),
        expected.len(),
        got[first],
        expected[first]
    )
}

/// The elements of an integer, boolean or string tensor, as text.
fn texts(tensor: &Tensor) -> Vec<String> {
    fn of<T: Element>(tensor: &Tensor) -> Vec<String> {
        let elements = tensor.as_slice::<T>().unwrap_or_default();
        elements.iter().map(|element| format!("{element:?}")).collect()
    }
    let tensor = tensor.aligned();
    match tensor.dtype() {
        DType::I8 => of::<i8>(&tensor),
        DType::I16 => of::<i16>(&tensor),
        DType::I32 => of::<i32>(&tensor),
        DType::I64 => of::<i64>(&tensor),
        DType::U16 => of::<u16>(&tensor),
        DType::U32 => of::<u32>(&tensor),
        DType::U64 => of::<u64>(&tensor),
        _ => match tensor.strings() {
            Ok(strings) => strings.iter().map(|text| format!("{text:?}")).collect(),
            Err(_) => tensor.bytes().unwrap_or_default().iter().map(u8::to_string).collect(),
        },
    }
}

/// The elements of a floating-point tensor, widened; `None` for other types.
fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    let tensor = tensor.aligned();
    Some(match tensor.dtype() {
        DType::F32 => tensor.as_slice::<f32>().ok()?.iter().map(|&x| x.into()).collect(),
        DType::F64 => tensor.as_slice::<f64>().ok()?.to_vec(),
        DType::F16 => tensor.as_slice::<f16>().ok()?.iter().map(|x| x.to_f64()).collect(),
        DType::BF16 => tensor.as_slice::<bf16>().ok()?.iter().map(|x| x.to_f64()).collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use landfall_tensor::Shape;

    use super::*;

    const TOLERANCE: Tolerance = Tolerance { rtol: 1e-3, atol: 1e-7 };

    fn f32s(values: &[f32]) -> Tensor {
        Tensor::from_slice(Shape::from([values.len()]), values).unwrap()
    }

    fn differs(got: &Tensor, expected: &Tensor) -> bool {
        difference(got, expected, TOLERANCE, true).is_some()
    }

    #[test]
    fn floats_may_differ_by_the_tolerance_only() {
        assert!(!differs(&f32s(&[1.0009, 0.0]), &f32s(&[1.0, 5e-8])));
        let text = difference(&f32s(&[1.0, 1.002]), &f32s(&[1.0, 1.0]), TOLERANCE, true).unwrap();
        assert!(text.starts_with("1 of 2 elements differ; element 1 is 1.00"), "{text}");
    }

    #[test]
    fn nan_equals_nan_and_infinity_is_exact() {
        let special = f32s(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        assert!(!differs(&special, &special));
        assert!(differs(&f32s(&[f32::NAN]), &f32s(&[0.0])));
        assert!(differs(&f32s(&[0.0]), &f32s(&[f32::NAN])));
        assert!(differs(&f32s(&[f32::MAX]), &f32s(&[f32::INFINITY])));
        assert!(differs(&f32s(&[f32::INFINITY]), &f32s(&[f32::MAX])));
        assert!(differs(&f32s(&[f32::INFINITY]), &f32s(&[f32::NEG_INFINITY])));
    }

    #[test]
    fn integers_and_strings_are_exact() {
        let ints = |values: &[i32]| Tensor::from_slice(Shape::from([2]), values).unwrap();
        let text = difference(&ints(&[1, 100_001]), &ints(&[1, 100_000]), TOLERANCE, true);
        let expected = "1 of 2 elements differ; element 1 is 100001, expected 100000";
        assert_eq!(text.as_deref(), Some(expected));
        assert!(!differs(&ints(&[1, 2]), &ints(&[1, 2])));
        let text =
            |value: &str| Tensor::from_strings(Shape::from([1]), vec![value.to_owned()]).unwrap();
        assert!(differs(&text("a"), &text("b")));
    }

    #[test]
    fn shape_and_type_count_even_for_random_values() {
        let other_shape = f32s(&[0.5]).reshaped(Shape::from([1, 1])).unwrap();
        assert!(difference(&other_shape, &f32s(&[0.5]), TOLERANCE, false).is_some());
        let double = Tensor::from_slice(Shape::from([1]), &[0.5f64]).unwrap();
        assert!(difference(&double, &f32s(&[0.5]), TOLERANCE, false).is_some());
        assert!(difference(&f32s(&[0.9]), &f32s(&[0.5]), TOLERANCE, false).is_none());
    }

    #[test]
    fn bf16_has_a_wider_relative_tolerance() {
        let one =
            |value: f32| Tensor::from_slice(Shape::from([1]), &[bf16::from_f32(value)]).unwrap();
        assert!(!differs(&one(1.0078125), &one(1.0)));
        assert!(differs(&one(1.03), &one(1.0)));
    }
}
