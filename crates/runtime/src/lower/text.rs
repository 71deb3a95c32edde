//! Operators on strings.

use std::collections::{HashMap, HashSet};

use landfall_graph::{Op, ops};
use landfall_kernels::Exec;
use landfall_kernels::elementwise::{CastElement, Number};
use landfall_tensor::{DType, Shape, Tensor, broadcast, row_major_strides};
use regex::{Regex, RegexBuilder};

use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{DynamicKernel, Kernel, KernelError, KernelInfo};

/// A compiled pattern may take this much memory, and so may its cache.
const REGEX_BYTES_MAX: usize = 4 << 20;

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::RegexFullMatch(op) => lower_regex(op),
        Op::StringConcat => lower_concat(site),
        Op::StringNormalizer(op) => lower_normalizer(op),
        Op::StringSplit(op) => Ok(Lowered::Dynamic(Box::new(Split {
            delimiter: op.delimiter.clone().filter(|delimiter| !delimiter.is_empty()),
            most: op.maxsplit.and_then(|most| usize::try_from(most).ok()),
        }))),
        Op::TfIdfVectorizer(op) => lower_tf_idf(site, op),
        _ => return None,
    })
}

struct FullMatch {
    pattern: Regex,
}

fn lower_regex(op: &ops::RegexFullMatch) -> Result<Lowered, KernelError> {
    let Some(pattern) = &op.pattern else {
        return KernelError::invalid("attribute 'pattern' is required");
    };
    let pattern = RegexBuilder::new(&format!(r"\A(?:{pattern})\z"))
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|error| KernelError::Invalid(format!("the pattern is not valid: {error}")))?;
    Ok(Lowered::Kernel(Box::new(FullMatch { pattern })))
}

impl Kernel for FullMatch {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?;
        let out = io.outputs[0].as_mut_slice::<u8>()?;
        for (o, text) in out.iter_mut().zip(input.strings()?) {
            *o = u8::from(self.pattern.is_match(text));
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("regex", "string")
    }
}

/// Joins the elements of two broadcast tensors.
struct Concat {
    shape: Shape,
    /// For both operands, the stride of every result axis; 0 where it is broadcast.
    strides: [Vec<usize>; 2],
}

fn lower_concat(site: &Site<'_>) -> Result<Lowered, KernelError> {
    let (a, b) = (site.shape(0)?, site.shape(1)?);
    let shape = broadcast(&a, &b)?;
    let strides = [a, b].map(|operand| {
        let own = row_major_strides(&operand);
        let missing = shape.rank() - operand.rank();
        (0..shape.rank())
            .map(|axis| match axis.checked_sub(missing) {
                Some(own_axis) if operand[own_axis] != 1 => own[own_axis],
                _ => 0,
            })
            .collect()
    });
    Ok(Lowered::Kernel(Box::new(Concat { shape, strides })))
}

impl Concat {
    fn offset(&self, operand: usize, index: usize) -> usize {
        let mut rest = index;
        let axes = self.shape.iter().zip(&self.strides[operand]).rev();
        axes.map(|(&extent, stride)| {
            let along = rest % extent;
            rest /= extent;
            along * stride
        })
        .sum()
    }
}

impl Kernel for Concat {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (a, b) = (io.input(0)?, io.input(1)?);
        let (a, b) = (a.strings()?, b.strings()?);
        for (index, out) in io.outputs[0].strings_mut()?.iter_mut().enumerate() {
            out.clone_from(&a[self.offset(0, index)]);
            out.push_str(&b[self.offset(1, index)]);
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("string_concat", "string")
    }
}

#[derive(Clone, Copy)]
enum Case {
    Keep,
    Lower,
    Upper,
}

/// Drops stop words and changes the case of the others, by Unicode's rules for no locale.
struct Normalize {
    stop_words: HashSet<String>,
    /// Whether stop words are compared as they are.
    sensitive: bool,
    case: Case,
}

fn lower_normalizer(op: &ops::StringNormalizer) -> Result<Lowered, KernelError> {
    let case = match op.case_change_action.as_str() {
        "NONE" => Case::Keep,
        "LOWER" => Case::Lower,
        "UPPER" => Case::Upper,
        other => {
            let expected = "NONE, LOWER or UPPER";
            return KernelError::invalid(format!(
                "case_change_action must be {expected}, is {other}"
            ));
        }
    };
    let sensitive = op.is_case_sensitive;
    let word = |word: &String| if sensitive { word.clone() } else { word.to_lowercase() };
    let stop_words = op.stopwords.iter().map(word).collect();
    Ok(Lowered::Dynamic(Box::new(Normalize { stop_words, sensitive, case })))
}

impl DynamicKernel for Normalize {
    fn run(&self, inputs: &[Option<Tensor>], _: Exec<'_>) -> Result<Vec<Tensor>, KernelError> {
        let input = first(inputs)?;
        let batched = match **input.shape() {
            [_] => false,
            [1, _] => true,
            _ => {
                let shape = input.shape();
                return KernelError::invalid(format!(
                    "the input must be [C] or [1, C], is {shape}"
                ));
            }
        };
        let stops = |text: &String| match self.sensitive {
            true => self.stop_words.contains(text),
            false => self.stop_words.contains(&text.to_lowercase()),
        };
        let mut kept: Vec<String> = input
            .strings()?
            .iter()
            .filter(|text| self.stop_words.is_empty() || !stops(text))
            .map(|text| match self.case {
                Case::Keep => text.clone(),
                Case::Lower => text.to_lowercase(),
                Case::Upper => text.to_uppercase(),
            })
            .collect();
        if kept.is_empty() {
            kept.push(String::new());
        }
        let shape = match batched {
            true => Shape::from([1, kept.len()]),
            false => Shape::from([kept.len()]),
        };
        Ok(vec![Tensor::from_strings(shape, kept)?])
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("string_normalize", "string")
    }
}

fn first(inputs: &[Option<Tensor>]) -> Result<&Tensor, KernelError> {
    let missing = || KernelError::Invalid("operand 0 is missing".into());
    inputs.first().and_then(Option::as_ref).ok_or_else(missing)
}

/// Cuts every element into parts; short lists are filled up with empty strings.
struct Split {
    /// Runs of white space if absent.
    delimiter: Option<String>,
    /// The most cuts of an element.
    most: Option<usize>,
}

impl Split {
    fn parts<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let most = self.most.unwrap_or(usize::MAX);
        if let Some(delimiter) = &self.delimiter {
            return text.splitn(most.saturating_add(1), delimiter.as_str()).collect();
        }
        let mut parts = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            match rest.split_once(char::is_whitespace) {
                Some((part, after)) if parts.len() < most => {
                    parts.push(part);
                    rest = after.trim_start();
                }
                _ => {
                    parts.push(rest);
                    break;
                }
            }
        }
        parts
    }
}

impl DynamicKernel for Split {
    fn run(&self, inputs: &[Option<Tensor>], _: Exec<'_>) -> Result<Vec<Tensor>, KernelError> {
        let input = first(inputs)?;
        let parts: Vec<Vec<&str>> = input.strings()?.iter().map(|text| self.parts(text)).collect();
        let width = parts.iter().map(Vec::len).max().unwrap_or(0);
        let counts: Vec<i64> = parts.iter().map(|parts| parts.len() as i64).collect();
        let shape: Shape = input.shape().iter().copied().chain([width]).collect();
        shape.checked_elements()?;
        let filled = parts.iter().flat_map(|parts| {
            let padding = std::iter::repeat_n("", width - parts.len());
            parts.iter().copied().chain(padding).map(str::to_owned)
        });
        let texts = Tensor::from_strings(shape, filled.collect())?;
        Ok(vec![texts, Tensor::from_slice(input.shape().clone(), &counts)?])
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("string_split", "string")
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Weighting {
    /// How often.
    Frequency,
    /// Whether, times the weight.
    Presence,
    /// How often, times the weight.
    Weighted,
}

/// Column and weight of n-grams of one length, by the tokens' numbers.
type Grams = HashMap<Vec<u32>, (usize, f32)>;

/// Counts of n-grams of every row.
struct TfIdf {
    /// For each length from 1.
    grams: Vec<Grams>,
    tokens: Tokens,
    lengths: std::ops::RangeInclusive<usize>,
    skips: usize,
    weighting: Weighting,
    /// Tokens of a row.
    columns: usize,
    /// Columns of the result.
    width: usize,
}

/// The tokens of the pool, numbered.
enum Tokens {
    Texts(HashMap<String, u32>),
    Ints(HashMap<i64, u32>),
}

/// Stands for a token that is not in the pool.
const UNKNOWN: u32 = u32::MAX;

fn lower_tf_idf(site: &Site<'_>, op: &ops::TfIdfVectorizer) -> Result<Lowered, KernelError> {
    let shape = site.shape(0)?;
    let width = site.output_shape(0)?.last().copied().unwrap_or(0);
    let columns = shape.last().copied().unwrap_or(1);
    let positive = |value: i64, name: &str| {
        usize::try_from(value).map_err(|_| KernelError::Invalid(format!("{name} is {value}")))
    };
    let shortest = positive(op.min_gram_length, "min_gram_length")?.max(1);
    let longest = positive(op.max_gram_length, "max_gram_length")?;
    let skips = positive(op.max_skip_count, "max_skip_count")?;
    let weighting = match op.mode.as_str() {
        "TF" => Weighting::Frequency,
        "IDF" => Weighting::Presence,
        "TFIDF" => Weighting::Weighted,
        other => {
            return KernelError::invalid(format!("mode must be TF, IDF or TFIDF, is {other}"));
        }
    };
    let (tokens, pool) = match op.pool_strings.is_empty() {
        true => number_tokens(&op.pool_int64s, Tokens::Ints),
        false => number_tokens(&op.pool_strings, Tokens::Texts),
    };
    let grams = grams(op, &pool, width)?;
    let lengths = shortest..=longest;
    let kernel = TfIdf { grams, tokens, lengths, skips, weighting, columns, width };
    Ok(Lowered::Kernel(Box::new(kernel)))
}

fn number_tokens<K: Clone + Eq + std::hash::Hash>(
    pool: &[K],
    wrap: fn(HashMap<K, u32>) -> Tokens,
) -> (Tokens, Vec<u32>) {
    let mut numbers = HashMap::new();
    let mut numbered = Vec::with_capacity(pool.len());
    for token in pool {
        let next = numbers.len() as u32;
        numbered.push(*numbers.entry(token.clone()).or_insert(next));
    }
    (wrap(numbers), numbered)
}

/// The n-grams of the pool: those of length `n` begin at `ngram_counts[n - 1]`.
fn grams(op: &ops::TfIdfVectorizer, pool: &[u32], width: usize) -> Result<Vec<Grams>, KernelError> {
    let bad = || KernelError::Invalid("ngram_counts and ngram_indexes do not fit the pool".into());
    let mut all = Vec::with_capacity(op.ngram_counts.len());
    let mut ordinal = 0;
    for (position, &start) in op.ngram_counts.iter().enumerate() {
        let end = op
            .ngram_counts
            .get(position + 1)
            .map_or(Ok(pool.len()), |&end| usize::try_from(end).map_err(|_| bad()))?;
        let start = usize::try_from(start).map_err(|_| bad())?;
        let part = pool.get(start..end).ok_or_else(bad)?;
        let length = position + 1;
        if !part.len().is_multiple_of(length) {
            return Err(bad());
        }
        let mut of_length = HashMap::new();
        for gram in part.chunks_exact(length) {
            let column = op.ngram_indexes.get(ordinal).ok_or_else(bad)?;
            let column = usize::try_from(*column).ok().filter(|&column| column < width);
            let weight = op.weights.get(ordinal).copied().unwrap_or(1.0);
            of_length.insert(gram.to_vec(), (column.ok_or_else(bad)?, weight));
            ordinal += 1;
        }
        all.push(of_length);
    }
    Ok(all)
}

impl TfIdf {
    /// Counts the n-grams of `row` whose tokens lie 1 to `skips + 1` apart, evenly.
    fn count(&self, row: &[u32], out: &mut [f32]) {
        let mut gram = Vec::new();
        for length in self.lengths.clone() {
            let Some(grams) = self.grams.get(length - 1).filter(|grams| !grams.is_empty()) else {
                continue;
            };
            // The tokens of a single one have no distance.
            let distances = if length == 1 { 1 } else { self.skips.min(row.len()) + 1 };
            for distance in 1..=distances {
                let reach = (length - 1).saturating_mul(distance);
                for first in 0..row.len().saturating_sub(reach) {
                    gram.clear();
                    gram.extend((0..length).map(|i| row[first + i * distance]));
                    if let Some(&(column, weight)) = grams.get(&gram) {
                        out[column] = match self.weighting {
                            Weighting::Frequency => out[column] + 1.0,
                            Weighting::Weighted => out[column] + weight,
                            Weighting::Presence => weight,
                        };
                    }
                }
            }
        }
    }
}

impl Kernel for TfIdf {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?;
        let numbered: Vec<u32> = match (&self.tokens, input.dtype()) {
            (Tokens::Texts(tokens), DType::String) => {
                let number = |text| tokens.get(text).copied().unwrap_or(UNKNOWN);
                input.strings()?.iter().map(number).collect()
            }
            (Tokens::Ints(tokens), dtype) if dtype != DType::String => {
                super::types::dispatch!(dtype, T => {
                    let number = |x: &T| match x.number() {
                        Number::Integer(x) => tokens.get(&(x as i64)).copied(),
                        Number::Real(_) => None,
                    };
                    let tokens = input.as_slice::<T>()?.iter();
                    tokens.map(|x| number(x).unwrap_or(UNKNOWN)).collect()
                }, I64 i64, I32 i32)
            }
            (_, dtype) => {
                return KernelError::invalid(format!("the input is {dtype}, the pool is not"));
            }
        };
        let out = io.outputs[0].as_mut_slice::<f32>()?;
        out.fill(0.0);
        let rows = numbered.chunks_exact(self.columns.max(1));
        for (row, out) in rows.zip(out.chunks_exact_mut(self.width.max(1))) {
            self.count(row, out);
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("tf_idf", "f32")
    }
}
