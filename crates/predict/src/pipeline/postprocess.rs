//! Running the steps after the graph.

use landfall_graph::{DimSpec, Signature, TensorSpec};
use landfall_package::steps::{PostStep, Resolved, ResolvedStep};
use landfall_tensor::{DType, Shape, Tensor, TensorError};

use super::assets::{self, Loader};
use super::{PipelineError, internal};
use crate::PredictError;

/// A vector shorter than this is divided by this instead of by its length.
const LEAST_NORM: f64 = 1e-12;

/// Steps after the graph over a list of values that starts with the graph's outputs.
#[derive(Debug)]
pub(super) struct Postprocess {
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    place: String,
    /// Where in the list the value taken is; what is written takes its place.
    at: usize,
    operation: Operation,
}

#[derive(Debug)]
enum Operation {
    Softmax,
    Sigmoid,
    Argmax,
    TopK {
        k: usize,
        labels: Option<Vec<String>>,
    },
    Labels(Vec<String>),
    Threshold(f32),
    /// The mask's place among the graph's inputs.
    MeanPool(usize),
    L2Normalize,
    /// Places of the values kept, in the new order.
    Keep(Vec<usize>),
}

impl Postprocess {
    pub(super) fn compile(
        resolved: &Resolved,
        asset: Loader<'_>,
        inner: &Signature,
    ) -> Result<Postprocess, PipelineError> {
        let mut names: Vec<String> = inner.outputs.iter().map(|spec| spec.name.clone()).collect();
        let mut steps = Vec::with_capacity(resolved.postprocess.len());
        for step in &resolved.postprocess {
            let find = |name: &str| names.iter().position(|known| known == name).unwrap_or(0);
            let at = step.takes.first().map_or(0, |spec| find(&spec.name));
            let written: Vec<String> = step.writes.iter().map(|spec| spec.name.clone()).collect();
            let operation = match &step.step {
                PostStep::Rename(_) => {
                    names.splice(at..=at, written);
                    continue;
                }
                PostStep::Keep(keep) => {
                    let kept = keep.outputs.iter().map(|name| find(name)).collect();
                    names = written;
                    Operation::Keep(kept)
                }
                _ => {
                    names.splice(at..=at, written);
                    operation(step, asset, inner)?
                }
            };
            steps.push(Step { place: step.place.clone(), at, operation });
        }
        Ok(Postprocess { steps })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(super) fn run(
        &self,
        inputs: &[Tensor],
        outputs: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, PredictError> {
        let mut values = outputs;
        for step in &self.steps {
            if let Operation::Keep(kept) = &step.operation {
                values = kept.iter().filter_map(|&at| values.get(at).cloned()).collect();
                continue;
            }
            let fail = |message: String| internal(format!("{}: {message}", step.place));
            let value =
                values.get(step.at).ok_or_else(|| fail("its value is missing".to_owned()))?;
            let written = step.operation.run(value, inputs).map_err(fail)?;
            values.splice(step.at..=step.at, written);
        }
        Ok(values)
    }
}

fn operation(
    step: &ResolvedStep<PostStep>,
    asset: Loader<'_>,
    inner: &Signature,
) -> Result<Operation, PipelineError> {
    Ok(match &step.step {
        PostStep::Softmax(_) => Operation::Softmax,
        PostStep::Sigmoid(_) => Operation::Sigmoid,
        PostStep::Argmax(_) => Operation::Argmax,
        PostStep::TopK(declared) => {
            let labels = declared.labels.as_deref();
            let labels = labels.map(|name| assets::labels(asset, name, &step.place)).transpose()?;
            let classes = step.takes.first().and_then(innermost);
            if let (Some(labels), Some(classes)) = (&labels, classes)
                && labels.len() < classes
            {
                let message =
                    format!("{} labels for {classes} classes; each class needs one", labels.len());
                return Err(assets::error(&step.place, message).into());
            }
            Operation::TopK { k: declared.k, labels }
        }
        PostStep::Labels(declared) => {
            Operation::Labels(assets::labels(asset, &declared.asset, &step.place)?)
        }
        PostStep::Threshold(declared) => Operation::Threshold(declared.value as f32),
        PostStep::MeanPool(declared) => {
            let mask = inner.inputs.iter().position(|spec| spec.name == declared.mask);
            let message = format!("mask '{}' is not an input of the model", declared.mask);
            Operation::MeanPool(mask.ok_or_else(|| assets::error(&step.place, message))?)
        }
        PostStep::L2Normalize(_) => Operation::L2Normalize,
        PostStep::Rename(_) | PostStep::Keep(_) => Operation::Keep(Vec::new()),
    })
}

fn innermost(spec: &TensorSpec) -> Option<usize> {
    match spec.dims.as_ref()?.last()? {
        DimSpec::Known(extent) => Some(*extent),
        DimSpec::Symbol(_) => None,
    }
}

impl Operation {
    fn run(&self, value: &Tensor, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        let one = |tensor: Result<Tensor, TensorError>| {
            tensor.map(|tensor| vec![tensor]).map_err(|e| e.to_string())
        };
        match self {
            Operation::Softmax => one(map_rows(value, softmax)),
            Operation::Sigmoid => one(map_rows(value, |row| {
                row.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp()));
            })),
            Operation::L2Normalize => one(map_rows(value, l2_normalize)),
            Operation::Argmax => one(argmax(value)),
            Operation::TopK { k, labels } => top_k(value, *k, labels.as_deref()),
            Operation::Labels(labels) => label(value, labels).map(|tensor| vec![tensor]),
            Operation::Threshold(least) => one(value.as_slice::<f32>().and_then(|values| {
                let reached: Vec<bool> = values.iter().map(|x| x >= least).collect();
                Tensor::from_bools(value.shape().clone(), &reached)
            })),
            Operation::MeanPool(mask) => match inputs.get(*mask) {
                Some(mask) => mean_pool(value, mask).map(|tensor| vec![tensor]),
                None => Err("its mask is missing".to_owned()),
            },
            Operation::Keep(_) => Ok(vec![value.clone()]),
        }
    }
}

/// The extent of the innermost axis; 1 for a scalar.
fn row_length(value: &Tensor) -> usize {
    value.shape().last().copied().unwrap_or(1)
}

fn map_rows(value: &Tensor, change: impl Fn(&mut [f32])) -> Result<Tensor, TensorError> {
    let mut values = value.as_slice::<f32>()?.to_vec();
    values.chunks_exact_mut(row_length(value).max(1)).for_each(change);
    Tensor::from_slice(value.shape().clone(), &values)
}

fn softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0f64;
    for x in row.iter_mut() {
        *x = (*x - largest).exp();
        sum += f64::from(*x);
    }
    row.iter_mut().for_each(|x| *x = (f64::from(*x) / sum) as f32);
}

fn l2_normalize(row: &mut [f32]) {
    let squares: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let norm = squares.sqrt().max(LEAST_NORM);
    row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
}

/// Orders scores: NaN above all numbers, the two zeros equal.
fn order(score: f32) -> i32 {
    let bits = (score + 0.0).to_bits() as i32;
    if score.is_nan() { i32::MAX } else { bits ^ ((bits >> 31) as u32 >> 1) as i32 }
}

fn argmax(value: &Tensor) -> Result<Tensor, TensorError> {
    let largest = |row: &[f32]| {
        let best = row.iter().enumerate().max_by_key(|&(i, &x)| (order(x), std::cmp::Reverse(i)));
        best.map_or(0, |(index, _)| index as i64)
    };
    let mut shape = value.shape().clone();
    if shape.rank() > 0 {
        shape.remove(shape.rank() - 1);
    }
    let rows = value.as_slice::<f32>()?.chunks_exact(row_length(value).max(1));
    Tensor::from_slice(shape, &rows.map(largest).collect::<Vec<_>>())
}

/// Scores, indices and, where there are labels, labels.
fn top_k(value: &Tensor, k: usize, labels: Option<&[String]>) -> Result<Vec<Tensor>, String> {
    let text = |e: TensorError| e.to_string();
    let length = row_length(value);
    let k = k.min(length);
    let mut scores = Vec::new();
    let mut indices = Vec::new();
    let mut order_of: Vec<(std::cmp::Reverse<i32>, usize)> = Vec::with_capacity(length);
    for row in value.as_slice::<f32>().map_err(text)?.chunks_exact(length.max(1)) {
        order_of.clear();
        order_of.extend(row.iter().enumerate().map(|(i, &x)| (std::cmp::Reverse(order(x)), i)));
        if k < length {
            order_of.select_nth_unstable(k);
        }
        order_of[..k].sort_unstable();
        scores.extend(order_of[..k].iter().map(|&(_, i)| row[i]));
        indices.extend(order_of[..k].iter().map(|&(_, i)| i as i64));
    }
    let mut shape = value.shape().clone();
    if let Some(last) = shape.last_mut() {
        *last = k;
    }
    let indices = Tensor::from_slice(shape.clone(), &indices).map_err(text)?;
    let mut written = vec![Tensor::from_slice(shape, &scores).map_err(text)?];
    let names = labels.map(|labels| label(&indices, labels)).transpose()?;
    written.push(indices);
    written.extend(names);
    Ok(written)
}

fn label(value: &Tensor, labels: &[String]) -> Result<Tensor, String> {
    let text = |e: TensorError| e.to_string();
    let name = |index: i64| {
        let label = usize::try_from(index).ok().and_then(|index| labels.get(index));
        label.cloned().ok_or_else(|| {
            format!("the model gave index {index}, but there are {} labels", labels.len())
        })
    };
    let names: Result<Vec<String>, String> = match value.dtype() {
        DType::I32 => {
            value.as_slice::<i32>().map_err(text)?.iter().map(|&i| name(i.into())).collect()
        }
        _ => value.as_slice::<i64>().map_err(text)?.iter().map(|&i| name(i)).collect(),
    };
    Tensor::from_strings(value.shape().clone(), names?).map_err(text)
}

/// `[batch, sequence, hidden]` to `[batch, hidden]`: the mean over tokens whose mask is not 0.
/// Tokens beyond the mask's length are padding that batching added. A row without tokens gives
/// zeros.
fn mean_pool(value: &Tensor, mask: &Tensor) -> Result<Tensor, String> {
    let text = |e: TensorError| e.to_string();
    let (&[batch, sequence, hidden], &[rows, tokens]) = (&**value.shape(), &**mask.shape()) else {
        return Err(format!("shapes {} and {} do not pool", value.shape(), mask.shape()));
    };
    if rows != batch || tokens > sequence {
        let (value, mask) = (value.shape(), mask.shape());
        return Err(format!("the mask {mask} does not cover token vectors {value}"));
    }
    let keep: Vec<bool> = match mask.dtype() {
        DType::I32 => mask.as_slice::<i32>().map_err(text)?.iter().map(|&m| m != 0).collect(),
        _ => mask.as_slice::<i64>().map_err(text)?.iter().map(|&m| m != 0).collect(),
    };
    let values = value.as_slice::<f32>().map_err(text)?;
    let mut pooled = vec![0f32; batch * hidden];
    for row in 0..batch {
        let mut sums = vec![0f64; hidden];
        let mut count = 0usize;
        for token in (0..tokens).filter(|token| keep[row * tokens + token]) {
            let at = (row * sequence + token) * hidden;
            for (sum, &x) in sums.iter_mut().zip(&values[at..at + hidden]) {
                *sum += f64::from(x);
            }
            count += 1;
        }
        let out = &mut pooled[row * hidden..(row + 1) * hidden];
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = (sum / count.max(1) as f64) as f32;
        }
    }
    Tensor::from_slice(Shape::from([batch, hidden]), &pooled).map_err(text)
}
