//! Whether a request fits a signature, with errors that say what does not.

use landfall_graph::{DimSpec, Signature, TensorSpec};
use landfall_tensor::Tensor;

use crate::{ErrorKind, PredictError, Request};

/// The most characters of a caller's text that an error repeats.
const MAX_ECHO: usize = 120;

/// A request that fits its model.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Inputs in the signature's order.
    pub(crate) inputs: Vec<Tensor>,
    /// Indices of the outputs wanted, in the order wanted.
    pub(crate) wanted: Vec<usize>,
}

/// Checks names, datatypes, shapes and shared symbolic extents. `owner` gives the name of the model
/// for errors.
pub(crate) fn check(
    owner: impl Fn() -> String,
    signature: &Signature,
    request: &Request,
) -> Result<Checked, PredictError> {
    let fail = |reason: String| {
        Err(PredictError::new(ErrorKind::InvalidArgument, format!("{}: {reason}", owner())))
    };
    let inputs = match order_inputs(&signature.inputs, &request.inputs) {
        Ok(inputs) => inputs,
        Err(reason) => return fail(reason),
    };
    for (spec, tensor) in signature.inputs.iter().zip(&inputs) {
        if let Some(reason) = spec.mismatch(&tensor.view()) {
            return fail(reason);
        }
    }
    if let Some(reason) = unequal_symbols(&signature.inputs, &inputs) {
        return fail(reason);
    }
    match order_outputs(&signature.outputs, &request.outputs) {
        Ok(wanted) => Ok(Checked { inputs, wanted }),
        Err(reason) => fail(reason),
    }
}

fn order_inputs(specs: &[TensorSpec], given: &[(String, Tensor)]) -> Result<Vec<Tensor>, String> {
    let in_order = specs.len() == given.len()
        && specs.iter().zip(given).all(|(spec, (name, _))| spec.name == *name);
    if in_order {
        return Ok(given.iter().map(|(_, tensor)| tensor.clone()).collect());
    }
    let mut found: Vec<Option<&Tensor>> = vec![None; specs.len()];
    for (name, tensor) in given {
        let index = specs
            .iter()
            .position(|spec| spec.name == *name)
            .ok_or_else(|| format!("unknown input {}; {}", quote(name), known(specs, "inputs")))?;
        if found[index].replace(tensor).is_some() {
            return Err(format!("input {} is given twice", quote(name)));
        }
    }
    let missing: Vec<&TensorSpec> = specs
        .iter()
        .zip(&found)
        .filter(|(_, tensor)| tensor.is_none())
        .map(|(spec, _)| spec)
        .collect();
    if let [first, ..] = missing.as_slice() {
        let names: Vec<String> = missing.iter().take(8).map(|spec| quote(&spec.name)).collect();
        return Err(format!(
            "missing {} of {} inputs: {}; input {} is {}",
            missing.len(),
            specs.len(),
            names.join(", "),
            quote(&first.name),
            first.dtype.protocol_name()
        ));
    }
    Ok(found.into_iter().flatten().cloned().collect())
}

fn order_outputs(specs: &[TensorSpec], wanted: &[String]) -> Result<Vec<usize>, String> {
    if wanted.is_empty() {
        return Ok((0..specs.len()).collect());
    }
    let mut indices = Vec::with_capacity(specs.len().min(wanted.len()));
    for name in wanted {
        let index = specs.iter().position(|spec| spec.name == *name).ok_or_else(|| {
            format!("unknown output {}; {}", quote(name), known(specs, "outputs"))
        })?;
        if indices.contains(&index) {
            return Err(format!("output {} is requested twice", quote(name)));
        }
        indices.push(index);
    }
    Ok(indices)
}

fn unequal_symbols(specs: &[TensorSpec], inputs: &[Tensor]) -> Option<String> {
    let mut bound: Vec<(&str, usize, &str)> = Vec::new();
    for (spec, tensor) in specs.iter().zip(inputs) {
        for (dim, &extent) in spec.dims.iter().flatten().zip(tensor.shape().iter()) {
            let DimSpec::Symbol(symbol) = dim else { continue };
            if symbol.is_empty() {
                continue;
            }
            match bound.iter().find(|(name, _, _)| name == symbol) {
                Some(&(_, first, input)) if first != extent => {
                    return Some(format!(
                        "axis '{symbol}' is {first} in input {} but {extent} in input {}",
                        quote(input),
                        quote(&spec.name)
                    ));
                }
                Some(_) => {}
                None => bound.push((symbol, extent, &spec.name)),
            }
        }
    }
    None
}

fn known(specs: &[TensorSpec], what: &str) -> String {
    let names: Vec<String> = specs.iter().take(16).map(|spec| quote(&spec.name)).collect();
    let more =
        if specs.len() > 16 { format!(" and {} more", specs.len() - 16) } else { String::new() };
    format!("{what} are {}{more}", names.join(", "))
}

/// `text` in quotes, shortened if a caller sent something long.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(MAX_ECHO) {
        Some((end, _)) => format!("'{}…'", &text[..end]),
        None => format!("'{text}'"),
    }
}

#[cfg(test)]
mod tests {
    use landfall_tensor::{DType, Shape};

    use super::*;
    use crate::fakes::{spec, symbol};

    fn signature() -> Signature {
        Signature {
            inputs: vec![
                spec("ids", DType::I64, &[symbol("batch"), symbol("length")]),
                spec("mask", DType::I64, &[symbol("batch"), symbol("length")]),
            ],
            outputs: vec![
                spec("a", DType::F32, &[symbol("batch")]),
                spec("b", DType::F32, &[symbol("batch")]),
            ],
        }
    }

    fn ones(shape: [usize; 2]) -> Tensor {
        Tensor::from_slice(Shape::from(shape), &vec![1i64; shape[0] * shape[1]]).unwrap()
    }

    fn message(inputs: &[(&str, Tensor)], outputs: &[&str]) -> String {
        let request = Request {
            inputs: inputs.iter().map(|(name, t)| ((*name).to_owned(), t.clone())).collect(),
            outputs: outputs.iter().map(|name| (*name).to_owned()).collect(),
            ..Request::default()
        };
        match check(|| "model 'm' version 1".to_owned(), &signature(), &request) {
            Ok(checked) => format!("{:?}", checked.wanted),
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::InvalidArgument);
                error.message
            }
        }
    }

    #[test]
    fn errors_name_the_model_the_input_and_both_sides() {
        let float = Tensor::from_slice(Shape::from([1, 2]), &[0f32; 2]).unwrap();
        let flat = ones([1, 2]).reshaped(Shape::from([2])).unwrap();
        let ids = || ("ids", ones([1, 2]));
        let mask = || ("mask", ones([1, 2]));
        type Case<'a> = (&'a [(&'a str, Tensor)], &'a [&'a str], &'a str);
        let cases: [Case<'_>; 9] = [
            (&[ids(), mask()], &[], "[0, 1]"),
            (&[mask(), ids()], &["b", "a"], "[1, 0]"),
            (&[ids()], &[], "missing 1 of 2 inputs: 'mask'; input 'mask' is INT64"),
            (
                &[ids(), mask(), ("x", ones([1, 1]))],
                &[],
                "unknown input 'x'; inputs are 'ids', 'mask'",
            ),
            (&[ids(), ids()], &[], "input 'ids' is given twice"),
            (&[ids(), ("mask", float)], &[], "input 'mask' has datatype FP32, expected INT64"),
            (&[ids(), ("mask", flat)], &[], "input 'mask' has shape [2], expected [batch,length]"),
            (
                &[ids(), ("mask", ones([1, 3]))],
                &[],
                "axis 'length' is 2 in input 'ids' but 3 in input 'mask'",
            ),
            (&[ids(), mask()], &["c"], "unknown output 'c'; outputs are 'a', 'b'"),
        ];
        for (inputs, outputs, expected) in cases {
            let found = message(inputs, outputs);
            let found = found.strip_prefix("model 'm' version 1: ").unwrap_or(&found);
            assert_eq!(found, expected);
        }
        assert!(message(&[ids(), mask()], &["a", "a"]).ends_with("output 'a' is requested twice"));
    }

    #[test]
    fn long_names_are_not_echoed_whole() {
        let found = message(&[(&"é".repeat(5000), ones([1, 1]))], &[]);
        assert!(found.chars().count() < 300, "{found}");
    }
}
