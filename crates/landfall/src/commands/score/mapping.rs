//! Columns to inputs.

use anyhow::{Context, Result, bail, ensure};
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::Schema;
use landfall_graph::{DimSpec, Dims, Signature, TensorSpec};
use landfall_predict::Columns;
use landfall_tensor::{Buffer, DType, Shape, Tensor, bf16, f16};

use super::column_types::{self, Expected};
use super::source::ListColumn;
use super::values::{Problems, blobs, bools, lists, numbers, texts};

/// Where the elements of an input come from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// One value a row, from the column of the input's name.
    Value,
    /// The values of several columns, side by side.
    Stacked(Vec<String>),
    /// A list a row, from the column of the input's name.
    List,
}

/// One input and where it comes from.
#[derive(Debug, Clone)]
struct Input {
    spec: TensorSpec,
    /// Extents of the axes after the rows'.
    row: Vec<usize>,
    from: Origin,
}

/// How rows of columns become inputs.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    inputs: Vec<Input>,
}

/// Rows as inputs.
pub(super) struct Mapped {
    /// The inputs, of the good rows only.
    pub(super) columns: Columns,
    /// What is wrong with each row, by its position in the batch; `None` for good ones.
    pub(super) problems: Vec<Option<String>>,
}

impl Mapping {
    /// Each input takes the column of its name; with `stacked`, the only input takes those.
    pub(super) fn new(signature: &Signature, stacked: &[String]) -> Result<Mapping> {
        ensure!(
            stacked.is_empty() || signature.inputs.len() == 1,
            "--columns: the model has {} inputs, which take the columns of their names",
            signature.inputs.len()
        );
        let inputs = signature.inputs.iter().map(|spec| Input::new(spec, stacked));
        Ok(Mapping { inputs: inputs.collect::<Result<_>>()? })
    }

    /// Names of the columns that are needed.
    pub(super) fn names(&self) -> Vec<String> {
        let names = |input: &Input| match &input.from {
            Origin::Stacked(names) => names.clone(),
            Origin::Value | Origin::List => vec![input.spec.name.clone()],
        };
        self.inputs.iter().flat_map(names).collect()
    }

    /// Those that hold lists.
    pub(super) fn lists(&self) -> Vec<ListColumn> {
        let lists = self.inputs.iter().filter(|input| input.from == Origin::List);
        let list = |input: &Input| ListColumn {
            name: input.spec.name.clone(),
            shape: input.row.clone(),
            is_integer: input.spec.dtype.is_integer(),
        };
        lists.map(list).collect()
    }

    /// Fails if a column's type is not what its input takes.
    pub(super) fn check(&self, schema: &Schema) -> Result<()> {
        for input in &self.inputs {
            let TensorSpec { name, dtype, .. } = &input.spec;
            let (columns, expected) = match &input.from {
                Origin::Stacked(names) => (names.as_slice(), Expected::Value),
                Origin::Value => (std::slice::from_ref(name), Expected::Value),
                Origin::List => (std::slice::from_ref(name), Expected::List(&input.row)),
            };
            for column in columns {
                let found = schema.field_with_name(column)?.data_type();
                column_types::check(column, found, name, *dtype, expected)?;
            }
        }
        Ok(())
    }

    /// The rows of a batch as inputs.
    pub(super) fn map(&self, batch: &RecordBatch) -> Result<Mapped> {
        let mut problems = Problems::none(batch.num_rows());
        let elements = self.inputs.iter().map(|input| input.elements(batch, &mut problems));
        let elements = elements.collect::<Result<Vec<Elements>>>()?;
        let problems = problems.into_reasons();
        let good: Vec<usize> = (0..problems.len()).filter(|&i| problems[i].is_none()).collect();
        let columns = self.inputs.iter().zip(elements).map(|(input, elements)| {
            let mut shape = Shape::from([good.len()]);
            input.row.iter().for_each(|&extent| shape.push(extent));
            let tensor = elements.tensor(input.spec.dtype, shape, &good, input.width());
            tensor.map(|tensor| (input.spec.name.clone(), tensor))
        });
        Ok(Mapped { columns: columns.collect::<Result<_>>()?, problems })
    }
}

impl Input {
    fn new(spec: &TensorSpec, stacked: &[String]) -> Result<Input> {
        let name = &spec.name;
        let Some([rows, rest @ ..]) = spec.dims.as_deref() else {
            bail!("input '{name}' has no axis of rows, so rows cannot be scored");
        };
        if let DimSpec::Known(rows) = rows {
            ensure!(
                *rows == 1,
                "input '{name}' takes exactly {rows} rows at a time; rows are scored one by one or \
                 in batches of any size, so export the model with a free first axis"
            );
        }
        let extents = rest.iter().map(|dim| match dim {
            DimSpec::Known(extent) => Some(*extent),
            DimSpec::Symbol(_) => None,
        });
        let row: Option<Vec<usize>> = extents.collect();
        let (row, from) = match (row, stacked) {
            (Some(row), []) if row.iter().all(|&extent| extent == 1) => (row, Origin::Value),
            (Some(row), []) => (row, Origin::List),
            (Some(row), names) if row.iter().product::<usize>() == names.len() => {
                (row, Origin::Stacked(names.to_vec()))
            }
            (None, names) if !names.is_empty() && rest.len() == 1 => {
                (vec![names.len()], Origin::Stacked(names.to_vec()))
            }
            _ => bail!(
                "input '{name}' has shape {}: name as many columns with --columns",
                Dims(spec.dims.as_deref().unwrap_or_default())
            ),
        };
        Ok(Input { spec: spec.clone(), row, from })
    }

    /// Elements of one row.
    fn width(&self) -> usize {
        self.row.iter().product()
    }

    fn elements(&self, batch: &RecordBatch, problems: &mut Problems) -> Result<Elements> {
        let column = |name: &str| {
            let column = batch.column_by_name(name);
            column.with_context(|| format!("there is no column '{name}'"))
        };
        match &self.from {
            Origin::Value => {
                let name = &self.spec.name;
                Elements::of(name, column(name)?, self.spec.dtype, None, problems)
            }
            Origin::List => {
                let name = &self.spec.name;
                let shape = Some(self.row.as_slice());
                Elements::of(name, column(name)?, self.spec.dtype, shape, problems)
            }
            Origin::Stacked(names) => {
                let parts = names
                    .iter()
                    .map(|name| Elements::of(name, column(name)?, self.spec.dtype, None, problems));
                Elements::interleaved(parts.collect::<Result<_>>()?)
            }
        }
    }
}

/// The elements of an input for every row, good and bad.
enum Elements {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    Text(Vec<String>),
    Blob(Vec<Vec<u8>>),
}

/// Runs an expression with the elements of any type.
macro_rules! any {
    ($elements:expr, $values:ident => $body:expr) => {
        match $elements {
            Elements::F32($values) => Elements::F32($body),
            Elements::F64($values) => Elements::F64($body),
            Elements::I8($values) => Elements::I8($body),
            Elements::I16($values) => Elements::I16($body),
            Elements::I32($values) => Elements::I32($body),
            Elements::I64($values) => Elements::I64($body),
            Elements::U8($values) => Elements::U8($body),
            Elements::U16($values) => Elements::U16($body),
            Elements::U32($values) => Elements::U32($body),
            Elements::U64($values) => Elements::U64($body),
            Elements::Text($values) => Elements::Text($body),
            Elements::Blob($values) => Elements::Blob($body),
        }
    };
}

impl Elements {
    /// Of a column of values, or of lists that hold values of a shape.
    fn of(
        name: &str,
        array: &dyn Array,
        dtype: DType,
        row_shape: Option<&[usize]>,
        problems: &mut Problems,
    ) -> Result<Elements> {
        macro_rules! of {
            ($kind:ident, $arrow:ty, $null:expr) => {
                Elements::$kind(match row_shape {
                    Some(shape) => lists::<$arrow>(name, array, dtype, shape, $null, problems)?,
                    None => numbers::<$arrow>(name, array, dtype, $null, problems)?,
                })
            };
        }
        Ok(match (dtype, row_shape) {
            (DType::F32 | DType::F16 | DType::BF16, _) => of!(F32, Float32Type, Some(f32::NAN)),
            (DType::F64, _) => of!(F64, Float64Type, Some(f64::NAN)),
            (DType::I8, _) => of!(I8, Int8Type, None),
            (DType::I16, _) => of!(I16, Int16Type, None),
            (DType::I32, _) => of!(I32, Int32Type, None),
            (DType::I64, _) => of!(I64, Int64Type, None),
            (DType::U8, _) => of!(U8, UInt8Type, None),
            (DType::U16, _) => of!(U16, UInt16Type, None),
            (DType::U32, _) => of!(U32, UInt32Type, None),
            (DType::U64, _) => of!(U64, UInt64Type, None),
            (DType::Bool, None) => Elements::U8(bools(name, array, problems)?),
            (DType::String, None) => Elements::Text(texts(name, array, problems)?),
            (DType::Bytes, None) => Elements::Blob(blobs(name, array, problems)?),
            (dtype, _) => bail!("column '{name}': lists of type {dtype} are not supported"),
        })
    }

    /// Columns of one type, row by row.
    fn interleaved(parts: Vec<Elements>) -> Result<Elements> {
        let mut parts = parts.into_iter();
        let Some(first) = parts.next() else { bail!("no columns are named") };
        let columns = parts.len() + 1;
        macro_rules! interleave {
            ($kind:ident, $first:ident) => {{
                let mut all = vec![$first];
                for part in parts {
                    match part {
                        Elements::$kind(values) => all.push(values),
                        _ => bail!("columns differ in type: a bug in Landfall"),
                    }
                }
                let rows = all[0].len();
                let at = |i: usize| all[i % columns][i / columns].clone();
                Elements::$kind((0..rows * columns).map(at).collect())
            }};
        }
        Ok(match first {
            Elements::F32(first) => interleave!(F32, first),
            Elements::F64(first) => interleave!(F64, first),
            Elements::I8(first) => interleave!(I8, first),
            Elements::I16(first) => interleave!(I16, first),
            Elements::I32(first) => interleave!(I32, first),
            Elements::I64(first) => interleave!(I64, first),
            Elements::U8(first) => interleave!(U8, first),
            Elements::U16(first) => interleave!(U16, first),
            Elements::U32(first) => interleave!(U32, first),
            Elements::U64(first) => interleave!(U64, first),
            Elements::Text(first) => interleave!(Text, first),
            Elements::Blob(first) => interleave!(Blob, first),
        })
    }

    /// The good rows, of `width` elements each, as a tensor.
    fn tensor(self, dtype: DType, shape: Shape, good: &[usize], width: usize) -> Result<Tensor> {
        let all = any!(self, values => match good.len() * width == values.len() {
            true => values,
            false => good
                .iter()
                .flat_map(|&row| values[row * width..(row + 1) * width].iter().cloned())
                .collect(),
        });
        Ok(match all {
            Elements::F32(values) if dtype == DType::F16 => {
                let values: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
                Tensor::from_slice(shape, &values)
            }
            Elements::F32(values) if dtype == DType::BF16 => {
                let values: Vec<bf16> = values.into_iter().map(bf16::from_f32).collect();
                Tensor::from_slice(shape, &values)
            }
            Elements::U8(values) => Tensor::from_bytes(dtype, shape, &values),
            Elements::F32(values) => Tensor::from_slice(shape, &values),
            Elements::F64(values) => Tensor::from_slice(shape, &values),
            Elements::I8(values) => Tensor::from_slice(shape, &values),
            Elements::I16(values) => Tensor::from_slice(shape, &values),
            Elements::I32(values) => Tensor::from_slice(shape, &values),
            Elements::I64(values) => Tensor::from_slice(shape, &values),
            Elements::U16(values) => Tensor::from_slice(shape, &values),
            Elements::U32(values) => Tensor::from_slice(shape, &values),
            Elements::U64(values) => Tensor::from_slice(shape, &values),
            Elements::Text(values) => Tensor::from_strings(shape, values),
            Elements::Blob(values) => {
                let blobs = values.iter().map(|blob| Buffer::copy_of(blob)).collect();
                Tensor::from_blobs(shape, blobs)
            }
        }?)
    }
}
