//! Models without an engine, for tests of everything around them.
//!
//! A model file is a line of text: `identity`, `add`, `text`, `embed`, `slow MILLISECONDS` (an
//! identity), `failing`, `poison` (fails on a negative element), `misshapen` (gives one column too
//! many), `words` (an `embed` with a declared step that counts words as tokens); anything else does
//! not load. `loading MILLISECONDS` before any of these makes loading take
//! that long. A file that is not text is opened by the name of its model.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use landfall::config::ModelFile;
use landfall::loading::OpenModel;
use landfall_graph::{DimSpec, Signature, TensorSpec};
use landfall_predict::{Executable, LoadedModel, PredictError, Preprocessed, Steps};
use landfall_tensor::{DType, FileAccess, Shape, Tensor};

/// Opens the files described above.
#[derive(Debug, Clone, Copy)]
#[allow(unreachable_pub, reason = "an example and a test include this file")]
pub struct FakeFiles;

enum Kind {
    Identity,
    Add,
    Embed,
    Slow(Duration),
    Failing,
    Poison,
    Misshapen,
}

struct FakeModel {
    kind: Kind,
    signature: Signature,
}

impl OpenModel for FakeFiles {
    fn open(
        &self,
        path: &Path,
        _files: FileAccess,
        settings: &ModelFile,
    ) -> Result<LoadedModel, String> {
        let content = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let is_text = content.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n'));
        let text = match String::from_utf8(content) {
            Ok(text) if is_text => text,
            _ => model_name(path).unwrap_or_default().to_owned(),
        };
        let mut text = text.trim();
        if let Some((millis, rest)) =
            text.strip_prefix("loading ").and_then(|text| text.split_once(' '))
        {
            std::thread::sleep(Duration::from_millis(millis.parse().unwrap_or(100)));
            text = rest;
        }
        let model =
            fake(text).ok_or_else(|| format!("{}: not a fake model: {text}", path.display()))?;
        let steps: Option<Arc<dyn Steps>> = match text {
            "words" => Some(Arc::new(Words(model.signature.clone()))),
            _ => None,
        };
        let config = settings.serving()?;
        Ok(LoadedModel { executable: Arc::new(model), steps, config, platform: "onnx".to_owned() })
    }
}

/// Changes nothing and counts words.
struct Words(Signature);

impl Steps for Words {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn preprocess(&self, inputs: &[Tensor]) -> Result<Preprocessed, PredictError> {
        let texts = inputs[0].strings().unwrap_or_default();
        let words = texts.iter().map(|text| text.split_whitespace().count()).sum();
        Ok(Preprocessed { inputs: inputs.to_vec(), tokens: Some(words) })
    }

    fn postprocess(
        &self,
        _model_inputs: &[Tensor],
        outputs: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, PredictError> {
        Ok(outputs)
    }
}

/// The model's folder, two above the file.
fn model_name(path: &Path) -> Option<&str> {
    path.parent()?.parent()?.file_name()?.to_str()
}

fn spec(name: &str, dtype: DType, columns: Option<usize>) -> TensorSpec {
    let mut dims = vec![DimSpec::Symbol("batch".to_owned())];
    dims.extend(columns.map(DimSpec::Known));
    TensorSpec { name: name.to_owned(), dtype, dims: Some(dims) }
}

fn fake(text: &str) -> Option<FakeModel> {
    let (x, y) = (|| spec("x", DType::F32, Some(4)), || spec("y", DType::F32, Some(4)));
    let (kind, inputs, outputs) = match text.split_once(' ').unwrap_or((text, "")) {
        ("identity", _) => (Kind::Identity, vec![x()], vec![y()]),
        ("add", _) => {
            let (a, b) = (spec("a", DType::F32, Some(4)), spec("b", DType::F32, Some(4)));
            (Kind::Add, vec![a, b], vec![spec("sum", DType::F32, Some(4))])
        }
        ("text", _) => {
            let (x, y) = (spec("x", DType::String, None), spec("y", DType::String, None));
            (Kind::Identity, vec![x], vec![y])
        }
        ("embed" | "words", _) => {
            let vector = spec("embedding", DType::F32, Some(2));
            (Kind::Embed, vec![spec("text", DType::String, None)], vec![vector])
        }
        ("slow", millis) => {
            let time = Duration::from_millis(millis.parse().unwrap_or(100));
            (Kind::Slow(time), vec![x()], vec![y()])
        }
        ("failing", _) => (Kind::Failing, vec![x()], vec![y()]),
        ("poison", _) => (Kind::Poison, vec![x()], vec![y()]),
        ("misshapen", _) => (Kind::Misshapen, vec![x()], vec![y()]),
        _ => return None,
    };
    Some(FakeModel { kind, signature: Signature { inputs, outputs } })
}

impl Executable for FakeModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        match self.kind {
            Kind::Identity => Ok(inputs.to_vec()),
            Kind::Slow(time) => {
                std::thread::sleep(time);
                Ok(inputs.to_vec())
            }
            Kind::Failing => Err("node 'Bad_0' failed".to_owned()),
            Kind::Poison => poison(&inputs[0]),
            Kind::Misshapen => {
                let shape = Shape::from([inputs[0].shape()[0], 5]);
                let zeros = vec![0f32; shape.elements()];
                Tensor::from_slice(shape, &zeros).map(|y| vec![y]).map_err(|e| e.to_string())
            }
            Kind::Add => add(&inputs[0], &inputs[1]).map(|sum| vec![sum]),
            Kind::Embed => embed(&inputs[0]).map(|vectors| vec![vectors]),
        }
    }
}

fn poison(x: &Tensor) -> Result<Vec<Tensor>, String> {
    let x = x.aligned();
    // Long enough that requests gather into a batch behind it.
    std::thread::sleep(Duration::from_millis(20));
    match x.as_slice::<f32>().map_err(|e| e.to_string())?.iter().find(|v| **v < 0.0) {
        Some(value) => Err(format!("node 'Sqrt_0': {value} is negative")),
        None => Ok(vec![x]),
    }
}

fn add(a: &Tensor, b: &Tensor) -> Result<Tensor, String> {
    let (a, b) = (a.aligned(), b.aligned());
    let left = a.as_slice::<f32>().map_err(|e| e.to_string())?;
    let right = b.as_slice::<f32>().map_err(|e| e.to_string())?;
    let sums: Vec<f32> = left.iter().zip(right).map(|(a, b)| a + b).collect();
    Tensor::from_slice(a.shape().clone(), &sums).map_err(|e| e.to_string())
}

/// Number of bytes and of spaces of every text.
fn embed(texts: &Tensor) -> Result<Tensor, String> {
    let texts = texts.strings().map_err(|e| e.to_string())?;
    let vectors: Vec<f32> = texts
        .iter()
        .flat_map(|text| [text.len() as f32, text.matches(' ').count() as f32])
        .collect();
    Tensor::from_slice(Shape::from([texts.len(), 2]), &vectors).map_err(|e| e.to_string())
}
