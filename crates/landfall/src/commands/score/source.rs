//! Files as chunks of rows.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_ipc::reader::FileReader;
use arrow_schema::{Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::quarantine::RowData;
use super::sink::Format;
use super::{csv_rows, json_rows};

/// Rows of one chunk; of Arrow files the writer decides.
pub(super) const CHUNK_ROWS: usize = 8192;

/// Consecutive rows of one file.
pub(super) struct Chunk {
    /// The rows that could be read.
    pub(super) batch: RecordBatch,
    /// Where each of them comes from.
    pub(super) rows: Vec<Place>,
    /// Those that could not.
    pub(super) bad: Vec<BadRow>,
}

/// Where a row comes from.
#[derive(Debug)]
pub(super) struct Place {
    /// Where it stands in its file, from 0.
    pub(super) row: u64,
    /// The text that it was, of files in which columns do not tell all of it.
    pub(super) line: Option<RowData>,
}

/// A column that holds a list a row.
#[derive(Debug, Clone)]
pub(super) struct ListColumn {
    /// Its name.
    pub(super) name: String,
    /// The shape of what a row holds, as one list or as lists of lists.
    pub(super) shape: Vec<usize>,
    /// Whether its numbers become integers, so that each of their digits counts.
    pub(super) is_integer: bool,
}

/// A row that cannot be scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadRow {
    /// Where it stands in its file, from 0.
    pub(super) row: u64,
    /// What is wrong with it.
    pub(super) reason: String,
    /// What it holds: a JSON object, or the text as it was found.
    pub(super) data: RowData,
}

/// An open file.
pub(super) struct Source {
    /// Its rows.
    pub(super) chunks: Box<dyn Iterator<Item = Result<Chunk>>>,
    /// How many there are, if the file says.
    pub(super) rows: Option<u64>,
    /// The columns of every chunk.
    pub(super) schema: SchemaRef,
}

/// Opens a file. `wanted` are the columns to read, `lists` those of them that hold lists.
pub(super) fn open(path: &Path, wanted: &[String], lists: &[ListColumn]) -> Result<Source> {
    let name = path.display().to_string();
    let file = || File::open(path).with_context(|| name.clone());
    let source = match Format::of(path)? {
        Format::Parquet => parquet(file()?, wanted),
        Format::Arrow => arrow(file()?, wanted),
        Format::Csv => csv_rows::open(buffered(file()?), wanted),
        Format::Jsonl => json_rows::open(buffered(file()?), wanted, lists),
    };
    let source = source.with_context(|| name.clone())?;
    let located = source.chunks.map(move |chunk| chunk.with_context(|| name.clone()));
    Ok(Source { chunks: Box::new(located), ..source })
}

fn buffered(file: File) -> BufReader<File> {
    BufReader::with_capacity(64 << 10, file)
}

fn parquet(file: File, wanted: &[String]) -> Result<Source> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let indices = find(builder.schema(), wanted)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), indices);
    let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).ok();
    let reader = builder.with_projection(mask).with_batch_size(CHUNK_ROWS).build()?;
    let schema = reader.schema();
    Ok(Source { chunks: numbered(reader.map(|batch| Ok(batch?))), rows, schema })
}

fn arrow(file: File, wanted: &[String]) -> Result<Source> {
    let reader = FileReader::try_new(BufReader::new(file), None)?;
    let indices = find(&reader.schema(), wanted)?;
    let schema = Arc::new(reader.schema().project(&indices)?);
    let batches = reader.map(move |batch| Ok(batch?.project(&indices)?));
    Ok(Source { chunks: numbered(batches), rows: None, schema })
}

fn numbered(
    batches: impl Iterator<Item = Result<RecordBatch>> + 'static,
) -> Box<dyn Iterator<Item = Result<Chunk>>> {
    let mut next = 0;
    Box::new(batches.map(move |batch| {
        let batch = batch?;
        let rows = next..next + batch.num_rows() as u64;
        next = rows.end;
        let rows = rows.map(|row| Place { row, line: None }).collect();
        Ok(Chunk { batch, rows, bad: Vec::new() })
    }))
}

/// Positions of the columns, or which are missing.
pub(super) fn find(schema: &Arc<Schema>, wanted: &[String]) -> Result<Vec<usize>> {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut indices = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let found: Vec<usize> = (0..names.len()).filter(|&i| names[i] == wanted).collect();
        match found.as_slice() {
            [index] => indices.push(*index),
            [] if names.is_empty() => bail!("there is no column '{wanted}', nor any other"),
            [] => bail!("there is no column '{wanted}'; there are {}", names.join(", ")),
            several => bail!(
                "{} columns are named '{wanted}', so that it is open which of them is meant; give \
                 all but one of them another name",
                several.len()
            ),
        }
    }
    Ok(indices)
}
