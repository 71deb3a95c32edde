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

use super::sink::Format;
use super::text_rows;

/// Rows of one chunk; of Arrow files the writer decides.
pub(super) const CHUNK_ROWS: usize = 8192;

/// Consecutive rows of one file.
pub(super) struct Chunk {
    /// The rows that could be read.
    pub(super) batch: RecordBatch,
    /// Where each of them stands in its file, from 0.
    pub(super) rows: Vec<u64>,
    /// Those that could not.
    pub(super) bad: Vec<BadRow>,
}

/// A row that cannot be scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadRow {
    /// Where it stands in its file, from 0.
    pub(super) row: u64,
    /// What is wrong with it.
    pub(super) reason: String,
    /// What it holds: a JSON object, or the text as it was found.
    pub(super) data: String,
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
pub(super) fn open(path: &Path, wanted: &[String], lists: &[String]) -> Result<Source> {
    let name = path.display().to_string();
    let file = || File::open(path).with_context(|| name.clone());
    let source = match Format::of(path)? {
        Format::Parquet => parquet(file()?, wanted),
        Format::Arrow => arrow(file()?, wanted),
        Format::Csv => text_rows::csv(file()?, wanted),
        Format::Jsonl => text_rows::jsonl(file()?, wanted, lists),
    };
    let source = source.with_context(|| name.clone())?;
    let located = source.chunks.map(move |chunk| chunk.with_context(|| name.clone()));
    Ok(Source { chunks: Box::new(located), ..source })
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
        Ok(Chunk { batch, rows: rows.collect(), bad: Vec::new() })
    }))
}

/// Positions of the columns, or which are missing.
pub(super) fn find(schema: &Arc<Schema>, wanted: &[String]) -> Result<Vec<usize>> {
    let mut indices = Vec::with_capacity(wanted.len());
    for name in wanted {
        let Some((index, _)) = schema.column_with_name(name) else {
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            bail!("there is no column '{name}'; there are {}", names.join(", "));
        };
        indices.push(index);
    }
    Ok(indices)
}
