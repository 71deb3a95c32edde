//! Whether a model still gives the outputs that it gave when it was packaged.

use anyhow::{Context, Result, anyhow, bail, ensure};
use landfall_package::{Golden, Tolerance};
use landfall_tensor::{DType, Tensor, bf16, f16};

use super::Opened;

/// Runs every golden case and compares. The error names case, output and element.
pub fn check_golden(opened: &Opened, cases: &[Golden]) -> Result<()> {
    for (index, case) in cases.iter().enumerate() {
        check_case(opened, case).with_context(|| {
            format!("golden case {index}: the model does not give the outputs it was packaged with")
        })?;
    }
    Ok(())
}

fn check_case(opened: &Opened, case: &Golden) -> Result<()> {
    let find = |name: &str| {
        let input = case.inputs.iter().find(|(input, _)| input == name);
        input.map(|(_, tensor)| tensor.clone()).ok_or_else(|| anyhow!("no input '{name}'"))
    };
    let signature = opened.signature();
    let inputs = signature.inputs.iter().map(|spec| find(&spec.name));
    let outputs = opened.predict(&inputs.collect::<Result<Vec<_>>>()?)?;
    for (spec, found) in signature.outputs.iter().zip(&outputs) {
        let expected = case.outputs.iter().find(|(output, _)| *output == spec.name);
        if let Some((name, expected)) = expected {
            compare(expected, found, case.tolerance).with_context(|| format!("output '{name}'"))?;
        }
    }
    Ok(())
}

/// Fails unless `found` is `expected`: floats within the tolerance, all else equal.
fn compare(expected: &Tensor, found: &Tensor, tolerance: Tolerance) -> Result<()> {
    ensure!(
        expected.dtype() == found.dtype() && expected.shape() == found.shape(),
        "expected {} {}, found {} {}",
        expected.dtype(),
        expected.shape(),
        found.dtype(),
        found.shape()
    );
    let (Some(a), Some(b)) = (floats(expected)?, floats(found)?) else {
        ensure!(expected == found, "expected other elements");
        return Ok(());
    };
    for (index, (a, b)) in a.into_iter().zip(b).enumerate() {
        let bound = tolerance.absolute + tolerance.relative * a.abs();
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= bound;
        if !same {
            bail!("element {index}: expected {a}, found {b}, which is off by more than {bound:e}");
        }
    }
    Ok(())
}

/// The elements of a float tensor; `None` for other types.
fn floats(tensor: &Tensor) -> Result<Option<Vec<f64>>> {
    let tensor = tensor.aligned();
    Ok(Some(match tensor.dtype() {
        DType::F32 => tensor.as_slice::<f32>()?.iter().map(|&v| f64::from(v)).collect(),
        DType::F64 => tensor.as_slice::<f64>()?.to_vec(),
        DType::F16 => tensor.as_slice::<f16>()?.iter().map(|v| v.to_f64()).collect(),
        DType::BF16 => tensor.as_slice::<bf16>()?.iter().map(|v| v.to_f64()).collect(),
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use landfall_tensor::Shape;

    use super::*;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::from_slice(Shape::from([values.len()]), values).unwrap()
    }

    #[test]
    fn floats_may_differ_within_the_tolerance_and_nothing_else_may() {
        let tolerance = Tolerance { absolute: 0.5, relative: 0.0 };
        let expected = tensor(&[1.0, f32::NAN, f32::INFINITY]);
        assert!(compare(&expected, &tensor(&[1.25, f32::NAN, f32::INFINITY]), tolerance).is_ok());
        let error = compare(&expected, &tensor(&[2.0, f32::NAN, f32::INFINITY]), tolerance);
        assert!(error.unwrap_err().to_string().starts_with("element 0: expected 1, found 2"));
        assert!(compare(&expected, &tensor(&[1.0, 0.0, f32::INFINITY]), tolerance).is_err());
        assert!(compare(&expected, &tensor(&[1.0, f32::NAN, f32::MAX]), tolerance).is_err());
        assert!(compare(&expected, &tensor(&[1.0]), tolerance).is_err());
        let text =
            |value: &str| Tensor::from_strings(Shape::from([1]), vec![value.into()]).unwrap();
        assert!(compare(&text("a"), &text("a"), tolerance).is_ok());
        assert!(compare(&text("a"), &text("b"), tolerance).is_err());
    }
}
