//! CSV and JSON lines as chunks of text columns. What text is worth is decided where it is mapped
//! to inputs, so that one bad cell costs one row.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use anyhow::Result;
use arrow_array::builder::{Float64Builder, ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use serde_json::{Map, Value};

use super::source::{BadRow, CHUNK_ROWS, Chunk, Source, find};

/// Bytes that one line of JSON may have.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// One row as it was found.
enum Row {
    Good(Vec<Cell>),
    Bad { reason: String, data: String },
}

/// One cell.
enum Cell {
    Null,
    Text(String),
    List(Vec<f64>),
}

/// Reads CSV with a heading line. An empty cell is a null.
pub(super) fn csv(file: File, wanted: &[String]) -> Result<Source> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(BufReader::new(file));
    let names: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
    let field = |name: &String| Field::new(name, DataType::Utf8, true);
    let indices =
        find(&Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>())), wanted)?;
    let rows = reader.into_records().map(move |record| {
        let record = record?;
        if record.len() != names.len() {
            let reason = format!("{} cells, expected {}", record.len(), names.len());
            let data = record.iter().collect::<Vec<_>>().join(",");
            return Ok(Row::Bad { reason, data });
        }
        let cell = |&index: &usize| match record.get(index) {
            None | Some("") => Cell::Null,
            Some(text) => Cell::Text(text.to_owned()),
        };
        Ok(Row::Good(indices.iter().map(cell).collect()))
    });
    Ok(Source { chunks: chunks(rows, wanted, &[]), rows: None, schema: empty(wanted, &[])? })
}

/// Reads one JSON object a line. What is absent is null.
pub(super) fn jsonl(file: File, wanted: &[String], lists: &[String]) -> Result<Source> {
    let mut lines = BufReader::new(file);
    let names = wanted.to_vec();
    let rows = std::iter::from_fn(move || {
        loop {
            let mut line = Vec::new();
            match lines.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(bytes) if bytes as u64 > MAX_LINE_BYTES => {
                    return Some(Err(anyhow::anyhow!("a line exceeds {MAX_LINE_BYTES} bytes")));
                }
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => return Some(Ok(object(&line, &names))),
                Err(error) => return Some(Err(error.into())),
            }
        }
    });
    Ok(Source { chunks: chunks(rows, wanted, lists), rows: None, schema: empty(wanted, lists)? })
}

fn object(line: &[u8], names: &[String]) -> Row {
    let bad = |reason: String| Row::Bad {
        reason,
        data: String::from_utf8_lossy(line.trim_ascii()).into_owned(),
    };
    let object: Map<String, Value> = match serde_json::from_slice(line) {
        Ok(object) => object,
        Err(error) => return bad(format!("not a JSON object: {error}")),
    };
    let cells = names.iter().map(|name| {
        cell(object.get(name)).map_err(|problem| format!("column '{name}': {problem}"))
    });
    match cells.collect() {
        Ok(cells) => Row::Good(cells),
        Err(reason) => bad(reason),
    }
}

fn cell(value: Option<&Value>) -> Result<Cell, String> {
    Ok(match value {
        None | Some(Value::Null) => Cell::Null,
        Some(Value::Bool(value)) => Cell::Text(value.to_string()),
        Some(Value::Number(value)) => Cell::Text(value.to_string()),
        Some(Value::String(text)) => Cell::Text(text.clone()),
        Some(Value::Array(values)) => {
            let numbers = values.iter().map(Value::as_f64).collect::<Option<_>>();
            Cell::List(numbers.ok_or("expected a list of numbers only")?)
        }
        Some(Value::Object(_)) => return Err("expected a value, found an object".to_owned()),
    })
}

/// The columns that chunks will have.
fn empty(wanted: &[String], lists: &[String]) -> Result<SchemaRef> {
    Ok(Builder::new(&columns(wanted, lists)).finish()?.batch.schema())
}

/// The columns to read, and whether each holds lists.
fn columns(wanted: &[String], lists: &[String]) -> Vec<(String, bool)> {
    wanted.iter().map(|name| (name.clone(), lists.contains(name))).collect()
}

/// Groups rows into chunks.
fn chunks(
    mut rows: impl Iterator<Item = Result<Row>> + 'static,
    wanted: &[String],
    lists: &[String],
) -> Box<dyn Iterator<Item = Result<Chunk>>> {
    let columns = columns(wanted, lists);
    let mut next = 0;
    Box::new(std::iter::from_fn(move || {
        let mut chunk = Builder::new(&columns);
        for row in rows.by_ref().take(CHUNK_ROWS) {
            match row {
                Ok(row) => chunk.push(row, next),
                Err(error) => return Some(Err(error)),
            }
            next += 1;
        }
        (!chunk.rows.is_empty() || !chunk.bad.is_empty()).then(|| chunk.finish())
    }))
}

enum Column {
    Text(StringBuilder),
    List(ListBuilder<Float64Builder>),
}

/// A chunk in the making.
struct Builder<'a> {
    names: &'a [(String, bool)],
    columns: Vec<Column>,
    rows: Vec<u64>,
    bad: Vec<BadRow>,
}

impl Builder<'_> {
    fn new(names: &[(String, bool)]) -> Builder<'_> {
        let column = |(_, is_list): &(String, bool)| match is_list {
            true => Column::List(ListBuilder::new(Float64Builder::new())),
            false => Column::Text(StringBuilder::new()),
        };
        let columns = names.iter().map(column).collect();
        Builder { names, columns, rows: Vec::new(), bad: Vec::new() }
    }

    fn push(&mut self, row: Row, number: u64) {
        let cells = match row {
            Row::Good(cells) => cells,
            Row::Bad { reason, data } => {
                return self.bad.push(BadRow { row: number, reason, data });
            }
        };
        let misfit = self.columns.iter().zip(&cells).zip(self.names).find(|((column, cell), _)| {
            matches!(
                (column, cell),
                (Column::Text(_), Cell::List(_)) | (Column::List(_), Cell::Text(_))
            )
        });
        if let Some(((column, _), (name, _))) = misfit {
            let expected = if matches!(column, Column::List(_)) { "a list" } else { "one value" };
            let reason = format!("column '{name}': expected {expected}");
            return self.bad.push(BadRow { row: number, reason, data: String::new() });
        }
        self.rows.push(number);
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            match (column, cell) {
                (Column::Text(column), Cell::Text(text)) => column.append_value(text),
                (Column::Text(column), _) => column.append_null(),
                (Column::List(column), Cell::List(values)) => {
                    column.append_value(values.into_iter().map(Some));
                }
                (Column::List(column), _) => column.append_null(),
            }
        }
    }

    fn finish(mut self) -> Result<Chunk> {
        let array = |column: &mut Column| -> ArrayRef {
            match column {
                Column::Text(column) => Arc::new(column.finish()),
                Column::List(column) => Arc::new(column.finish()),
            }
        };
        let arrays: Vec<ArrayRef> = self.columns.iter_mut().map(array).collect();
        let fields = self.names.iter().zip(&arrays);
        let fields =
            fields.map(|((name, _), array)| Field::new(name, array.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        // A chunk of no columns has rows all the same.
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options)?;
        Ok(Chunk { batch, rows: self.rows, bad: self.bad })
    }
}
