//! CSV with a heading line as rows of text. An empty cell is a null.

use std::io::BufRead;
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow_schema::{DataType, Field, Schema};

use super::csv_records::{Record, Records};
use super::source::{Source, find};
use super::text_rows::{self, Cell, Row};

/// Reads the heading line; the rows follow as they are asked for.
pub(super) fn open(input: impl BufRead + 'static, wanted: &[String]) -> Result<Source> {
    let mut records = Records::new(input);
    let Some(heading) = records.next()? else {
        bail!("the file is empty; expected a first line of column names");
    };
    let names = (0..heading.len()).map(|i| String::from_utf8_lossy(heading.cell(i)).into_owned());
    let fields: Vec<Field> = names.map(|name| Field::new(name, DataType::Utf8, true)).collect();
    let columns = fields.len();
    let indices = find(&Arc::new(Schema::new(fields)), wanted)?;
    let used: Vec<(usize, String)> = indices.into_iter().zip(wanted.to_vec()).collect();
    let rows = std::iter::from_fn(move || match records.next() {
        Ok(record) => record.map(|record| Ok(row(&record, columns, &used))),
        Err(error) => Some(Err(error)),
    });
    text_rows::source(rows, wanted, &[])
}

fn row(record: &Record<'_>, columns: usize, used: &[(usize, String)]) -> Row {
    let cells = cells(record, columns, used);
    let data = cells.is_err().then(|| record.data());
    Row { cells, data, bytes: record.bytes }
}

fn cells(
    record: &Record<'_>,
    columns: usize,
    used: &[(usize, String)],
) -> Result<Vec<Cell>, String> {
    let lines = || match record.lines {
        (first, last) if first == last => format!("line {first}"),
        (first, last) => format!("lines {first} to {last}"),
    };
    if record.is_cut {
        return Err(format!(
            "{}: a quotation mark is opened and never closed, so that all the rest of the file is \
             in one cell",
            lines()
        ));
    }
    if record.len() != columns {
        return Err(format!("{}: {} cells, expected {columns}", lines(), record.len()));
    }
    let cell = |(index, name): &(usize, String)| match record.cell(*index) {
        [] => Ok(Cell::Null),
        bytes => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Cell::Text(text.to_owned())),
            Err(error) => {
                let byte = bytes[error.valid_up_to()];
                Err(format!("column '{name}': the byte 0x{byte:02X} is not UTF-8 text"))
            }
        },
    };
    used.iter().map(cell).collect()
}
