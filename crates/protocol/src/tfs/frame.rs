//! Tables: MLflow's `dataframe_split` and `dataframe_records`, and CSV.
//!
//! A column is an input of the model. Where a model has one input and no column has its name, a row
//! of the table is a row of that input. Other columns are an error, like unknown inputs everywhere.
//!
//! Tables come from programs that know one kind of number: whole numbers may be written 1.0, and
//! `null` (in CSV nothing) is a missing value, which is NaN where the model takes floating point.

use landfall_graph::{DimSpec, Signature, TensorSpec};
use landfall_tensor::{DType, Shape, Tensor};

use super::request::{find, in_input};
use super::{Layout, PredictRequest};
use crate::DecodeError;
use crate::json::{Array, ArrayError, Decimal, Reader, write_string};

type Result<T> = std::result::Result<T, DecodeError>;
type Columns<'s> = Vec<(&'s TensorSpec, Array, usize)>;

const SPLIT: &str = "dataframe_split";
const RECORDS: &str = "dataframe_records";

/// Whether a JSON request holds a table.
pub fn is_frame(json: &[u8]) -> Result<bool> {
    let mut found = false;
    Reader::new(json)?.object(|r, key| {
        found |= matches!(key, SPLIT | RECORDS);
        r.skip()
    })?;
    Ok(found)
}

/// Decodes a table for a model of that signature.
pub fn decode_frame(json: &[u8], signature: &Signature) -> Result<PredictRequest> {
    let mut columns: Columns<'_> = Vec::new();
    let (mut rows, mut tables) = (0, 0);
    let mut reader = Reader::new(json)?;
    reader.object(|r, key| {
        tables += usize::from(matches!(key, SPLIT | RECORDS));
        match key {
            SPLIT => rows = read_split(r, signature, &mut columns)?,
            RECORDS => rows = read_records(r, json, signature, &mut columns)?,
            _ => r.skip()?,
        }
        Ok(())
    })?;
    reader.end()?;
    if tables != 1 || rows == 0 {
        let message = format!("expected one of '{SPLIT}' and '{RECORDS}', with at least one row");
        return Err(DecodeError::request(message));
    }
    let mut inputs = Vec::with_capacity(columns.len());
    for (spec, array, count) in columns {
        if count != rows {
            let problem = format!("is in {count} rows of {rows}; expected in all");
            return Err(DecodeError::input(&spec.name, problem));
        }
        let tensor = array.with_rows(rows).map_err(|e| in_input(spec, e))?;
        inputs.push((spec.name.clone(), as_column(tensor, spec)));
    }
    Ok(PredictRequest { layout: Layout::Row, inputs })
}

/// A column of scalars, for an input that wants rows of one.
fn as_column(tensor: Tensor, spec: &TensorSpec) -> Tensor {
    let is_column = matches!(spec.dims.as_deref(), Some([_, DimSpec::Known(1)]));
    match *tensor.shape().to_vec() {
        [rows] if is_column => tensor.reshaped(Shape::from([rows, 1])).unwrap_or(tensor),
        _ => tensor,
    }
}

/// The number of rows.
fn read_split<'s>(
    reader: &mut Reader<'_>,
    signature: &'s Signature,
    columns: &mut Columns<'s>,
) -> Result<usize> {
    // The names may come after the data.
    let mut names: Option<Vec<String>> = None;
    reader.clone().object(|r, key| match key {
        "columns" => {
            let names = names.insert(Vec::new());
            r.array(|r| {
                names.push(match r.peek() {
                    Some(b'"') => r.string()?.into_owned(),
                    _ => r.number()?.to_owned(),
                });
                Ok(())
            })
        }
        _ => r.skip(),
    })?;
    let whole = whole_row(names.as_deref().unwrap_or_default(), signature);
    if names.is_none() && whole.is_none() {
        return Err(DecodeError::request(format!("'{SPLIT}' has no 'columns'")));
    }
    let mut rows = 0;
    reader.object(|r, key| match key {
        "data" => r.array(|r| {
            match (whole, &names) {
                (Some(spec), names) => {
                    // What has another length than the first row is refused as ragged.
                    if let Some(names) = names.as_deref().filter(|_| rows == 0) {
                        check_length(length_of(r.clone())?, names.len(), rows)?;
                    }
                    push(r, spec, Part::Row(rows), columns)?;
                }
                (None, names) => {
                    let names = names.as_deref().unwrap_or_default();
                    read_row(r, names, signature, rows, columns)?;
                }
            }
            rows += 1;
            Ok(())
        }),
        _ => r.skip(),
    })?;
    Ok(rows)
}

/// How many values an array has.
fn length_of(mut reader: Reader<'_>) -> Result<usize> {
    let mut values = 0;
    reader.array(|r| {
        values += 1;
        r.skip()
    })?;
    Ok(values)
}

/// A row has as many values as there are columns.
fn check_length(values: usize, columns: usize, row: usize) -> Result<()> {
    if values == columns {
        return Ok(());
    }
    let message = format!("row {row} of '{SPLIT}' has {values} values for {columns} columns");
    Err(DecodeError::request(message))
}

fn read_row<'s>(
    reader: &mut Reader<'_>,
    names: &[String],
    signature: &'s Signature,
    row: usize,
    columns: &mut Columns<'s>,
) -> Result<()> {
    let mut values = 0;
    reader.array(|r| {
        values += 1;
        match names.get(values - 1) {
            Some(name) => push(r, find(name, signature)?, Part::Value(row), columns),
            None => r.skip(),
        }
    })?;
    check_length(values, names.len(), row)
}

/// The number of rows.
fn read_records<'s>(
    reader: &mut Reader<'_>,
    json: &[u8],
    signature: &'s Signature,
    columns: &mut Columns<'s>,
) -> Result<usize> {
    let mut names: Vec<String> = Vec::new();
    let (mut rows, mut whole) = (0, None);
    reader.array(|r| {
        if rows == 0 {
            r.clone().object(|r, name| {
                names.push(name.to_owned());
                r.skip()
            })?;
            whole = whole_row(&names, signature);
        }
        match whole {
            Some(spec) => {
                let values = record_values(r, json, &names, rows)?;
                push(&mut Reader::new(&values)?, spec, Part::Row(rows), columns)?;
            }
            None => {
                r.object(|r, name| push(r, find(name, signature)?, Part::Value(rows), columns))?
            }
        }
        rows += 1;
        Ok(())
    })?;
    Ok(rows)
}

/// The values of one record as a JSON array in the order of `names`, the keys of the first.
fn record_values(
    reader: &mut Reader<'_>,
    json: &[u8],
    names: &[String],
    row: usize,
) -> Result<Vec<u8>> {
    let fail = |problem: String| {
        DecodeError::request(format!("row {row} of '{RECORDS}' has {problem}, unlike the first"))
    };
    let mut values: Vec<&[u8]> = vec![b""; names.len()];
    let mut next = 0;
    reader.object(|r, name| {
        // Mostly the order is that of the first.
        let at = match names.get(next).is_some_and(|expected| expected == name) {
            true => Some(next),
            false => names.iter().position(|known| known == name),
        };
        let at = at.ok_or_else(|| fail(format!("a column '{name}'")))?;
        next = at + 1;
        let begin = r.offset();
        r.skip()?;
        values[at] = &json[begin..r.offset()];
        Ok(())
    })?;
    if let Some(at) = values.iter().position(|value| value.is_empty()) {
        return Err(fail(format!("no column '{}'", names[at])));
    }
    Ok([b"[", values.join(&b","[..]).as_slice(), b"]"].concat())
}

/// What is read for an input.
#[derive(Clone, Copy)]
enum Part {
    /// The value of a row in the column of the input's name.
    Value(usize),
    /// A whole row.
    Row(usize),
}

/// Reads a part of the input `spec`.
fn push<'s>(
    reader: &mut Reader<'_>,
    spec: &'s TensorSpec,
    part: Part,
    columns: &mut Columns<'s>,
) -> Result<()> {
    let fail = |error: ArrayError| part.error(spec, &error);
    let at = match columns.iter().position(|(found, ..)| found.name == spec.name) {
        Some(at) => at,
        None => {
            columns.push((spec, Array::of_table(spec.dtype).map_err(fail)?, 0));
            columns.len() - 1
        }
    };
    let (_, array, rows) = &mut columns[at];
    *rows += 1;
    array.read(reader).map_err(fail)
}

impl Part {
    /// An error with its place. A byte of the text helps nobody to find a cell of a table, least of
    /// all of one that was CSV.
    fn error(self, spec: &TensorSpec, error: &ArrayError) -> DecodeError {
        let place = match self {
            Part::Value(row) => format!("column '{}' row {row}", spec.name),
            Part::Row(row) => format!("row {row}"),
        };
        DecodeError::request(match (error, self) {
            (ArrayError::Missing(_), Part::Value(_)) => format!("{place} {error}"),
            (ArrayError::Missing(_), Part::Row(_)) => format!("a value of {place} {error}"),
            (ArrayError::Text(DecodeError::Json { problem, .. }), _) => {
                format!("{place}: {problem}")
            }
            _ => format!("{place}: {error}"),
        })
    }
}

/// The input that a whole row is for, if columns have names of their own.
fn whole_row<'s>(names: &[String], signature: &'s Signature) -> Option<&'s TensorSpec> {
    let [spec] = signature.inputs.as_slice() else { return None };
    (!names.contains(&spec.name)).then_some(spec)
}

/// A CSV file with a line of column names as the JSON of a table, with text in quotes where the
/// model takes text.
pub fn csv_to_frame(file: &[u8], signature: &Signature) -> Result<Vec<u8>> {
    let broken = |e: csv::Error| DecodeError::request(format!("the CSV cannot be read: {e}"));
    let mut reader = csv::Reader::from_reader(file);
    let names: Vec<String> =
        reader.headers().map_err(broken)?.iter().map(|name| name.trim().to_owned()).collect();
    if names.iter().all(String::is_empty) {
        let message = "the CSV is empty; expected a line of column names and one for every row";
        return Err(DecodeError::request(message));
    }
    let whole = whole_row(&names, signature);
    let specs = names.iter().map(|name| match whole {
        Some(spec) => Ok(spec),
        None => find(name, signature),
    });
    let specs = specs.collect::<Result<Vec<_>>>()?;
    let mut json = format!("{{\"{SPLIT}\":{{\"columns\":[").into_bytes();
    for (index, name) in names.iter().enumerate() {
        json.extend_from_slice(if index > 0 { b"," } else { b"" });
        write_string(&mut json, name);
    }
    json.extend_from_slice(b"],\"data\":[");
    let mut rows = 0;
    for (row, record) in reader.records().enumerate() {
        rows += 1;
        json.extend_from_slice(if row > 0 { b",[" } else { b"[" });
        for (index, (value, spec)) in record.map_err(broken)?.iter().zip(&specs).enumerate() {
            json.extend_from_slice(if index > 0 { b"," } else { b"" });
            write_value(&mut json, value, spec).map_err(|problem| {
                let message = format!("column '{}' row {row}{problem}", names[index]);
                DecodeError::request(message)
            })?;
        }
        json.push(b']');
    }
    if rows == 0 {
        let message = "the CSV has a line of column names and no rows; expected one line for each";
        return Err(DecodeError::request(message));
    }
    json.extend_from_slice(b"]}}");
    Ok(json)
}

/// The error goes on from the place of the value.
fn write_value(
    json: &mut Vec<u8>,
    value: &str,
    spec: &TensorSpec,
) -> std::result::Result<(), String> {
    if spec.dtype == DType::String {
        write_string(json, value);
        return Ok(());
    }
    let value = value.trim();
    let expected = |what: &str| Err(format!(": expected {what}, found '{value}'"));
    match spec.dtype {
        DType::Bytes => return Err(": files cannot be sent as CSV".to_owned()),
        dtype if value.is_empty() && !dtype.is_float() => {
            return Err(format!(" is empty, and {} has no missing value", dtype.protocol_name()));
        }
        DType::Bool => match value.to_ascii_lowercase().as_str() {
            "true" | "1" => json.extend_from_slice(b"true"),
            "false" | "0" => json.extend_from_slice(b"false"),
            _ => return expected("true or false"),
        },
        dtype if dtype.is_float() => match value {
            "" => json.extend_from_slice(b"NaN"),
            _ => match value.parse::<f64>() {
                Ok(number) if number.is_nan() => json.extend_from_slice(b"NaN"),
                // A number too large is not one that somebody called infinite.
                Ok(number)
                    if number.is_infinite() && value.contains(|c: char| c.is_ascii_digit()) =>
                {
                    return expected("a number in the range of FP64");
                }
                Ok(number) if number.is_infinite() => {
                    json.extend_from_slice(if number > 0.0 { b"Infinity" } else { b"-Infinity" });
                }
                Ok(number) => json.extend_from_slice(format!("{number:?}").as_bytes()),
                Err(_) => return expected("a number"),
            },
        },
        _ => match Decimal::read(value) {
            Some(Decimal::Whole(number)) => json.extend_from_slice(number.to_string().as_bytes()),
            _ => return expected("an integer"),
        },
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: DType, dims: &[usize]) -> TensorSpec {
        let batch = std::iter::once(DimSpec::Symbol("N".into()));
        let dims = batch.chain(dims.iter().map(|&dim| DimSpec::Known(dim))).collect();
        TensorSpec { name: name.into(), dtype, dims: Some(dims) }
    }

    fn table() -> Signature {
        let inputs = vec![
            spec("carrier", DType::String, &[1]),
            spec("seats", DType::F32, &[]),
            spec("late", DType::Bool, &[]),
        ];
        Signature { inputs, outputs: vec![] }
    }

    fn matrix() -> Signature {
        Signature { inputs: vec![spec("x", DType::F32, &[2])], outputs: vec![] }
    }

    #[test]
    fn the_forms_of_a_table_say_the_same() {
        let split = br#"{"dataframe_split":{"index":[0,1],
            "data":[["UA",150,true],["A\"A",2.5,false]],"columns":["carrier","seats","late"]}}"#;
        let records = br#"{"dataframe_records":[{"carrier":"UA","seats":150,"late":true},
            {"late":false,"seats":2.5,"carrier":"A\"A"}]}"#;
        let csv = b"carrier,late,seats\nUA,true,150\n\"A\"\"A\",0,2.5\n";
        let csv = csv_to_frame(csv, &table()).unwrap();
        for json in [&split[..], records, &csv] {
            assert!(is_frame(json).unwrap());
            let inputs = decode_frame(json, &table()).unwrap().inputs;
            let get = |name: &str| &inputs.iter().find(|(input, _)| input == name).unwrap().1;
            assert_eq!(get("carrier").shape().to_vec(), [2, 1]);
            assert_eq!(get("carrier").strings().unwrap(), ["UA", "A\"A"]);
            assert_eq!(get("seats").as_slice::<f32>().unwrap(), &[150.0, 2.5]);
            assert_eq!(get("late").shape().to_vec(), [2]);
        }
        assert!(!is_frame(br#"{"instances":[]}"#).unwrap());
    }

    #[test]
    fn a_row_is_for_the_one_input_if_no_column_has_its_name() {
        let csv = csv_to_frame(b"a,b\n1,\n-1e3,Inf\n", &matrix()).unwrap();
        let inputs = decode_frame(&csv, &matrix()).unwrap().inputs;
        assert_eq!(inputs[0].1.shape().to_vec(), [2, 2]);
        let values = inputs[0].1.as_slice::<f32>().unwrap();
        assert!(values[1].is_nan());
        assert_eq!((values[0], values[2], values[3]), (1.0, -1000.0, f32::INFINITY));
    }

    #[test]
    fn wrong_tables_say_what_is_wrong() {
        let cases: [(&[u8], &str); 8] = [
            (b"carrier,wings\nUA,2\n", "unknown input 'wings'"),
            (b"seats\nmany\n", "column 'seats' row 0: expected a number, found 'many'"),
            (b"seats,late\n1\n", "the CSV cannot be read"),
            (b"late\nmaybe\n", "expected true or false"),
            (b"late,seats\n1,2\n,2\n", "column 'late' row 1 is empty, and BOOL has no missing"),
            (b"", "the CSV is empty; expected a line of column names"),
            (b"\n", "the CSV is empty; expected a line of column names"),
            (b"seats,late\n", "a line of column names and no rows"),
        ];
        for (file, expected) in cases {
            let found = csv_to_frame(file, &table()).unwrap_err().to_string();
            assert!(found.contains(expected), "{found}");
        }
        let cases = [
            (
                r#"{"dataframe_split":{"columns":["seats"],"data":[[1],[1,2]]}}"#,
                "row 1 of 'dataframe_split' has 2 values for 1 columns",
            ),
            (r#"{"dataframe_split":{"columns":["seats","late"],"data":[[1]]}}"#, "has 1 values"),
            (
                r#"{"dataframe_records":[{"seats":1,"late":true},{"seats":2,"late":null}]}"#,
                "column 'late' row 1 is null, and BOOL has no missing value",
            ),
            (
                r#"{"dataframe_records":[{"seats":"x"}]}"#,
                "column 'seats' row 0: expected a number, found the string \"x\"",
            ),
            (
                r#"{"dataframe_split":{"data":[["UA",1,true]]}}"#,
                "'dataframe_split' has no 'columns'",
            ),
            (r#"{"dataframe_records":[]}"#, "at least one row"),
            (r#"{"dataframe_records":[{"seats":1},{"late":true}]}"#, "in 1 rows of 2"),
        ];
        for (json, expected) in cases {
            let found = decode_frame(json.as_bytes(), &table()).unwrap_err().to_string();
            assert!(found.contains(expected), "{json}: {found}");
        }
    }

    fn table_of(dtype: DType) -> Signature {
        Signature { inputs: vec![spec("a", dtype, &[]), spec("b", dtype, &[])], outputs: vec![] }
    }

    #[test]
    fn missing_values_are_nan() {
        let split = br#"{"dataframe_split":{"columns":["a","b"],"data":[[1,null],[null,2]]}}"#;
        let records = br#"{"dataframe_records":[{"a":1,"b":null},{"a":null,"b":2}]}"#;
        let csv = csv_to_frame(b"a,b\n1,\n,2\n", &table_of(DType::F32)).unwrap();
        for json in [&split[..], records, &csv] {
            let inputs = decode_frame(json, &table_of(DType::F32)).unwrap().inputs;
            let (a, b) = (&inputs[0].1, &inputs[1].1);
            assert_eq!(a.as_slice::<f32>().unwrap()[0], 1.0);
            assert!(a.as_slice::<f32>().unwrap()[1].is_nan());
            assert!(b.as_slice::<f32>().unwrap()[0].is_nan());
        }
        for json in [&split[..], records] {
            let found = decode_frame(json, &table_of(DType::I64)).unwrap_err().to_string();
            assert_eq!(found, "column 'b' row 0 is null, and INT64 has no missing value");
        }
    }

    #[test]
    fn whole_numbers_are_integers() {
        let split = br#"{"dataframe_split":{"columns":["a","b"],"data":[[1.0,1e3]]}}"#;
        let csv = csv_to_frame(b"a,b\n1.0,1e3\n", &table_of(DType::I64)).unwrap();
        for json in [&split[..], &csv] {
            let inputs = decode_frame(json, &table_of(DType::I64)).unwrap().inputs;
            assert_eq!(inputs[0].1.item::<i64>().unwrap(), 1);
            assert_eq!(inputs[1].1.item::<i64>().unwrap(), 1000);
        }
        let split = br#"{"dataframe_split":{"columns":["a","b"],"data":[[1,1.5]]}}"#;
        let found = decode_frame(split, &table_of(DType::I64)).unwrap_err().to_string();
        let expected = "column 'b' row 0: expected an integer in the range of i64, found 1.5";
        assert_eq!(found, expected);
        let found = csv_to_frame(b"a,b\n1,1.5\n", &table_of(DType::I64)).unwrap_err().to_string();
        assert_eq!(found, "column 'b' row 0: expected an integer, found '1.5'");
    }

    #[test]
    fn numbers_too_large_are_not_infinite() {
        let table = |dtype| csv_to_frame(b"a,b\n1,1e999\n", &table_of(dtype));
        let found = table(DType::F32).unwrap_err().to_string();
        assert_eq!(
            found,
            "column 'b' row 0: expected a number in the range of FP64, found '1e999'"
        );
        let csv = csv_to_frame(b"a,b\n-inf,1e39\n", &table_of(DType::F32)).unwrap();
        let found = decode_frame(&csv, &table_of(DType::F32)).unwrap_err().to_string();
        assert!(found.starts_with("column 'b' row 0: 1e39 is out of the range of f32"), "{found}");
        let csv = csv_to_frame(b"a,b\n-inf,Infinity\n", &table_of(DType::F64)).unwrap();
        let inputs = decode_frame(&csv, &table_of(DType::F64)).unwrap().inputs;
        assert_eq!(inputs[0].1.item::<f64>().unwrap(), f64::NEG_INFINITY);
        assert_eq!(inputs[1].1.item::<f64>().unwrap(), f64::INFINITY);
    }

    #[test]
    fn records_are_rows_of_the_one_input_as_in_a_split() {
        let json = br#"{"dataframe_records":[{"a":1,"b":null},{"b":4,"a":3}]}"#;
        let inputs = decode_frame(json, &matrix()).unwrap().inputs;
        assert_eq!(inputs[0].1.shape().to_vec(), [2, 2]);
        let values = inputs[0].1.as_slice::<f32>().unwrap();
        assert_eq!((values[0], values[2], values[3]), (1.0, 3.0, 4.0));
        assert!(values[1].is_nan());
        assert!(decode_frame(br#"{"dataframe_split":{"data":[[1,2]]}}"#, &matrix()).is_ok());
        let cases = [
            (
                r#"{"dataframe_records":[{"a":1,"b":2},{"a":3}]}"#,
                "row 1 of 'dataframe_records' has no column 'b', unlike the first",
            ),
            (r#"{"dataframe_records":[{"a":1,"b":2},{"a":3,"c":4}]}"#, "has a column 'c', unlike"),
            (r#"{"dataframe_records":[{"a":1,"b":"x"}]}"#, "row 0: expected a number"),
            (
                r#"{"dataframe_split":{"columns":["a","b"],"data":[[1,2,3]]}}"#,
                "row 0 of 'dataframe_split' has 3 values for 2 columns",
            ),
            (r#"{"dataframe_split":{"columns":["a","b"],"data":[1]}}"#, "expected an array"),
        ];
        for (json, expected) in cases {
            let found = decode_frame(json.as_bytes(), &matrix()).unwrap_err().to_string();
            assert!(found.contains(expected), "{json}: {found}");
        }
    }
}
