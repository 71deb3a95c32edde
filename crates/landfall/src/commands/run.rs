//! `landfall run`: one prediction from an NPZ archive.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use landfall_graph::{Dims, Signature, TensorSpec};
use landfall_tensor::{Buffer, DType, Precision, Tensor};

use super::Failure;
use super::arguments::{precision, threads};
use super::output::print;
use super::paths::Paths;
use super::table::{Table, preview};
use crate::engine::{self, EngineOptions};
use crate::npz::{self, Arrays};

const EXAMPLES: &str = "\
Examples:
  landfall run digits.onnx --input digits.npz
      prints the outputs' names, types, shapes and first elements
  landfall run minilm.landfall --input texts.npz --output vectors.npz
      numpy.savez('texts.npz', text=numpy.array(['hello', 'good morning'])) makes the input";

/// Predict once.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunArguments {
    /// A model file: .onnx or .landfall
    model: PathBuf,
    /// An NPZ archive whose arrays have the names of the model's inputs
    #[arg(long, short, value_name = "NPZ")]
    input: PathBuf,
    /// Where to write the outputs, under their names; without it they are shown
    #[arg(long, short, value_name = "NPZ")]
    output: Option<PathBuf>,
    /// Threads to use; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = threads)]
    threads: usize,
    /// Precision of matrix products and convolutions: f32 or bf16 [default: what the model's author
    /// declares, or f32]
    #[arg(long, value_name = "NAME", value_parser = precision)]
    precision: Option<Precision>,
}

pub(super) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let outputs = predict(arguments).map_err(Failure::Input)?;
    match &arguments.output {
        Some(path) => npz::write(path, &outputs).map_err(|error| Failure::Input(error.into())),
        None => print(&summary(&outputs)).map_err(Failure::No),
    }
}

fn predict(arguments: &RunArguments) -> Result<Arrays> {
    let paths = Paths::default().read("the model", &arguments.model);
    if let Some(output) = &arguments.output {
        paths.read("--input", &arguments.input).write("--output", output)?;
    }
    let options = EngineOptions {
        precision: arguments.precision,
        ..EngineOptions::from_environment(arguments.threads)?
    };
    let arrays = npz::read(&arguments.input)?;
    let opened = engine::open(&arguments.model, &options)?;
    let signature = opened.signature();
    let inputs =
        arrange(signature, arrays).with_context(|| arguments.input.display().to_string())?;
    let outputs = opened.predict(&inputs).with_context(|| arguments.model.display().to_string())?;
    let names = signature.outputs.iter().map(|spec| spec.name.clone());
    Ok(names.zip(outputs).collect())
}

/// The arrays as the model's inputs, in its order.
pub(super) fn arrange(signature: &Signature, arrays: Arrays) -> Result<Vec<Tensor>> {
    let expected = || {
        let inputs = signature.inputs.iter().map(describe);
        inputs.collect::<Vec<_>>().join(", ")
    };
    for (name, _) in &arrays {
        if signature.inputs.iter().all(|spec| spec.name != *name) {
            bail!("the model has no input '{name}'; it takes {}", expected());
        }
    }
    let mut inputs = Vec::with_capacity(signature.inputs.len());
    for spec in &signature.inputs {
        let mut found = arrays.iter().filter(|(name, _)| *name == spec.name);
        let Some((_, tensor)) = found.next() else {
            bail!("input '{}' is missing; the model takes {}", spec.name, expected());
        };
        if found.next().is_some() {
            bail!("input '{}' is given twice", spec.name);
        }
        let tensor = as_text_or_bytes(tensor, spec.dtype)?;
        if let Some(mismatch) = spec.mismatch(&tensor.view()) {
            bail!("{mismatch}; the model takes {}", expected());
        }
        inputs.push(tensor);
    }
    Ok(inputs)
}

/// Text as byte strings or byte strings as text, if that is what the model takes.
fn as_text_or_bytes(tensor: &Tensor, wanted: DType) -> Result<Tensor> {
    Ok(match (tensor.dtype(), wanted) {
        (DType::String, DType::Bytes) => {
            let blobs = tensor.strings()?.iter().map(|text| Buffer::copy_of(text.as_bytes()));
            Tensor::from_blobs(tensor.shape().clone(), blobs.collect())?
        }
        (DType::Bytes, DType::String) => {
            let text = |blob: &Buffer| String::from_utf8(blob.to_vec());
            let texts = tensor.blobs()?.iter().map(text).collect::<Result<_, _>>();
            Tensor::from_strings(tensor.shape().clone(), texts.context("expected UTF-8 text")?)?
        }
        _ => tensor.clone(),
    })
}

/// An input or output as people read it: `x FP32 [batch,4]`.
pub(super) fn describe(spec: &TensorSpec) -> String {
    let shape = spec.dims.as_deref().map_or("of any shape".into(), |dims| Dims(dims).to_string());
    format!("{} {} {shape}", spec.name, spec.dtype.protocol_name())
}

fn summary(outputs: &Arrays) -> String {
    let mut table = Table::new(&["output", "datatype", "shape", "first elements"]);
    for (name, tensor) in outputs {
        table.row([
            name.clone(),
            tensor.dtype().protocol_name().to_owned(),
            tensor.shape().to_string(),
            preview(tensor),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use landfall_graph::DimSpec;
    use landfall_tensor::Shape;

    use super::*;

    fn signature() -> Signature {
        let spec = |name: &str, dtype, last| TensorSpec {
            name: name.into(),
            dtype,
            dims: Some(vec![DimSpec::Symbol("n".into()), DimSpec::Known(last)]),
        };
        let inputs = vec![spec("x", DType::F32, 2), spec("t", DType::String, 1)];
        Signature { inputs, outputs: vec![] }
    }

    fn floats(name: &str, values: &[f32]) -> (String, Tensor) {
        (name.to_owned(), Tensor::from_slice(Shape::from([1, values.len()]), values).unwrap())
    }

    fn text(name: &str) -> (String, Tensor) {
        let blobs = vec![Buffer::copy_of("é".as_bytes())];
        (name.to_owned(), Tensor::from_blobs(Shape::from([1, 1]), blobs).unwrap())
    }

    #[test]
    fn arrays_become_inputs_in_the_models_order() {
        let inputs = arrange(&signature(), vec![text("t"), floats("x", &[1.0, 2.0])]).unwrap();
        assert_eq!(inputs[0].as_slice::<f32>().unwrap(), [1.0, 2.0]);
        assert_eq!(inputs[1].strings().unwrap(), ["é"]);
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_the_model_takes() {
        let cases = [
            (vec![floats("x", &[1.0, 2.0])], "input 't' is missing"),
            (vec![text("t"), floats("y", &[1.0])], "the model has no input 'y'"),
            (vec![text("t"), floats("x", &[1.0])], "input 'x' has shape [1,1], expected [n,2]"),
            (vec![text("x"), text("t")], "input 'x' has datatype BYTES, expected FP32"),
        ];
        for (arrays, message) in cases {
            let error = arrange(&signature(), arrays).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
            assert!(error.ends_with("takes x FP32 [n,2], t BYTES [n,1]"), "{error}");
        }
    }
}
