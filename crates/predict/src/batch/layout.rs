//! What a model's signature says about batching: whether rows may be joined, and which requests
//! have shapes that fit together.

use landfall_graph::{DimSpec, Signature, TensorSpec};
use landfall_tensor::Tensor;

use crate::{Batching, Padding, ServingConfig};

/// How requests of one model are joined.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layout {
    /// Free axes other than the leading one: (input, axis, padded).
    free: Vec<(usize, usize, bool)>,
    /// Axes that are filled up: (input, axis, value).
    pub(crate) pad: Vec<(usize, usize, f64)>,
    /// Axes that are cut back: (output, axis, index into `pad`).
    pub(crate) cut: Vec<(usize, usize, usize)>,
}

impl Layout {
    /// The layout for a configuration, or why requests run alone. The outer error is a
    /// configuration that the signature contradicts.
    pub(crate) fn new(
        signature: &Signature,
        config: &ServingConfig,
    ) -> Result<Result<Layout, String>, String> {
        let obstacle = obstacle(signature);
        match (config.batching, obstacle) {
            (Batching::Off, _) => return Ok(Err("batching is switched off".to_owned())),
            (Batching::Auto, Some(reason)) => return Ok(Err(reason)),
            (Batching::Required, Some(reason)) => {
                return Err(format!("batching is required, but {reason}"));
            }
            (Batching::Auto | Batching::Required, None) => {}
        }
        let padding = config.padding.clone().unwrap_or_default();
        let pad = padded_inputs(signature, &padding)?;
        let cut = padded_outputs(signature, &padding, &pad)?;
        let mut free = Vec::new();
        for (input, spec) in signature.inputs.iter().enumerate() {
            for (axis, dim) in spec.dims.iter().flatten().enumerate().skip(1) {
                let padded = pad.iter().any(|&(i, a, _)| (i, a) == (input, axis));
                match dim {
                    DimSpec::Symbol(_) => free.push((input, axis, padded)),
                    DimSpec::Known(_) if padded => {
                        return Err(format!(
                            "padding: axis {axis} of input '{}' has a fixed extent",
                            spec.name
                        ));
                    }
                    DimSpec::Known(_) => {}
                }
            }
        }
        Ok(Ok(Layout { free, pad, cut }))
    }

    /// Rows of a request and the extents it must share with its batch; `None` if it must run alone
    /// (no rows, or inputs that disagree about their number).
    pub(crate) fn place(&self, inputs: &[Tensor]) -> Option<(usize, Box<[usize]>)> {
        let rows = *inputs.first()?.shape().first()?;
        if rows == 0 || inputs.iter().any(|tensor| tensor.shape().first() != Some(&rows)) {
            return None;
        }
        let extent = |&(input, axis, padded): &(usize, usize, bool)| {
            let extent = inputs[input].shape()[axis];
            if padded { rung(extent) } else { extent }
        };
        Some((rows, self.free.iter().map(extent).collect()))
    }
}

/// The smallest rung that holds `length`: every integer to 8, then four rungs per doubling.
fn rung(length: usize) -> usize {
    if length <= 8 {
        return length;
    }
    let step = 1usize << (length.ilog2() - 2);
    length.checked_next_multiple_of(step).unwrap_or(length)
}

fn obstacle(signature: &Signature) -> Option<String> {
    if signature.inputs.is_empty() || signature.outputs.is_empty() {
        return Some("the model has no inputs or no outputs".to_owned());
    }
    let mut shared: Option<&str> = None;
    let is_output = |index: usize| index >= signature.inputs.len();
    for (index, spec) in signature.inputs.iter().chain(&signature.outputs).enumerate() {
        match spec.dims.as_ref().and_then(|dims| dims.first()) {
            Some(DimSpec::Symbol(name)) if name.is_empty() => {}
            Some(DimSpec::Symbol(name)) => {
                let first = *shared.get_or_insert(name);
                if first != name {
                    return Some(format!(
                        "the leading axis of '{}' is '{name}', not '{first}'",
                        spec.name
                    ));
                }
            }
            Some(DimSpec::Known(extent)) => {
                return Some(format!(
                    "the leading axis of '{}' has the fixed extent {extent}",
                    spec.name
                ));
            }
            // A run with other rows than went in is found out when it happens.
            None if spec.dims.is_none() && is_output(index) => {}
            None => return Some(format!("'{}' has no leading axis", spec.name)),
        }
    }
    None
}

fn find(specs: &[TensorSpec], name: &str, what: &str) -> Result<usize, String> {
    specs
        .iter()
        .position(|spec| spec.name == name)
        .ok_or_else(|| format!("padding: the model has no {what} '{name}'"))
}

fn check_axis(spec: &TensorSpec, axis: usize) -> Result<(), String> {
    let rank = spec.dims.as_ref().map_or(0, Vec::len);
    if axis == 0 || axis >= rank {
        return Err(format!("padding: '{}' has no axis {axis} after its leading one", spec.name));
    }
    Ok(())
}

fn padded_inputs(
    signature: &Signature,
    padding: &Padding,
) -> Result<Vec<(usize, usize, f64)>, String> {
    let mut pad: Vec<(usize, usize, f64)> = Vec::new();
    for declared in &padding.inputs {
        let input = find(&signature.inputs, &declared.input, "input")?;
        let spec = &signature.inputs[input];
        check_axis(spec, declared.axis)?;
        if spec.dtype.size() == 0 {
            return Err(format!("padding: input '{}' holds no numbers", spec.name));
        }
        if pad.iter().any(|&(i, _, _)| i == input) {
            return Err(format!("padding: input '{}' is padded twice", spec.name));
        }
        pad.push((input, declared.axis, declared.value));
    }
    let symbol_at = |input: usize, axis: usize| match &signature.inputs[input].dims {
        Some(dims) => match &dims[axis] {
            DimSpec::Symbol(name) if !name.is_empty() => Some(name.as_str()),
            _ => None,
        },
        None => None,
    };
    let padded: Vec<&str> = pad.iter().filter_map(|&(i, a, _)| symbol_at(i, a)).collect();
    for (input, spec) in signature.inputs.iter().enumerate() {
        for axis in 0..spec.dims.as_ref().map_or(0, Vec::len) {
            let grows = symbol_at(input, axis).is_some_and(|name| padded.contains(&name));
            if grows && !pad.iter().any(|&(i, a, _)| (i, a) == (input, axis)) {
                return Err(format!(
                    "padding: axis {axis} of input '{}' shares its name with a padded axis and \
                     must be padded too",
                    spec.name
                ));
            }
        }
    }
    Ok(pad)
}

fn padded_outputs(
    signature: &Signature,
    padding: &Padding,
    pad: &[(usize, usize, f64)],
) -> Result<Vec<(usize, usize, usize)>, String> {
    let mut cut: Vec<(usize, usize, usize)> = Vec::new();
    for declared in &padding.outputs {
        let output = find(&signature.outputs, &declared.output, "output")?;
        let spec = &signature.outputs[output];
        check_axis(spec, declared.axis)?;
        let like = find(&signature.inputs, &declared.like, "input")?;
        let like = pad
            .iter()
            .position(|&(input, _, _)| input == like)
            .ok_or_else(|| format!("padding: input '{}' is not padded", declared.like))?;
        if cut.iter().any(|&(o, _, _)| o == output) {
            return Err(format!("padding: output '{}' is cut twice", spec.name));
        }
        cut.push((output, declared.axis, like));
    }
    Ok(cut)
}

#[cfg(test)]
mod tests {
    use landfall_tensor::{DType, Shape};

    use super::*;
    use crate::fakes::{known, spec, symbol};
    use crate::{PaddedInput, PaddedOutput};

    fn signature(input: &[DimSpec], output: &[DimSpec]) -> Signature {
        Signature {
            inputs: vec![spec("x", DType::F32, input)],
            outputs: vec![spec("y", DType::F32, output)],
        }
    }

    #[test]
    fn batching_needs_one_free_leading_axis() {
        let free = [symbol("batch"), known(4)];
        let cases = [
            (signature(&free, &free), None),
            (signature(&free, &[symbol("")]), None),
            (signature(&free, &[symbol("n")]), Some("leading axis of 'y' is 'n', not 'batch'")),
            (signature(&free, &[known(1)]), Some("'y' has the fixed extent 1")),
            (signature(&free, &[]), Some("'y' has no leading axis")),
        ];
        for (signature, expected) in cases {
            let required =
                ServingConfig { batching: Batching::Required, ..ServingConfig::default() };
            let auto = Layout::new(&signature, &ServingConfig::default()).unwrap();
            match (Layout::new(&signature, &required), expected) {
                (Ok(layout), None) => assert!(layout.is_ok() && auto.is_ok()),
                (Err(found), Some(part)) => {
                    assert!(found.contains(part), "{found}");
                    assert_eq!(found, format!("batching is required, but {}", auto.unwrap_err()));
                }
                (found, _) => panic!("{found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn rungs_waste_less_than_a_quarter() {
        for length in 1..5000 {
            let rung = rung(length);
            assert!(rung >= length && (rung - length) * 4 < length.max(4), "{length} -> {rung}");
        }
        assert_eq!([9, 16, 17, 33, 512, 513].map(super::rung), [10, 16, 20, 40, 512, 640]);
    }

    #[test]
    fn equal_names_must_be_padded_together() {
        let dims = [symbol("batch"), symbol("length")];
        let signature = Signature {
            inputs: vec![spec("ids", DType::I64, &dims), spec("mask", DType::I64, &dims)],
            outputs: vec![spec("y", DType::F32, &dims)],
        };
        let pad = |input: &str| PaddedInput { input: input.to_owned(), axis: 1, value: 0.0 };
        let config = |inputs: Vec<PaddedInput>, like: &str| ServingConfig {
            padding: Some(Padding {
                inputs,
                outputs: vec![PaddedOutput {
                    output: "y".to_owned(),
                    axis: 1,
                    like: like.to_owned(),
                }],
            }),
            ..ServingConfig::default()
        };
        let error = Layout::new(&signature, &config(vec![pad("ids")], "ids")).unwrap_err();
        assert!(error.contains("axis 1 of input 'mask'"), "{error}");
        let both = vec![pad("ids"), pad("mask")];
        let layout = Layout::new(&signature, &config(both, "mask")).unwrap().unwrap();
        assert_eq!(layout.cut, [(0, 1, 1)]);
        let tensor = |n| Tensor::zeros(DType::I64, Shape::from([2, n])).unwrap();
        let place = |n| layout.place(&[tensor(n), tensor(n)]);
        assert_eq!(place(17), place(20));
        assert_ne!(place(17), place(21));
        assert_eq!(layout.place(&[tensor(0).reshaped(Shape::from([0, 2])).unwrap()]), None);
    }
}
