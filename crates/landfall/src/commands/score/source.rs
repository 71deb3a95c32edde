//! Files as chunks of rows.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;

use super::quarantine::RowData;
use super::sink::Format;
use super::{content, csv_rows, json_rows};

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
    let source = known(path, wanted, lists).with_context(|| name.clone())?;
    let located = source.chunks.map(move |chunk| chunk.with_context(|| name.clone()));
    Ok(Source { chunks: Box::new(located), ..source })
}

fn known(path: &Path, wanted: &[String], lists: &[ListColumn]) -> Result<Source> {
    let format = Format::of(path)?;
    let mut file = BufReader::with_capacity(64 << 10, File::open(path)?);
    ensure!(!file.get_ref().metadata()?.is_dir(), "is a folder; expected a file");
    let head = file.fill_buf()?;
    let head = head[..head.len().min(content::HEAD_BYTES)].to_vec();
    content::check(format, &head)?;
    match format {
        Format::Csv => csv_rows::open(file, wanted),
        Format::Jsonl => json_rows::open(file, wanted, lists),
        Format::Arrow if content::is_arrow_stream(&head) => {
            arrow(StreamReader::try_new(file, None)?, wanted)
        }
        Format::Parquet | Format::Arrow => {
            file.rewind().context("expected a file, not a pipe")?;
            match format {
                Format::Parquet => parquet(file.into_inner(), wanted),
                _ => arrow(FileReader::try_new(file, None)?, wanted),
            }
        }
    }
}

fn parquet(file: File, wanted: &[String]) -> Result<Source> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let indices = find(builder.schema(), wanted)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), indices);
    for group in builder.metadata().row_groups() {
        let used = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
        used.map(|(_, column)| column).try_for_each(|column| {
            let name = column.column_path().parts().first().map_or("", String::as_str);
            readable(name, column.compression())
        })?;
    }
    let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).ok();
    let reader = builder.with_projection(mask).with_batch_size(CHUNK_ROWS).build()?;
    let schema = reader.schema();
    Ok(Source { chunks: numbered(reader.map(|batch| Ok(batch?))), rows, schema })
}

/// Fails if a column is compressed in a way that is not read.
fn readable(column: &str, compression: Compression) -> Result<()> {
    let codec = match compression {
        Compression::BROTLI(_) => "Brotli",
        Compression::LZO => "LZO",
        Compression::UNCOMPRESSED
        | Compression::SNAPPY
        | Compression::GZIP(_)
        | Compression::ZSTD(_)
        | Compression::LZ4
        | Compression::LZ4_RAW => return Ok(()),
    };
    bail!(
        "column '{column}' is compressed with {codec}, which is not read; write the file with \
         Snappy, gzip, Zstandard, LZ4 or no compression"
    );
}

fn arrow(reader: impl RecordBatchReader + 'static, wanted: &[String]) -> Result<Source> {
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

#[cfg(test)]
mod tests {
    use arrow_array::Float32Array;
    use arrow_ipc::writer::StreamWriter;
    use arrow_schema::{DataType, Field};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{BrotliLevel, GzipLevel};
    use parquet::file::properties::WriterProperties;

    use super::*;

    fn batch() -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Float32, true)]));
        let values = Arc::new(Float32Array::from(vec![1.5, 2.5]));
        RecordBatch::try_new(schema, vec![values]).unwrap()
    }

    /// The rows of a file that `write` makes.
    fn read(name: &str, write: impl FnOnce(File)) -> usize {
        let name = format!("landfall-source-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        write(File::create(&path).unwrap());
        let source = open(&path, &["x".to_owned()], &[]).unwrap();
        let rows = source.chunks.map(|chunk| chunk.unwrap().batch.num_rows()).sum();
        std::fs::remove_file(&path).unwrap();
        rows
    }

    #[test]
    fn parquet_with_gzip_is_read_and_a_codec_that_is_not_is_named() {
        let rows = read("gzip.parquet", |file| {
            let compression = Compression::GZIP(GzipLevel::default());
            let properties = WriterProperties::builder().set_compression(compression).build();
            let schema = batch().schema();
            let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).unwrap();
            writer.write(&batch()).unwrap();
            writer.close().unwrap();
        });
        assert_eq!(rows, 2);
        let error = readable("x", Compression::BROTLI(BrotliLevel::default())).unwrap_err();
        assert!(error.to_string().starts_with("column 'x' is compressed with Brotli"), "{error}");
    }

    #[test]
    fn arrow_streams_are_read() {
        let rows = read("stream.arrow", |file| {
            let mut writer = StreamWriter::try_new(file, &batch().schema()).unwrap();
            writer.write(&batch()).unwrap();
            writer.finish().unwrap();
        });
        assert_eq!(rows, 2);
    }
}
