//! Running the steps before the graph.

use std::collections::HashMap;

use landfall_graph::{DimSpec, Signature, TensorSpec};
use landfall_package::steps::{Cast, ImageLayout, PreStep, Resolved, ResolvedStep};
use landfall_tensor::{DType, Tensor};

use super::assets::{self, Loader};
use super::geometry::Geometry;
use super::image::ImageChain;
use super::numeric::{self, Affine};
use super::tokenize::Tokens;
use super::{Limits, PipelineError, check_size, internal, invalid};
use crate::{PaddedInput, PaddedOutput, Padding, PredictError, Preprocessed};

/// Steps before the graph over numbered values; a value's number is its place in a list that starts
/// with what callers send.
#[derive(Debug)]
pub(super) struct Preprocess {
    steps: Vec<Step>,
    values: usize,
    /// The number of each of the graph's inputs.
    results: Vec<usize>,
}

#[derive(Debug)]
struct Step {
    takes: Vec<usize>,
    writes: Vec<usize>,
    operation: Operation,
}

#[derive(Debug)]
enum Operation {
    Tokenize(Box<Tokens>),
    Images(ImageChain),
    Affine(Affine, Limits),
    Layout(ImageLayout),
    Cast(Cast),
    Category(Category),
}

/// Text to the integer that a mapping gives it.
#[derive(Debug)]
struct Category {
    input: String,
    mapping: HashMap<String, i64>,
    unknown: Option<i64>,
}

/// Gives values their numbers while steps are compiled.
struct Numbers {
    live: HashMap<String, usize>,
    count: usize,
}

impl Numbers {
    fn add(&mut self, name: &str) -> usize {
        self.live.insert(name.to_owned(), self.count);
        self.count += 1;
        self.count - 1
    }

    fn take(&mut self, spec: &TensorSpec) -> usize {
        self.live.remove(&spec.name).unwrap_or(usize::MAX)
    }
}

impl Preprocess {
    pub(super) fn compile(
        resolved: &Resolved,
        asset: Loader<'_>,
        inner: &Signature,
        limits: Limits,
    ) -> Result<Preprocess, PipelineError> {
        let mut numbers = Numbers { live: HashMap::new(), count: 0 };
        for spec in &resolved.outer.inputs {
            numbers.add(&spec.name);
        }
        let mut steps: Vec<Step> = Vec::new();
        for step in &resolved.preprocess {
            let takes: Vec<usize> = step.takes.iter().map(|spec| numbers.take(spec)).collect();
            if let (PreStep::Rename(_), [number], [write]) =
                (&step.step, takes.as_slice(), step.writes.as_slice())
            {
                numbers.live.insert(write.name.clone(), *number);
                continue;
            }
            let writes: Vec<usize> =
                step.writes.iter().map(|spec| numbers.add(&spec.name)).collect();
            if let Some(geometry) = geometry(&step.step) {
                if let Some(chain) = image_chain(&mut steps, &takes) {
                    let Operation::Images(images) = &mut chain.operation else { continue };
                    images.steps.push(geometry);
                    chain.writes = writes;
                    continue;
                }
                let images = ImageChain { input: taken(step), steps: vec![geometry], limits };
                steps.push(Step { takes, writes, operation: Operation::Images(images) });
                continue;
            }
            let operation = operation(step, asset, inner, limits)?;
            steps.push(Step { takes, writes, operation });
        }
        let results = inner.inputs.iter().map(|spec| numbers.take(spec)).collect();
        Ok(Preprocess { steps, values: numbers.count, results })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.results.iter().enumerate().all(|(i, &number)| i == number)
    }

    /// See [`super::Pipeline::padding`].
    pub(super) fn padding(&self, inner: &Signature) -> Option<Padding> {
        let mut tokenizers = self.steps.iter().filter_map(|step| match &step.operation {
            Operation::Tokenize(tokens) => Some((step, tokens)),
            _ => None,
        });
        let (Some((step, tokens)), None) = (tokenizers.next(), tokenizers.next()) else {
            return None;
        };
        let mut inputs = Vec::new();
        for (number, value) in step.writes.iter().zip(tokens.padding_values()?) {
            let at = self.results.iter().position(|result| result == number)?;
            inputs.push(PaddedInput { input: inner.inputs[at].name.clone(), axis: 1, value });
        }
        let length = |spec: &TensorSpec, axis: usize| match spec.dims.as_ref()?.get(axis)? {
            DimSpec::Symbol(name) if !name.is_empty() => Some(name.clone()),
            _ => None,
        };
        let first = inner.inputs.iter().find(|spec| spec.name == inputs[0].input)?;
        let symbol = length(first, 1)?;
        let mut outputs = Vec::new();
        for spec in &inner.outputs {
            let rank = spec.dims.as_ref()?.len();
            for axis in (1..rank).filter(|&axis| length(spec, axis).as_ref() == Some(&symbol)) {
                let (output, like) = (spec.name.clone(), first.name.clone());
                outputs.push(PaddedOutput { output, axis, like });
            }
        }
        Some(Padding { inputs, outputs })
    }

    pub(super) fn run(&self, inputs: &[Tensor]) -> Result<Preprocessed, PredictError> {
        let mut tokens: Option<usize> = None;
        let mut values: Vec<Option<Tensor>> = inputs.iter().cloned().map(Some).collect();
        values.resize(self.values, None);
        let missing = || internal("a preprocessing step has lost its value");
        for step in &self.steps {
            let taken = step.takes.iter().map(|&n| values.get_mut(n).and_then(Option::take));
            let taken = taken.collect::<Option<Vec<Tensor>>>().ok_or_else(missing)?;
            let written = match &step.operation {
                Operation::Tokenize(tokenizer) => {
                    let (written, count) = tokenizer.run(&taken)?;
                    tokens = Some(tokens.unwrap_or(0) + count);
                    written
                }
                operation => operation.run(&taken)?,
            };
            for (&number, value) in step.writes.iter().zip(written) {
                values[number] = Some(value);
            }
        }
        let results = self.results.iter().map(|&n| values.get_mut(n).and_then(Option::take));
        let inputs = results.collect::<Option<Vec<Tensor>>>().ok_or_else(missing)?;
        Ok(Preprocessed { inputs, tokens })
    }
}

/// The last step that handles the images which `takes` names, if one does.
fn image_chain<'a>(steps: &'a mut [Step], takes: &[usize]) -> Option<&'a mut Step> {
    steps
        .iter_mut()
        .find(|step| matches!(step.operation, Operation::Images(_)) && step.writes == takes)
}

fn geometry(step: &PreStep) -> Option<Geometry> {
    match step {
        PreStep::Resize(step) => Some(Geometry::Resize(step.clone())),
        PreStep::CenterCrop(step) => Some(Geometry::CenterCrop(step.clone())),
        _ => None,
    }
}

fn taken(step: &ResolvedStep<PreStep>) -> String {
    step.takes.first().map(|spec| spec.name.clone()).unwrap_or_default()
}

fn operation(
    step: &ResolvedStep<PreStep>,
    asset: Loader<'_>,
    inner: &Signature,
    limits: Limits,
) -> Result<Operation, PipelineError> {
    Ok(match &step.step {
        PreStep::Tokenize(declared) => {
            let json = assets::load(asset, &declared.tokenizer, &step.place)?;
            Operation::Tokenize(Box::new(Tokens::compile(step, declared, &json, inner, limits)?))
        }
        PreStep::DecodeImage(_) | PreStep::Resize(_) | PreStep::CenterCrop(_) => {
            Operation::Images(ImageChain { input: taken(step), steps: Vec::new(), limits })
        }
        PreStep::Normalize(step) => Operation::Affine(Affine::normalize(step), limits),
        PreStep::Scale(step) => Operation::Affine(Affine::scale(step), limits),
        PreStep::ToLayout(step) => Operation::Layout(step.layout),
        PreStep::Cast(step) => Operation::Cast(step.clone()),
        PreStep::Rename(_) => {
            return Err(assets::error(&step.place, "takes and writes one value").into());
        }
        PreStep::EncodeCategory(declared) => Operation::Category(Category {
            input: taken(step),
            mapping: assets::mapping(asset, &declared.mapping, &step.place)?,
            unknown: declared.unknown,
        }),
    })
}

impl Operation {
    fn run(&self, taken: &[Tensor]) -> Result<Vec<Tensor>, PredictError> {
        let Some(value) = taken.first() else { return Ok(Vec::new()) };
        let written = match self {
            Operation::Tokenize(tokens) => return Ok(tokens.run(taken)?.0),
            Operation::Images(chain) => chain.run(value)?,
            Operation::Affine(affine, limits) => {
                let rows = value.shape().first().copied().unwrap_or(1);
                let row_bytes = value.elements() / rows.max(1) * DType::F32.size();
                check_size(rows, row_bytes, *limits)?;
                affine.run(value).map_err(internal)?
            }
            Operation::Layout(layout) => numeric::to_layout(*layout, value).map_err(internal)?,
            Operation::Cast(step) => numeric::cast(step, value).map_err(internal)?,
            Operation::Category(category) => category.run(value)?,
        };
        Ok(vec![written])
    }
}

impl Category {
    fn run(&self, value: &Tensor) -> Result<Tensor, PredictError> {
        let strings = value.strings().map_err(internal)?;
        let code = |(index, text): (usize, &String)| {
            self.mapping.get(text).copied().or(self.unknown).ok_or_else(|| {
                let shown: String = text.chars().take(64).collect();
                invalid(format!(
                    "input '{}' element {index}: {shown:?} is not one of the {} known values",
                    self.input,
                    self.mapping.len()
                ))
            })
        };
        let codes = strings.iter().enumerate().map(code).collect::<Result<Vec<i64>, _>>()?;
        Tensor::from_slice(value.shape().clone(), &codes).map_err(internal)
    }
}
