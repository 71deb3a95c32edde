//! Rows of text as chunks of columns. What text is worth is decided where it is mapped to inputs,
//! so that one bad cell costs one row.

use std::sync::Arc;

use anyhow::Result;
use arrow_array::builder::{Float64Builder, ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, Schema};
use serde_json::Number;

use super::quarantine::RowData;
use super::source::{BadRow, CHUNK_ROWS, Chunk, ListColumn, Place, Source};

/// Bytes that one row may have.
pub(super) const MAX_ROW_BYTES: u64 = 64 << 20;

/// Bytes of rows after which a chunk is closed, so that chunks of long rows have few of them.
const CHUNK_BYTES: u64 = 16 << 20;

/// One row as it was found.
pub(super) struct Row {
    /// Its cells, in the order of the columns that are wanted; or what is wrong with it.
    pub(super) cells: Result<Vec<Cell>, String>,
    /// What it holds; `None` if its cells tell that.
    pub(super) data: Option<RowData>,
    /// How many bytes it has in the file.
    pub(super) bytes: u64,
}

/// One cell.
pub(super) enum Cell {
    Null,
    Text(String),
    List(Vec<Option<Number>>),
}

/// Groups rows into chunks.
pub(super) fn source(
    rows: impl Iterator<Item = Result<Row>> + 'static,
    wanted: &[String],
    lists: &[ListColumn],
) -> Result<Source> {
    let kind = |name: &String| match lists.iter().find(|list| list.name == *name) {
        None => Kind::Text,
        Some(list) if list.is_integer => Kind::Texts,
        Some(_) => Kind::Floats,
    };
    let columns: Vec<(String, Kind)> =
        wanted.iter().map(|name| (name.clone(), kind(name))).collect();
    let schema = Builder::new(&columns).finish()?.batch.schema();
    Ok(Source { chunks: chunks(rows, columns), rows: None, schema })
}

fn chunks(
    mut rows: impl Iterator<Item = Result<Row>> + 'static,
    columns: Vec<(String, Kind)>,
) -> Box<dyn Iterator<Item = Result<Chunk>>> {
    let mut next = 0;
    Box::new(std::iter::from_fn(move || {
        let mut chunk = Builder::new(&columns);
        let (end, mut bytes) = (next + CHUNK_ROWS as u64, 0);
        while next < end && bytes < CHUNK_BYTES {
            match rows.next() {
                Some(Ok(row)) => {
                    bytes += row.bytes;
                    chunk.push(row, next);
                }
                Some(Err(error)) => return Some(Err(error)),
                None => break,
            }
            next += 1;
        }
        (!chunk.rows.is_empty() || !chunk.bad.is_empty()).then(|| chunk.finish())
    }))
}

/// What a column holds.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    /// Lists of numbers.
    Floats,
    /// Lists of numbers as they are written.
    Texts,
}

enum Column {
    Text(StringBuilder),
    Floats(ListBuilder<Float64Builder>),
    Texts(ListBuilder<StringBuilder>),
}

impl Column {
    fn new(kind: Kind) -> Column {
        match kind {
            Kind::Text => Column::Text(StringBuilder::new()),
            Kind::Floats => Column::Floats(ListBuilder::new(Float64Builder::new())),
            Kind::Texts => Column::Texts(ListBuilder::new(StringBuilder::new())),
        }
    }

    fn fits(&self, cell: &Cell) -> bool {
        match cell {
            Cell::Null => true,
            Cell::Text(_) => matches!(self, Column::Text(_)),
            Cell::List(_) => !matches!(self, Column::Text(_)),
        }
    }

    /// Adds a cell that fits.
    fn push(&mut self, cell: Cell) {
        match (self, cell) {
            (Column::Text(column), Cell::Text(text)) => column.append_value(text),
            (Column::Text(column), _) => column.append_null(),
            (Column::Floats(column), Cell::List(values)) => {
                column.append_value(values.into_iter().map(|value| value?.as_f64()));
            }
            (Column::Floats(column), _) => column.append_null(),
            (Column::Texts(column), Cell::List(values)) => {
                let texts = values.into_iter().map(|value| value.map(|value| value.to_string()));
                column.append_value(texts);
            }
            (Column::Texts(column), _) => column.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Column::Text(column) => Arc::new(column.finish()),
            Column::Floats(column) => Arc::new(column.finish()),
            Column::Texts(column) => Arc::new(column.finish()),
        }
    }
}

/// A chunk in the making.
struct Builder<'a> {
    names: &'a [(String, Kind)],
    columns: Vec<Column>,
    rows: Vec<Place>,
    bad: Vec<BadRow>,
}

impl Builder<'_> {
    fn new(names: &[(String, Kind)]) -> Builder<'_> {
        let columns = names.iter().map(|&(_, kind)| Column::new(kind)).collect();
        Builder { names, columns, rows: Vec::new(), bad: Vec::new() }
    }

    fn push(&mut self, row: Row, number: u64) {
        match row.cells.and_then(|cells| self.fitting(cells)) {
            Ok(cells) => {
                self.rows.push(Place { row: number, line: row.data });
                self.columns.iter_mut().zip(cells).for_each(|(column, cell)| column.push(cell));
            }
            Err(reason) => {
                let data = row.data.unwrap_or_else(|| RowData::text(b"", 0));
                self.bad.push(BadRow { row: number, reason, data });
            }
        }
    }

    fn fitting(&self, cells: Vec<Cell>) -> Result<Vec<Cell>, String> {
        let columns = self.columns.iter().zip(self.names);
        let misfit = columns.zip(&cells).find(|((column, _), cell)| !column.fits(cell));
        let Some(((column, (name, _)), _)) = misfit else { return Ok(cells) };
        Err(match column {
            Column::Text(_) => format!("column '{name}': expected one value, found a list"),
            _ => format!("column '{name}': expected a list, found one value"),
        })
    }

    fn finish(mut self) -> Result<Chunk> {
        let arrays: Vec<ArrayRef> = self.columns.iter_mut().map(Column::finish).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_long_rows_have_few_of_them() {
        let row = |_| Ok(Row { cells: Ok(vec![Cell::Null]), data: None, bytes: CHUNK_BYTES / 3 });
        let source = source((0..6).map(row), &["x".to_owned()], &[]).unwrap();
        let places = source.chunks.map(|chunk| chunk.unwrap().rows);
        let rows: Vec<Vec<u64>> =
            places.map(|places| places.iter().map(|place| place.row).collect()).collect();
        assert_eq!(rows, [vec![0, 1, 2, 3], vec![4, 5]]);
    }
}
