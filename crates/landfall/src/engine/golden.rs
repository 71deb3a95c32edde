//! Whether a model still gives the outputs that it gave when it was packaged.

use anyhow::{Context, Result, anyhow, bail, ensure};
use landfall_package::{Golden, Tolerance};
use landfall_tensor::{DType, Tensor, bf16, f16};

use super::{Opened, declared_precision};

/// Runs every golden case and compares, unless the model runs in another precision than its author
/// declares, whose arithmetic gave the outputs expected. The error names case, output and element.
pub fn check_golden(opened: &Opened, cases: &[Golden]) -> Result<()> {
    if opened.model.precision() != declared_precision(&opened.serving) {
        return Ok(());
    }
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
    let Some((expected, found)) = both(expected, found)? else { return Ok(()) };
    for (index, (a, b)) in expected.into_iter().zip(found).enumerate() {
        let bound = tolerance.absolute + tolerance.relative * a.abs();
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= bound;
        if !same {
            bail!("element {index}: expected {a}, found {b}, which is off by more than {bound:e}");
        }
    }
    Ok(())
}

/// How far a tensor is from the one expected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Excess {
    /// The largest difference beyond what the relative tolerance covers.
    pub absolute: f64,
    /// The largest finite magnitude expected.
    pub scale: f64,
}

/// How far `found` is from `expected`. Fails where no tolerance helps.
pub fn excess(expected: &Tensor, found: &Tensor, relative: f64) -> Result<Excess> {
    let mut excess = Excess { absolute: 0.0, scale: 0.0 };
    let Some((expected, found)) = both(expected, found)? else { return Ok(excess) };
    for (index, (a, b)) in expected.into_iter().zip(found).enumerate() {
        if a.is_finite() {
            excess.scale = excess.scale.max(a.abs());
        }
        if a == b || (a.is_nan() && b.is_nan()) {
            continue;
        }
        let absolute = (a - b).abs() - relative * a.abs();
        ensure!(absolute.is_finite(), "element {index}: expected {a}, found {b}");
        excess.absolute = excess.absolute.max(absolute);
    }
    Ok(excess)
}

/// The elements of two float tensors of one shape; `None` for other types, which have to be equal.
fn both(expected: &Tensor, found: &Tensor) -> Result<Option<(Vec<f64>, Vec<f64>)>> {
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
        return Ok(None);
    };
    Ok(Some((a, b)))
}

/// The elements of a float tensor; `None` for other types.
pub fn floats(tensor: &Tensor) -> Result<Option<Vec<f64>>> {
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
