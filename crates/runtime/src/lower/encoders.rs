//! Encoders of features: numbers to scaled numbers, categories to numbers.

use std::collections::HashMap;
use std::sync::Arc;

use landfall_graph::{Op, ops};
use landfall_kernels::elementwise::{CastElement, Number};
use landfall_kernels::encode::{self, RowNorm};
use landfall_tensor::{DType, Shape, Tensor, TensorMut, TensorView};

use super::classical::number;
use super::types::{any_type, dispatch, number_type};
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::Scaler(op) => lower_scaler(site, op),
        Op::Normalizer(op) => lower_normalizer(site, op),
        Op::Binarizer(op) => boxed(Binarize { threshold: f64::from(op.threshold) }),
        Op::Imputer(op) => lower_imputer(site, op),
        Op::FeatureVectorizer(op) => lower_vectorizer(site, op),
        Op::ArrayFeatureExtractor => site.shape(0).and_then(|shape| match shape.last() {
            Some(&columns) => boxed(Extract { columns }),
            None => KernelError::invalid("there is no last axis to extract from"),
        }),
        Op::LabelEncoder(op) => lower_mapping(site, || label_encoder(op)),
        Op::CategoryMapper(op) => lower_mapping(site, || category_mapper(site, op)),
        Op::OneHotEncoder(op) => lower_one_hot(site, op),
        _ => return None,
    })
}

fn boxed(kernel: impl Kernel + 'static) -> Result<Lowered, KernelError> {
    Ok(Lowered::Kernel(Box::new(kernel)))
}

/// Extent of the last axis, over which constants repeat.
fn last_extent(site: &Site<'_>) -> Result<usize, KernelError> {
    Ok(site.shape(0)?.last().copied().unwrap_or(1))
}

fn check_length(name: &str, found: usize, columns: usize) -> Result<(), KernelError> {
    if found == 1 || found == columns {
        return Ok(());
    }
    KernelError::invalid(format!("{name} has {found} elements, the input has {columns} columns"))
}

struct Scale {
    columns: usize,
    offsets: Vec<f32>,
    factors: Vec<f32>,
}

fn lower_scaler(site: &Site<'_>, op: &ops::Scaler) -> Result<Lowered, KernelError> {
    let columns = last_extent(site)?;
    for (name, list) in [("offset", &op.offset), ("scale", &op.scale)] {
        if !list.is_empty() {
            check_length(name, list.len(), columns)?;
        }
    }
    boxed(Scale { columns, offsets: op.offset.clone(), factors: op.scale.clone() })
}

impl Kernel for Scale {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?;
        let out = io.outputs[0].as_mut_slice::<f32>()?;
        number!(input.dtype(), T => {
            encode::scale(input.as_slice::<T>()?, self.columns, &self.offsets, &self.factors, out);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("scale", "f64")
    }
}

struct NormalizeRows {
    columns: usize,
    norm: RowNorm,
}

fn lower_normalizer(site: &Site<'_>, op: &ops::Normalizer) -> Result<Lowered, KernelError> {
    let norm = match op.norm.as_str() {
        "MAX" => RowNorm::Max,
        "L1" => RowNorm::L1,
        "L2" => RowNorm::L2,
        other => return KernelError::invalid(format!("norm must be MAX, L1 or L2, is {other}")),
    };
    boxed(NormalizeRows { columns: last_extent(site)?, norm })
}

impl Kernel for NormalizeRows {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?;
        let out = io.outputs[0].as_mut_slice::<f32>()?;
        number!(input.dtype(), T => {
            encode::normalize_rows(input.as_slice::<T>()?, self.columns, self.norm, out);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("normalize_rows", "f64")
    }
}

struct Binarize {
    threshold: f64,
}

impl Kernel for Binarize {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?;
        let out = &mut io.outputs[0];
        number!(input.dtype(), T => {
            encode::binarize(input.as_slice::<T>()?, self.threshold, out.as_mut_slice::<T>()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("binarize", "")
    }
}

struct Impute {
    columns: usize,
    missing: Number,
    values: Vec<Number>,
}

fn lower_imputer(site: &Site<'_>, op: &ops::Imputer) -> Result<Lowered, KernelError> {
    let columns = last_extent(site)?;
    let (missing, values): (_, Vec<Number>) = if site.dtype(0)?.is_float() {
        let real = |x: f32| Number::Real(f64::from(x));
        let values = op.imputed_value_floats.iter().map(|&x| real(x)).collect();
        (real(op.replaced_value_float), values)
    } else {
        let integer = |x: i64| Number::Integer(i128::from(x));
        let values = op.imputed_value_int64s.iter().map(|&x| integer(x)).collect();
        (integer(op.replaced_value_int64), values)
    };
    check_length("imputed_value", values.len(), columns)?;
    boxed(Impute { columns, missing, values })
}

impl Kernel for Impute {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?;
        let out = &mut io.outputs[0];
        number!(input.dtype(), T => {
            let of = |number: Number| match number {
                Number::Real(x) => T::from_real(x),
                Number::Integer(x) => T::from_integer(x),
            };
            let values: Vec<T> = self.values.iter().map(|&value| of(value)).collect();
            let (x, out) = (input.as_slice::<T>()?, out.as_mut_slice::<T>()?);
            encode::impute(x, self.columns, of(self.missing), &values, out);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("impute", "")
    }
}

/// Inputs side by side, given the columns of each.
struct SideBySide {
    columns: Vec<usize>,
}

fn lower_vectorizer(site: &Site<'_>, op: &ops::FeatureVectorizer) -> Result<Lowered, KernelError> {
    let mut columns = Vec::with_capacity(site.inputs.len());
    let mut rows = None;
    for index in 0..site.inputs.len() {
        let (count, width) = match *site.shape(index)? {
            [width] => (1, width),
            [count, ref rest @ ..] => (count, rest.iter().product()),
            [] => return KernelError::invalid(format!("operand {index} is a scalar")),
        };
        if *rows.get_or_insert(count) != count {
            return KernelError::invalid("the operands differ in their number of rows");
        }
        columns.push(width);
    }
    let declared: Vec<usize> =
        op.inputdimensions.iter().map(|&n| usize::try_from(n).unwrap_or(usize::MAX)).collect();
    if !declared.is_empty() && declared != columns {
        return KernelError::invalid(format!(
            "the operands have {columns:?} columns, inputdimensions says {declared:?}"
        ));
    }
    boxed(SideBySide { columns })
}

impl Kernel for SideBySide {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let width = self.columns.iter().sum();
        let mut first = 0;
        for (index, &columns) in self.columns.iter().enumerate() {
            let input = io.input(index)?;
            let out = io.outputs[0].as_mut_slice::<f32>()?;
            number!(input.dtype(), T => {
                encode::place(input.as_slice::<T>()?, columns, (first, width), out);
            });
            first += columns;
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("side_by_side", "f32")
    }
}

/// Elements of the last axis at given positions.
struct Extract {
    columns: usize,
}

impl Kernel for Extract {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, positions) = (io.input(0)?, io.input(1)?);
        let columns = self.columns;
        let pick = |&position: &i64| {
            usize::try_from(position).ok().filter(|&position| position < columns).ok_or_else(|| {
                KernelError::Invalid(format!("position {position} is not below {columns}"))
            })
        };
        let picks: Vec<usize> =
            positions.as_slice::<i64>()?.iter().map(pick).collect::<Result<_, _>>()?;
        let out = &mut io.outputs[0];
        if input.dtype() == DType::String {
            encode::pick(input.strings()?, columns, &picks, out.strings_mut()?);
            return Ok(());
        }
        any_type!(input.dtype(), T => {
            encode::pick(input.as_slice::<T>()?, columns, &picks, out.as_mut_slice::<T>()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("extract", "")
    }
}

/// Categories and their positions.
enum Keys {
    Texts(HashMap<String, usize>),
    /// Numbers of one type.
    Numbers(DType, HashMap<u64, usize>),
}

/// A number as a key: equal numbers have equal keys, and so have all NaN.
fn key_of<T: CastElement>(value: T) -> u64 {
    match value.number() {
        Number::Integer(x) => x as u64,
        Number::Real(x) if x.is_nan() => f64::NAN.to_bits(),
        Number::Real(x) => (x + 0.0).to_bits(),
    }
}

impl Keys {
    /// A key given twice stands for its last position.
    fn new(keys: &Tensor) -> Result<Keys, KernelError> {
        let keys = keys.aligned();
        if keys.dtype() == DType::String {
            let texts = keys.strings()?.iter().cloned();
            return Ok(Keys::Texts(texts.zip(0..).collect()));
        }
        number_type!(keys.dtype(), T => {
            let numbers = keys.as_slice::<T>()?.iter().map(|&key| key_of(key));
            Ok(Keys::Numbers(keys.dtype(), numbers.zip(0..).collect()))
        })
    }

    /// Tells `found` the position of every element.
    fn find(
        &self,
        input: TensorView<'_>,
        found: &mut dyn FnMut(usize, Option<usize>) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        match self {
            Keys::Texts(keys) => {
                for (index, text) in input.strings()?.iter().enumerate() {
                    found(index, keys.get(text).copied())?;
                }
            }
            Keys::Numbers(dtype, keys) => {
                if input.dtype() != *dtype {
                    let input = input.dtype();
                    return KernelError::invalid(format!("the input is {input}, keys are {dtype}"));
                }
                number_type!(*dtype, T => {
                    for (index, &value) in input.as_slice::<T>()?.iter().enumerate() {
                        found(index, keys.get(&key_of(value)).copied())?;
                    }
                });
            }
        }
        Ok(())
    }
}

/// Values for keys; the last value is for everything that is not a key.
struct Mapping {
    keys: Keys,
    values: Tensor,
}

impl Mapping {
    fn new(keys: &Tensor, values: &Tensor, default: &Tensor) -> Result<Mapping, KernelError> {
        let count = values.elements();
        if keys.elements() != count {
            let keys = keys.elements();
            return KernelError::invalid(format!("there are {keys} keys and {count} values"));
        }
        if default.dtype() != values.dtype() || default.elements() != 1 {
            let (found, expected) = (default.dtype(), values.dtype());
            return KernelError::invalid(format!("the default is {found}, values are {expected}"));
        }
        let (values, default, keys) = (values.aligned(), default.aligned(), Keys::new(keys)?);
        let shape = Shape::from([count + 1]);
        if values.dtype() == DType::String {
            let all = values.strings()?.iter().chain(default.strings()?).cloned().collect();
            return Ok(Mapping { keys, values: Tensor::from_strings(shape, all)? });
        }
        number_type!(values.dtype(), T => {
            let mut all = values.as_slice::<T>()?.to_vec();
            all.extend_from_slice(default.as_slice::<T>()?);
            let bytes = bytemuck::cast_slice(&all);
            Ok(Mapping { keys, values: Tensor::from_bytes(values.dtype(), shape, bytes)? })
        })
    }

    fn apply(&self, input: TensorView<'_>, out: &mut TensorMut<'_>) -> Result<(), KernelError> {
        let default = self.values.elements() - 1;
        if self.values.dtype() == DType::String {
            let (values, out) = (self.values.strings()?, out.strings_mut()?);
            return self.keys.find(input, &mut |index, found| {
                out[index].clone_from(&values[found.unwrap_or(default)]);
                Ok(())
            });
        }
        number_type!(self.values.dtype(), T => {
            let (values, out) = (self.values.as_slice::<T>()?, out.as_mut_slice::<T>()?);
            self.keys.find(input, &mut |index, found| {
                out[index] = values[found.unwrap_or(default)];
                Ok(())
            })
        })
    }
}

struct Map {
    mapping: Arc<Mapping>,
}

fn lower_mapping(
    site: &Site<'_>,
    make: impl FnOnce() -> Result<Mapping, KernelError>,
) -> Result<Lowered, KernelError> {
    site.dtype(0)?;
    let mapping = site.compiled(|| Ok((make()?, 0)))?;
    boxed(Map { mapping })
}

impl Kernel for Map {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        self.mapping.apply(io.input(0)?, &mut io.outputs[0])
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("map_labels", "")
    }
}

fn texts(list: &[String]) -> Result<Tensor, KernelError> {
    Ok(Tensor::from_strings(Shape::from([list.len()]), list.to_vec())?)
}

fn numbers<T: landfall_tensor::Element>(list: &[T]) -> Result<Tensor, KernelError> {
    Ok(Tensor::from_slice(Shape::from([list.len()]), list)?)
}

fn label_encoder(op: &ops::LabelEncoder) -> Result<Mapping, KernelError> {
    let list =
        |tensor: &Option<Tensor>, floats: &[f32], ints: &[i64], names: &[String]| match tensor {
            Some(tensor) => Ok(tensor.clone()),
            None if !floats.is_empty() => numbers(floats),
            None if !ints.is_empty() => numbers(ints),
            None => texts(names),
        };
    let keys = list(&op.keys_tensor, &op.keys_floats, &op.keys_int64s, &op.keys_strings)?;
    let values = list(&op.values_tensor, &op.values_floats, &op.values_int64s, &op.values_strings)?;
    let default = match (&op.default_tensor, values.dtype()) {
        (Some(default), _) => default.clone(),
        (None, DType::String) => texts(std::slice::from_ref(&op.default_string))?,
        (None, DType::F32) => numbers(&[op.default_float])?,
        (None, DType::I64) => numbers(&[op.default_int64])?,
        (None, dtype) => number_type!(dtype, T => {
            let value = if dtype.is_float() { T::from_real(-0.0) } else { T::from_integer(-1) };
            Tensor::from_bytes(dtype, Shape::from([1]), bytemuck::bytes_of(&value))?
        }),
    };
    Mapping::new(&keys, &values, &default)
}

fn category_mapper(site: &Site<'_>, op: &ops::CategoryMapper) -> Result<Mapping, KernelError> {
    let (ints, names) = (numbers(&op.cats_int64s)?, texts(&op.cats_strings)?);
    match site.dtype(0)? {
        DType::String => Mapping::new(&names, &ints, &numbers(&[op.default_int64])?),
        _ => Mapping::new(&ints, &names, &texts(std::slice::from_ref(&op.default_string))?),
    }
}

/// A row of zeros with a one for every element.
struct OneHot {
    keys: Keys,
    categories: usize,
    /// Whether an unknown category is all zeros rather than an error.
    zeros: bool,
}

fn lower_one_hot(site: &Site<'_>, op: &ops::OneHotEncoder) -> Result<Lowered, KernelError> {
    let keys = match site.dtype(0)? {
        DType::String => texts(&op.cats_strings)?,
        _ => numbers(&op.cats_int64s)?,
    };
    let categories = op.cats_int64s.len().max(op.cats_strings.len());
    if keys.elements() != categories {
        let dtype = site.dtype(0)?;
        return KernelError::invalid(format!("the input is {dtype}, the categories are not"));
    }
    boxed(OneHot { keys: Keys::new(&keys)?, categories, zeros: op.zeros })
}

impl Kernel for OneHot {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?;
        let out = io.outputs[0].as_mut_slice::<f32>()?;
        out.fill(0.0);
        let mut set = |index: usize, found: Option<usize>| match found {
            Some(category) => {
                out[index * self.categories + category] = 1.0;
                Ok(())
            }
            None if self.zeros => Ok(()),
            None => KernelError::invalid(format!("element {index} is of an unknown category")),
        };
        match &self.keys {
            Keys::Numbers(_, keys) if input.dtype() != DType::I64 => {
                dispatch!(input.dtype(), T => {
                    for (index, value) in input.as_slice::<T>()?.iter().enumerate() {
                        let whole = value.to_real() as i64;
                        set(index, keys.get(&key_of(whole)).copied())?;
                    }
                    Ok(())
                }, F32 f32, F64 f64, I32 i32)
            }
            keys => keys.find(input, &mut set),
        }
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("one_hot", "f32")
    }
}
