//! Gives every step its names and types, and derives the signature that callers see.

use std::collections::HashSet;

use landfall_graph::{DimSpec, Signature, TensorSpec};
use landfall_tensor::DType;

use super::types::{Type, post_forward, pre_backward, pre_forward};
use super::{MAX_STEPS, PostStep, PreStep, StepError, Tokenize};

/// Steps checked against a graph's signature.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// What callers send and get.
    pub outer: Signature,
    /// Steps before the graph, in order.
    pub preprocess: Vec<ResolvedStep<PreStep>>,
    /// Steps after the graph, in order.
    pub postprocess: Vec<ResolvedStep<PostStep>>,
}

/// A step with the values it takes and writes.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedStep<S> {
    /// The step as declared.
    pub step: S,
    /// How messages name it, such as `preprocess step 2 (resize)`.
    pub place: String,
    /// Values taken away.
    pub takes: Vec<TensorSpec>,
    /// Values put in their place.
    pub writes: Vec<TensorSpec>,
}

impl Resolved {
    /// Checks steps against the graph's own signature.
    pub fn new(
        preprocess: &[PreStep],
        postprocess: &[PostStep],
        inner: &Signature,
    ) -> Result<Resolved, StepError> {
        for (stage, count) in [("preprocess", preprocess.len()), ("postprocess", postprocess.len())]
        {
            if count > MAX_STEPS {
                return Err(StepError::new(stage, format!("{count} steps, at most {MAX_STEPS}")));
            }
        }
        let named = name_values(preprocess, inner)?;
        let (inputs, preprocess) = type_values(named, inner)?;
        let (outputs, postprocess) = resolve_post(postprocess, inner)?;
        Ok(Resolved { outer: Signature { inputs, outputs }, preprocess, postprocess })
    }

    /// Assets that the steps read, each with the place that names it.
    pub fn assets(&self) -> impl Iterator<Item = (&str, &str)> {
        let pre = self.preprocess.iter().map(|s| (s.place.as_str(), s.step.asset()));
        let post = self.postprocess.iter().map(|s| (s.place.as_str(), s.step.asset()));
        pre.chain(post).filter_map(|(place, asset)| Some((place, asset?)))
    }
}

/// A step before the graph whose values have names but no types yet.
struct NamedStep<'a> {
    step: &'a PreStep,
    place: String,
    takes: Vec<String>,
    writes: Vec<String>,
}

struct NamedSteps<'a> {
    steps: Vec<NamedStep<'a>>,
    /// What callers send, in the order of its first use.
    sent: Vec<String>,
}

fn name_values<'a>(steps: &'a [PreStep], inner: &Signature) -> Result<NamedSteps<'a>, StepError> {
    let mut named = Vec::with_capacity(steps.len());
    let mut sent: Vec<String> = Vec::new();
    let mut live: HashSet<String> = HashSet::new();
    let mut spent: HashSet<String> = HashSet::new();
    let mut current = match inner.inputs.as_slice() {
        [only] => Some(only.name.clone()),
        _ => None,
    };
    for (index, step) in steps.iter().enumerate() {
        let place = format!("preprocess step {index} ({})", step.name());
        let takes = taken_names(step, current.as_deref()).map_err(|e| StepError::new(&place, e))?;
        for name in &takes {
            if !live.remove(name) {
                if spent.contains(name) {
                    let message = format!("an earlier step has already taken '{name}'");
                    return Err(StepError::new(place, message));
                }
                sent.push(name.clone());
            }
            spent.insert(name.clone());
        }
        let writes = written_names(step, &takes, inner).map_err(|e| StepError::new(&place, e))?;
        for name in &writes {
            if !live.insert(name.clone()) {
                let message = format!("writes '{name}', which an earlier step has written");
                return Err(StepError::new(place, message));
            }
            spent.insert(name.clone());
        }
        current = writes.first().cloned();
        named.push(NamedStep { step, place, takes, writes });
    }
    for input in &inner.inputs {
        if !live.remove(&input.name) {
            if spent.contains(&input.name) {
                return Err(unwritten(&input.name, &live));
            }
            sent.push(input.name.clone());
        }
    }
    match live.iter().min() {
        None => Ok(NamedSteps { steps: named, sent }),
        Some(left) => {
            let inputs: Vec<&str> = inner.inputs.iter().map(|spec| spec.name.as_str()).collect();
            let message = format!(
                "the steps leave '{left}', which the model does not take; its inputs are {}: \
                 rename the value or name it with 'output'",
                inputs.join(", ")
            );
            Err(StepError::new("preprocess", message))
        }
    }
}

fn unwritten(input: &str, live: &HashSet<String>) -> StepError {
    let mut left: Vec<&str> = live.iter().map(String::as_str).collect();
    left.sort_unstable();
    let message = format!(
        "a step takes '{input}' but none writes the model's input of that name (left over: {})",
        if left.is_empty() { "nothing".to_owned() } else { left.join(", ") }
    );
    StepError::new("preprocess", message)
}

fn taken_names(step: &PreStep, current: Option<&str>) -> Result<Vec<String>, String> {
    if let PreStep::Tokenize(step) = step {
        return match &step.text_pair {
            Some(pair) if *pair == step.text => Err("text and text_pair have one name".to_owned()),
            pair => Ok(std::iter::once(&step.text).chain(pair).cloned().collect()),
        };
    }
    match step.ports().0.or(current) {
        Some(name) => Ok(vec![name.to_owned()]),
        None => Err("the model has several inputs: say which value to take with 'input'".into()),
    }
}

fn written_names(
    step: &PreStep,
    takes: &[String],
    inner: &Signature,
) -> Result<Vec<String>, String> {
    if let PreStep::Tokenize(step) = step {
        return token_names(step, inner).map(|names| names.into_iter().map(|(_, n)| n).collect());
    }
    Ok(step
        .ports()
        .1
        .or(takes.first().map(String::as_str))
        .map(str::to_owned)
        .into_iter()
        .collect())
}

/// What a tokenizer produces: which result under which name.
fn token_names(step: &Tokenize, inner: &Signature) -> Result<Vec<(&'static str, String)>, String> {
    let kinds = ["input_ids", "attention_mask", "token_type_ids"];
    let names: Vec<(&'static str, String)> = match &step.outputs {
        Some(names) => {
            let all = [
                Some(&names.input_ids),
                names.attention_mask.as_ref(),
                names.token_type_ids.as_ref(),
            ];
            kinds.into_iter().zip(all).filter_map(|(kind, n)| Some((kind, n?.clone()))).collect()
        }
        None => {
            let takes = |kind: &&str| inner.inputs.iter().any(|spec| spec.name == **kind);
            kinds.into_iter().filter(takes).map(|kind| (kind, kind.to_owned())).collect()
        }
    };
    match names.first() {
        Some(("input_ids", _)) => Ok(names),
        _ => Err("the model has no input 'input_ids': name what it takes with 'outputs'".into()),
    }
}

impl ResolvedStep<PreStep> {
    /// For a tokenizer: which of `input_ids`, `attention_mask` and `token_type_ids` each value
    /// written is.
    pub fn token_kinds(&self, inner: &Signature) -> Vec<&'static str> {
        match &self.step {
            PreStep::Tokenize(step) => {
                let names = token_names(step, inner).unwrap_or_default();
                names.into_iter().map(|(kind, _)| kind).collect()
            }
            _ => Vec::new(),
        }
    }
}

type TypedPre = (Vec<TensorSpec>, Vec<ResolvedStep<PreStep>>);

fn type_values(named: NamedSteps<'_>, inner: &Signature) -> Result<TypedPre, StepError> {
    let batch = batch_axis(inner);
    let mut inputs = Vec::with_capacity(named.sent.len());
    for name in &named.sent {
        inputs.push(needed(name, 0, &named.steps, inner, &batch)?.named(name));
    }
    let mut live = inputs.clone();
    let mut steps = Vec::with_capacity(named.steps.len());
    for (index, step) in named.steps.iter().enumerate() {
        let fail = |message: String| StepError::new(&step.place, message);
        let takes: Vec<TensorSpec> =
            step.takes.iter().filter_map(|name| take(&mut live, name)).collect();
        let taken: Vec<Type> = takes.iter().map(Type::of).collect();
        let needs = match step.step {
            PreStep::Tokenize(_) => step
                .writes
                .iter()
                .map(|name| needed(name, index + 1, &named.steps, inner, &batch))
                .collect::<Result<Vec<_>, _>>()?,
            _ => Vec::new(),
        };
        let written = pre_forward(step.step, &taken, &needs).map_err(fail)?;
        let writes: Vec<TensorSpec> =
            step.writes.iter().zip(written).map(|(name, value)| value.named(name)).collect();
        live.extend(writes.iter().cloned());
        let (step, place) = (step.step.clone(), step.place.clone());
        steps.push(ResolvedStep { step, place, takes, writes });
    }
    for input in &inner.inputs {
        if let Some(value) = live.iter().find(|value| value.name == input.name) {
            check_fits(value, input)?;
        }
    }
    Ok((inputs, steps))
}

/// What must be under `name` just before step `from`, told by what becomes of it.
fn needed(
    name: &str,
    from: usize,
    steps: &[NamedStep<'_>],
    inner: &Signature,
    batch: &DimSpec,
) -> Result<Type, StepError> {
    let taker =
        steps.iter().enumerate().skip(from).find(|(_, s)| s.takes.iter().any(|t| t == name));
    let Some((index, step)) = taker else {
        let spec = inner.inputs.iter().find(|spec| spec.name == name);
        return spec.map(Type::of).ok_or_else(|| {
            StepError::new("preprocess", format!("'{name}' is not an input of the model"))
        });
    };
    let written = match (step.step, step.writes.first()) {
        (PreStep::Tokenize(_) | PreStep::DecodeImage(_), _) | (_, None) => {
            Type { dtype: DType::U8, dims: None }
        }
        (_, Some(write)) => needed(write, index + 1, steps, inner, batch)?,
    };
    pre_backward(step.step, &written, batch).map_err(|e| StepError::new(&step.place, e))
}

/// The axis of rows: that of the model's first input with axes.
fn batch_axis(inner: &Signature) -> DimSpec {
    let first = inner.inputs.iter().find_map(|spec| spec.dims.as_ref()?.first());
    match first {
        Some(DimSpec::Symbol(name)) if !name.is_empty() => DimSpec::Symbol(name.clone()),
        Some(DimSpec::Known(rows)) => DimSpec::Known(*rows),
        _ => DimSpec::Symbol("batch".to_owned()),
    }
}

fn check_fits(value: &TensorSpec, input: &TensorSpec) -> Result<(), StepError> {
    let dims_fit = match (&value.dims, &input.dims) {
        (Some(found), Some(expected)) => {
            found.len() == expected.len()
                && found.iter().zip(expected).all(|pair| match pair {
                    (DimSpec::Known(found), DimSpec::Known(expected)) => found == expected,
                    _ => true,
                })
        }
        _ => true,
    };
    if value.dtype == input.dtype && dims_fit {
        return Ok(());
    }
    let (found, expected) = (Type::of(value).describe(), Type::of(input).describe());
    let message =
        format!("the steps give the model's input '{}' {found}, it takes {expected}", input.name);
    Err(StepError::new("preprocess", message))
}

fn take(values: &mut Vec<TensorSpec>, name: &str) -> Option<TensorSpec> {
    let at = values.iter().position(|value| value.name == name)?;
    Some(values.remove(at))
}

type TypedPost = (Vec<TensorSpec>, Vec<ResolvedStep<PostStep>>);

fn resolve_post(steps: &[PostStep], inner: &Signature) -> Result<TypedPost, StepError> {
    let mut live = inner.outputs.clone();
    let mut resolved = Vec::with_capacity(steps.len());
    let mut current = match live.as_slice() {
        [only] => Some(only.name.clone()),
        _ => None,
    };
    for (index, step) in steps.iter().enumerate() {
        let place = format!("postprocess step {index} ({})", step.name());
        let fail = |message: String| StepError::new(&place, message);
        let (takes, writes) = match step {
            PostStep::Keep(keep) if keep.outputs.is_empty() => {
                return Err(fail("outputs is empty: callers would get nothing".to_owned()));
            }
            PostStep::Keep(keep) => {
                let kept = keep.outputs.iter().map(|name| find(&live, name).cloned());
                (Vec::new(), kept.collect::<Result<Vec<_>, _>>().map_err(fail)?)
            }
            _ => {
                let name = step.ports().0.or(current.as_deref()).ok_or_else(|| {
                    fail("the model has several outputs: say which with 'input'".to_owned())
                })?;
                let taken = find(&live, name).map_err(fail)?.clone();
                let writes = post_writes(step, &taken, inner).map_err(fail)?;
                (vec![taken], writes)
            }
        };
        let at = takes.first().and_then(|taken| live.iter().position(|v| v.name == taken.name));
        match at {
            Some(at) => drop(live.splice(at..=at, writes.iter().cloned())),
            None => live = writes.clone(),
        }
        let mut names = HashSet::new();
        if let Some(twice) = live.iter().find(|value| !names.insert(value.name.as_str())) {
            return Err(fail(format!("there are now two values named '{}'", twice.name)));
        }
        current = writes.first().map(|value| value.name.clone());
        resolved.push(ResolvedStep { step: step.clone(), place, takes, writes });
    }
    Ok((live, resolved))
}

fn find<'a>(values: &'a [TensorSpec], name: &str) -> Result<&'a TensorSpec, String> {
    values.iter().find(|value| value.name == name).ok_or_else(|| {
        let names: Vec<&str> = values.iter().map(|value| value.name.as_str()).collect();
        format!("there is no value '{name}' at this point, only {}", names.join(", "))
    })
}

fn post_writes(
    step: &PostStep,
    taken: &TensorSpec,
    inner: &Signature,
) -> Result<Vec<TensorSpec>, String> {
    let written = post_forward(step, &Type::of(taken))?;
    if let PostStep::MeanPool(step) = step {
        check_mask(&step.mask, inner)?;
    }
    if let PostStep::TopK(step) = step {
        let with = |dtype, name: &str| Type { dtype, dims: written.dims.clone() }.named(name);
        let mut writes = vec![with(DType::F32, &step.scores), with(DType::I64, &step.indices)];
        if step.labels.is_some() {
            writes.push(with(DType::String, &step.names));
        }
        return Ok(writes);
    }
    Ok(vec![written.named(step.ports().1.unwrap_or(&taken.name))])
}

fn check_mask(mask: &str, inner: &Signature) -> Result<(), String> {
    let Some(spec) = inner.inputs.iter().find(|spec| spec.name == mask) else {
        return Err(format!("mask '{mask}' is not an input of the model"));
    };
    let integers = matches!(spec.dtype, DType::I64 | DType::I32);
    if integers && spec.dims.as_ref().is_none_or(|dims| dims.len() == 2) {
        return Ok(());
    }
    let found = Type::of(spec).describe();
    Err(format!("mask '{mask}' must be i64 or i32 [batch,sequence], found {found}"))
}
