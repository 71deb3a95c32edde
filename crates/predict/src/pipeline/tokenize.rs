//! Text to token ids, by a `tokenizer.json`.

use landfall_graph::{DimSpec, Signature};
use landfall_package::steps::{PreStep, ResolvedStep, StepError, Tokenize};
use landfall_tensor::{DType, Shape, Tensor};
use tokenizers::{Encoding, PaddingDirection, PostProcessor, Tokenizer, TruncationParams};

use super::assets;
use super::{Limits, check_size, internal, invalid};
use crate::PredictError;

/// What tokenizers call padding, in the order in which they are looked up.
const PADDING_TOKENS: [&str; 3] = ["[PAD]", "<pad>", "<|endoftext|>"];

/// A loaded tokenizer and what to make of its result.
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    inputs: Vec<String>,
    outputs: Vec<Output>,
    /// Tokens in every row, where the model fixes them.
    length: Option<usize>,
    pad_left: bool,
    limits: Limits,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tokens { inputs, outputs, length, .. } = self;
        write!(f, "Tokens {{ {inputs:?} -> {outputs:?}, length: {length:?} }}")
    }
}

#[derive(Debug)]
struct Output {
    kind: Kind,
    dtype: DType,
    /// What fills a row that is too short.
    padding: u32,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Ids,
    Mask,
    Types,
}

impl Tokens {
    pub(super) fn compile(
        step: &ResolvedStep<PreStep>,
        declared: &Tokenize,
        json: &[u8],
        inner: &Signature,
        limits: Limits,
    ) -> Result<Tokens, StepError> {
        let fail = |message: String| assets::error(&step.place, message);
        let asset = &declared.tokenizer;
        let mut tokenizer = Tokenizer::from_bytes(json)
            .map_err(|e| fail(format!("asset '{asset}' is not a tokenizer.json: {e}")))?;
        let padding = tokenizer.get_padding().cloned();
        let pad_id = padding
            .as_ref()
            .map(|padding| padding.pad_id)
            .or_else(|| PADDING_TOKENS.iter().find_map(|token| tokenizer.token_to_id(token)));
        let pad_type = padding.as_ref().map_or(0, |padding| padding.pad_type_id);
        let special = tokenizer
            .get_post_processor()
            .map_or(0, |processor| processor.added_tokens(declared.text_pair.is_some()));
        if declared.max_length <= special {
            let found = declared.max_length;
            return Err(fail(format!(
                "max_length is {found}, but the tokenizer adds {special} special tokens a row"
            )));
        }
        let direction = tokenizer.get_truncation().map(|t| t.direction).unwrap_or_default();
        let truncation =
            TruncationParams { max_length: declared.max_length, direction, ..Default::default() };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|e| fail(format!("max_length does not suit the tokenizer: {e}")))?;
        tokenizer.with_padding(None);
        let kinds = step.token_kinds(inner);
        let outputs = step.writes.iter().zip(kinds).map(|(spec, kind)| {
            let (kind, padding) = match kind {
                "input_ids" => (Kind::Ids, pad_id.unwrap_or(0)),
                "attention_mask" => (Kind::Mask, 0),
                _ => (Kind::Types, pad_type),
            };
            Output { kind, dtype: spec.dtype, padding }
        });
        let length = step.writes.iter().find_map(|spec| match spec.dims.as_ref()?.get(1)? {
            DimSpec::Known(length) => Some(*length),
            DimSpec::Symbol(_) => None,
        });
        let pad_left = padding.is_some_and(|p| matches!(p.direction, PaddingDirection::Left));
        let inputs = step.takes.iter().map(|spec| spec.name.clone()).collect();
        let outputs = outputs.collect();
        Ok(Tokens { tokenizer, inputs, outputs, length, pad_left, limits })
    }

    /// What fills up each value written, if more may be filled up on the right without harm.
    pub(super) fn padding_values(&self) -> Option<Vec<f64>> {
        let masked = self.outputs.iter().any(|output| matches!(output.kind, Kind::Mask));
        let values = self.outputs.iter().map(|output| f64::from(output.padding)).collect();
        (masked && !self.pad_left && self.length.is_none()).then_some(values)
    }

    /// One or two texts a row, `[batch]` each, to ids, mask and types, `[batch, sequence]` each,
    /// and the number of tokens of all rows.
    pub(super) fn run(&self, taken: &[Tensor]) -> Result<(Vec<Tensor>, usize), PredictError> {
        let texts = taken.iter().map(Tensor::strings).collect::<Result<Vec<_>, _>>();
        let texts = texts.map_err(internal)?;
        let rows = texts.first().map_or(0, |texts| texts.len());
        if texts.iter().any(|texts| texts.len() != rows) {
            let names = self.inputs.join("' and '");
            return Err(invalid(format!("inputs '{names}' have different numbers of rows")));
        }
        let mut encodings = Vec::with_capacity(rows);
        let mut longest = self.length.unwrap_or(1);
        for row in 0..rows {
            let encoding = self.encode(&texts, row)?;
            longest = longest.max(encoding.len());
            check_size(rows, longest.saturating_mul(DType::I64.size()), self.limits)?;
            encodings.push(encoding);
        }
        let shape = Shape::from([rows, longest]);
        let count = encodings.iter().map(Encoding::len).sum();
        let stacked = self.outputs.iter().map(|output| self.stack(output, &shape, &encodings));
        Ok((stacked.collect::<Result<_, _>>()?, count))
    }

    fn encode(&self, texts: &[&[String]], row: usize) -> Result<Encoding, PredictError> {
        for (texts, input) in texts.iter().zip(&self.inputs) {
            let (found, most) = (texts[row].len(), self.limits.text_bytes);
            if found > most {
                return Err(invalid(format!(
                    "input '{input}' row {row} has {found} bytes, at most {most} are allowed"
                )));
            }
        }
        let encoding = match texts {
            [text, pair] => {
                self.tokenizer.encode_fast((text[row].as_str(), pair[row].as_str()), true)
            }
            _ => self.tokenizer.encode_fast(texts[0][row].as_str(), true),
        };
        encoding.map_err(|e| invalid(format!("input '{}' row {row}: {e}", self.inputs[0])))
    }

    fn stack(
        &self,
        output: &Output,
        shape: &Shape,
        encodings: &[Encoding],
    ) -> Result<Tensor, PredictError> {
        let length = shape[1];
        let mut values = vec![output.padding; shape.elements()];
        for (target, encoding) in values.chunks_exact_mut(length).zip(encodings) {
            let source = match output.kind {
                Kind::Ids => encoding.get_ids(),
                Kind::Mask => encoding.get_attention_mask(),
                Kind::Types => encoding.get_type_ids(),
            };
            let start = if self.pad_left { length - source.len() } else { 0 };
            target[start..start + source.len()].copy_from_slice(source);
        }
        let shape = shape.clone();
        let tensor = match output.dtype {
            DType::I32 => {
                let narrow = |&value: &u32| i32::try_from(value).unwrap_or(i32::MAX);
                Tensor::from_slice(shape, &values.iter().map(narrow).collect::<Vec<_>>())
            }
            _ => Tensor::from_slice(shape, &values.into_iter().map(i64::from).collect::<Vec<_>>()),
        };
        tensor.map_err(internal)
    }
}
