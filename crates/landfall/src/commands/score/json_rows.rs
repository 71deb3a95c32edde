//! JSON lines as rows of text. What is absent is null.

use std::io::{self, BufRead, Read};

use anyhow::Result;
use serde_json::{Map, Value};

use super::column_types::described;
use super::quarantine::RowData;
use super::source::{ListColumn, Source};
use super::text_rows::{self, Cell, MAX_ROW_BYTES, Row};

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
    text_rows::source(rows(input, columns, MAX_ROW_BYTES), wanted, lists)
}

/// Rows of those columns, each with the shape of its lists.
fn rows(
    mut input: impl BufRead,
    columns: Vec<(String, Vec<usize>)>,
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
                Ok(bytes) => {
                    let data = Some(RowData::json(line.trim_ascii()));
                    return Some(Ok(Row { cells: cells(&line, &columns), data, bytes }));
                }
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

fn cells(line: &[u8], columns: &[(String, Vec<usize>)]) -> Result<Vec<Cell>, String> {
    let object: Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| format!("not a JSON object: {error}"))?;
    let cells = columns.iter().map(|(name, shape)| {
        cell(object.get(name), shape).map_err(|problem| format!("column '{name}': {problem}"))
    });
    cells.collect()
}

fn cell(value: Option<&Value>, shape: &[usize]) -> Result<Cell, String> {
    Ok(match value {
        None | Some(Value::Null) => Cell::Null,
        Some(Value::Bool(value)) => Cell::Text(value.to_string()),
        Some(Value::Number(value)) => Cell::Text(value.to_string()),
        Some(Value::String(text)) => Cell::Text(text.clone()),
        Some(Value::Array(values)) => {
            let mut numbers = Vec::new();
            let flat = [values.len()];
            let is_nested = values.iter().any(Value::is_array);
            if !flatten(values, if is_nested { shape } else { &flat }, &mut numbers) {
                let expected = described(shape);
                return Err(format!("expected {expected}, with nothing but numbers in it"));
            }
            Cell::List(numbers)
        }
        Some(Value::Object(_)) => return Err("expected a value, found an object".to_owned()),
    })
}

/// Collects numbers and nulls, row-major. False if they are not of that shape.
fn flatten(
    values: &[Value],
    shape: &[usize],
    numbers: &mut Vec<Option<serde_json::Number>>,
) -> bool {
    let Some((&extent, rest)) = shape.split_first() else { return false };
    let mut take = |value: &Value| match value {
        Value::Array(inner) => flatten(inner, rest, numbers),
        Value::Number(number) if rest.is_empty() => {
            numbers.push(Some(number.clone()));
            true
        }
        Value::Null if rest.is_empty() => {
            numbers.push(None);
            true
        }
        _ => false,
    };
    values.len() == extent && values.iter().all(&mut take)
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn list(text: &str, shape: &[usize]) -> Result<String, String> {
        let cell = cell(Some(&serde_json::from_str(text).unwrap()), shape)?;
        let Cell::List(numbers) = cell else { panic!("{text} is no list") };
        let texts = numbers.iter().map(|n| n.as_ref().map_or("null".into(), ToString::to_string));
        Ok(texts.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn lists_are_flat_or_of_the_shape_of_a_row() {
        for text in ["[1,2,3,4,5,6]", "[[1,2,3],[4,5,6]]"] {
            assert_eq!(list(text, &[2, 3]).unwrap(), "1 2 3 4 5 6");
        }
        assert_eq!(list("[[1.5,null]]", &[1, 2]).unwrap(), "1.5 null");
        for text in ["[[1,2],[3,4],[5,6]]", "[[1,2,3],4,5,6]", "[[[1,2,3],[4,5,6]]]", "[\"1\"]"] {
            let expected = "expected a list of 6 values or lists of shape [2,3], with nothing but \
                            numbers in it";
            assert_eq!(list(text, &[2, 3]).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_costs_one_row_and_little_memory() {
        let text = format!("{{\"x\":1}}\n{{\"x\":\"{}\"}}\n{{\"x\":2}}\n", "y".repeat(200));
        let input = BufReader::with_capacity(7, text.as_bytes());
        let rows: Vec<Row> =
            rows(input, vec![("x".to_owned(), Vec::new())], 64).map(Result::unwrap).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(
            rows[1].cells.as_ref().err().unwrap(),
            "the line has 209 bytes; expected at most 64"
        );
        assert!(rows[0].cells.is_ok() && rows[2].cells.is_ok());
    }
}
