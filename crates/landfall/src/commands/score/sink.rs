//! Batches to files that appear complete or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeListArray, PrimitiveArray, RecordBatch,
    StringArray,
};
use arrow_ipc::writer::FileWriter;
use arrow_json::LineDelimitedWriter;
use arrow_schema::{ArrowError, Field, SchemaRef};
use landfall_tensor::{DType, Tensor, bf16, f16};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::files::Draft;

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Parquet,
    Csv,
    Jsonl,
    Arrow,
}

impl Format {
    /// The form that a file's ending says.
    pub(super) fn of(path: &Path) -> Result<Format> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        Ok(match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("parquet") => Format::Parquet,
            Some("csv") => Format::Csv,
            Some("jsonl" | "ndjson") => Format::Jsonl,
            Some("arrow" | "feather" | "ipc") => Format::Arrow,
            _ => bail!(
                "{}: expected a file that ends in .parquet, .csv, .jsonl or .arrow",
                path.display()
            ),
        })
    }
}

enum Writer {
    Parquet(Box<ArrowWriter<File>>),
    Csv(Box<arrow_csv::Writer<BufWriter<File>>>),
    Jsonl(LineDelimitedWriter<BufWriter<File>>),
    Arrow(Box<FileWriter<BufWriter<File>>>),
}

/// A file in the making. Dropping it unfinished leaves nothing behind.
pub(super) struct Sink {
    path: PathBuf,
    // Before the draft, which goes last: what a writer still holds is written when it is dropped.
    writer: Writer,
    draft: Draft,
}

impl Sink {
    /// Starts a file of that schema.
    pub(super) fn create(path: &Path, schema: &SchemaRef) -> Result<Sink> {
        let created = Draft::create(path);
        let (draft, file) = created.with_context(|| path.display().to_string())?;
        let buffered = |file| BufWriter::with_capacity(1 << 20, file);
        let writer = match Format::of(path)? {
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .build();
                let writer = ArrowWriter::try_new(file, Arc::clone(schema), Some(properties))?;
                Writer::Parquet(Box::new(writer))
            }
            Format::Csv => Writer::Csv(Box::new(arrow_csv::Writer::new(buffered(file)))),
            Format::Jsonl => Writer::Jsonl(LineDelimitedWriter::new(buffered(file))),
            Format::Arrow => Writer::Arrow(Box::new(FileWriter::try_new(buffered(file), schema)?)),
        };
        Ok(Sink { path: path.to_owned(), writer, draft })
    }

    /// Adds rows.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let written = match &mut self.writer {
            Writer::Parquet(writer) => writer.write(batch).map_err(anyhow::Error::from),
            Writer::Csv(writer) => writer.write(batch).map_err(told_once),
            Writer::Jsonl(writer) => writer.write(batch).map_err(told_once),
            Writer::Arrow(writer) => writer.write(batch).map_err(told_once),
        };
        written.with_context(|| self.path.display().to_string())
    }

    /// Ends the file and gives it its name.
    pub(super) fn finish(self) -> Result<()> {
        let path = self.path.display().to_string();
        self.close().with_context(|| path)
    }

    fn close(self) -> Result<()> {
        let flushed = |mut file: BufWriter<File>| -> Result<File> {
            file.flush()?;
            Ok(file.into_inner()?)
        };
        let file = match self.writer {
            Writer::Parquet(writer) => writer.into_inner()?,
            Writer::Csv(writer) => flushed(writer.into_inner())?,
            Writer::Jsonl(mut writer) => {
                writer.finish()?;
                flushed(writer.into_inner())?
            }
            Writer::Arrow(writer) => flushed(writer.into_inner()?)?,
        };
        file.sync_all()?;
        Ok(self.draft.commit()?)
    }
}

/// The library tells what the system said, and then that it was its source.
fn told_once(error: ArrowError) -> anyhow::Error {
    match error {
        ArrowError::IoError(_, error) => error.into(),
        other => other.into(),
    }
}

/// An output as columns: one, of lists if a row has several elements; in CSV, which has no lists,
/// one for each element.
pub(super) fn columns(
    name: &str,
    tensor: &Tensor,
    format: Format,
) -> Result<Vec<(Field, ArrayRef)>> {
    let rows = tensor.shape().first().copied().unwrap_or(0);
    let row = tensor.shape().get(1..).unwrap_or_default();
    let width: usize = row.iter().product();
    let all = elements(tensor)?;
    ensure!(all.len() == rows * width, "output '{name}': {} elements of {rows} rows", all.len());
    let field = |name: String, array: &ArrayRef| Field::new(name, array.data_type().clone(), true);
    if width == 1 && row.iter().all(|&extent| extent == 1) {
        return Ok(vec![(field(name.to_owned(), &all), all)]);
    }
    if format == Format::Csv {
        let column = |index: usize| {
            let rows = (0..rows).map(|row| (row * width + index) as u64);
            let indices = PrimitiveArray::<UInt64Type>::from_iter_values(rows);
            let column = arrow_select::take::take(&all, &indices, None)?;
            Ok((field(format!("{name}_{index}"), &column), column))
        };
        return (0..width).map(column).collect();
    }
    let item = Arc::new(Field::new_list_field(all.data_type().clone(), false));
    let list = FixedSizeListArray::try_new(item, i32::try_from(width)?, all, None)?;
    let list: ArrayRef = Arc::new(list);
    Ok(vec![(field(name.to_owned(), &list), list)])
}

/// Every element of a tensor, row-major. Half-width floats become FP32.
fn elements(tensor: &Tensor) -> Result<ArrayRef> {
    let tensor = tensor.aligned();
    macro_rules! numbers {
        ($arrow:ty, $element:ty) => {{
            let values = tensor.as_slice::<$element>()?.iter().copied();
            Arc::new(PrimitiveArray::<$arrow>::from_iter_values(values)) as ArrayRef
        }};
    }
    macro_rules! halves {
        ($element:ty) => {{
            let values = tensor.as_slice::<$element>()?.iter().map(|value| value.to_f32());
            Arc::new(PrimitiveArray::<Float32Type>::from_iter_values(values)) as ArrayRef
        }};
    }
    Ok(match tensor.dtype() {
        DType::F32 => numbers!(Float32Type, f32),
        DType::F64 => numbers!(Float64Type, f64),
        DType::F16 => halves!(f16),
        DType::BF16 => halves!(bf16),
        DType::I8 => numbers!(Int8Type, i8),
        DType::I16 => numbers!(Int16Type, i16),
        DType::I32 => numbers!(Int32Type, i32),
        DType::I64 => numbers!(Int64Type, i64),
        DType::U8 => numbers!(UInt8Type, u8),
        DType::U16 => numbers!(UInt16Type, u16),
        DType::U32 => numbers!(UInt32Type, u32),
        DType::U64 => numbers!(UInt64Type, u64),
        DType::Bool => {
            let values = tensor.as_slice::<u8>()?.iter().map(|&value| Some(value != 0));
            Arc::new(values.collect::<BooleanArray>())
        }
        DType::String => Arc::new(StringArray::from_iter_values(tensor.strings()?)),
        _ => Arc::new(BinaryArray::from_iter_values(tensor.blobs()?.iter().map(|blob| &**blob))),
    })
}
