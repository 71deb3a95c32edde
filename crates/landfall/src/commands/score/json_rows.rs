//! JSON lines as rows of text. What is absent is null.

use std::io::{self, BufRead, Read};

use anyhow::Result;

use super::json_cells::Columns;
use super::quarantine::RowData;
use super::source::{ListColumn, Source};
use super::text_rows::{self, MAX_ROW_BYTES, Row};

/// Reads one JSON object a line.
pub(super) fn open(
    input: impl BufRead + 'static,
    wanted: &[String],
    lists: &[ListColumn],
) -> Result<Source> {
    let shape = |name: &String| {
        lists.iter().find(|list| list.name == *name).map_or(Vec::new(), |list| list.shape.clone())
    };
    let columns = wanted.iter().map(|name| (name.clone(), shape(name))).collect();
    let columns = Columns::new(columns);
    text_rows::source(rows(input, columns, MAX_ROW_BYTES), wanted, lists)
}

/// Rows of those columns.
fn rows(
    mut input: impl BufRead,
    columns: Columns,
    max_bytes: u64,
) -> impl Iterator<Item = Result<Row>> {
    let mut line = Vec::new();
    std::iter::from_fn(move || {
        loop {
            match read_line(&mut input, &mut line, max_bytes) {
                Ok(0) => return None,
                Ok(bytes) if bytes > max_bytes => {
                    let reason =
                        format!("the line has {bytes} bytes; expected at most {max_bytes}");
                    let data = Some(RowData::text(&line, bytes));
                    line = Vec::new();
                    return Some(Ok(Row { cells: Err(reason), data, bytes: max_bytes }));
                }
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(bytes) => return Some(Ok(row(&line, &columns, bytes))),
                Err(error) => return Some(Err(error.into())),
            }
        }
    })
}

/// How many bytes the next line has. Of one that is too long only the beginning is kept.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, max_bytes: u64) -> io::Result<u64> {
    line.clear();
    let mut bytes = input.by_ref().take(max_bytes + 1).read_until(b'\n', line)? as u64;
    if bytes <= max_bytes || line.ends_with(b"\n") {
        return Ok(bytes);
    }
    loop {
        let rest = input.fill_buf()?;
        let end = rest.iter().position(|&byte| byte == b'\n');
        let read = end.map_or(rest.len(), |end| end + 1);
        input.consume(read);
        bytes += read as u64;
        if end.is_some() || read == 0 {
            return Ok(bytes);
        }
    }
}

fn row(line: &[u8], columns: &Columns, bytes: u64) -> Row {
    let line = line.trim_ascii();
    let (cells, data) = match columns.read(line) {
        Ok(cells) => (cells, RowData::checked_json(line)),
        Err(error) => {
            // A line is all that the parser sees.
            let error = error.to_string().replace(" at line 1 column ", " at byte ");
            (Err(format!("not a JSON object: {error}")), RowData::json(line))
        }
    };
    Row { cells, data: Some(data), bytes }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn a_line_that_is_too_long_costs_one_row_and_little_memory() {
        let text = format!("{{\"x\":1}}\n{{\"x\":\"{}\"}}\n{{\"x\":2}}\n", "y".repeat(200));
        let input = BufReader::with_capacity(7, text.as_bytes());
        let rows: Vec<Row> = rows(input, Columns::new(vec![("x".to_owned(), Vec::new())]), 64)
            .map(Result::unwrap)
            .collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(
            rows[1].cells.as_ref().err().unwrap(),
            "the line has 209 bytes; expected at most 64"
        );
        assert!(rows[0].cells.is_ok() && rows[2].cells.is_ok());
    }
}
