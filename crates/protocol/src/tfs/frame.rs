//! Tables: MLflow's `dataframe_split` and `dataframe_records`, and CSV.
//!
//! A column is an input of the model. Where a model has one input and no column has its name, a row
//! of the table is a row of that input. Other columns are an error, like unknown inputs everywhere.

use landfall_graph::{DimSpec, Signature, TensorSpec};
use landfall_tensor::{DType, Shape, Tensor};

use super::request::{find, in_input, push_row};
use super::{Layout, PredictRequest};
use crate::DecodeError;
use crate::json::{Array, Reader, write_string};

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
            RECORDS => r.array(|r| {
                r.object(|r, name| push_row(r, find(name, signature)?, rows, &mut columns))?;
                rows += 1;
                Ok(())
            })?,
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
    let mut names: Vec<String> = Vec::new();
    reader.clone().object(|r, key| match key {
        "columns" => r.array(|r| {
            names.push(match r.peek() {
                Some(b'"') => r.string()?.into_owned(),
                _ => r.number()?.to_owned(),
            });
            Ok(())
        }),
        _ => r.skip(),
    })?;
    let whole = whole_row(&names, signature);
    let mut rows = 0;
    reader.object(|r, key| match key {
        "data" => r.array(|r| {
            match whole {
                Some(spec) => push_row(r, spec, rows, columns)?,
                None => read_row(r, &names, signature, rows, columns)?,
            }
            rows += 1;
            Ok(())
        }),
        _ => r.skip(),
    })?;
    Ok(rows)
}

fn read_row<'s>(
    reader: &mut Reader<'_>,
    names: &[String],
    signature: &'s Signature,
    row: usize,
    columns: &mut Columns<'s>,
) -> Result<()> {
    let mut at = 0;
    reader.array(|r| {
        let name = names.get(at).ok_or_else(|| {
            let count = names.len();
            DecodeError::request(format!("row {row} has more values than the {count} columns"))
        })?;
        at += 1;
        push_row(r, find(name, signature)?, row, columns)
    })?;
    if at < names.len() {
        let message = format!("row {row} has {at} values for {} columns", names.len());
        return Err(DecodeError::request(message));
    }
    Ok(())
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
    for (row, record) in reader.records().enumerate() {
        json.extend_from_slice(if row > 0 { b",[" } else { b"[" });
        for (index, (value, spec)) in record.map_err(broken)?.iter().zip(&specs).enumerate() {
            json.extend_from_slice(if index > 0 { b"," } else { b"" });
            write_value(&mut json, value, spec).map_err(|problem| {
                let message = format!("row {row}, column '{}': {problem}", names[index]);
                DecodeError::request(message)
            })?;
        }
        json.push(b']');
    }
    json.extend_from_slice(b"]}}");
    Ok(json)
}

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
    match spec.dtype {
        DType::Bytes => return Err("files cannot be sent as CSV".to_owned()),
        DType::Bool => match value.to_ascii_lowercase().as_str() {
            "true" | "1" => json.extend_from_slice(b"true"),
            "false" | "0" => json.extend_from_slice(b"false"),
            _ => return Err(format!("expected true or false, found '{value}'")),
        },
        dtype if dtype.is_float() => match value {
            "" => json.extend_from_slice(b"NaN"),
            _ => match value.parse::<f64>() {
                Ok(number) if number.is_nan() => json.extend_from_slice(b"NaN"),
                Ok(number) if number.is_infinite() => {
                    json.extend_from_slice(if number > 0.0 { b"Infinity" } else { b"-Infinity" });
                }
                Ok(number) => json.extend_from_slice(format!("{number:?}").as_bytes()),
                Err(_) => return Err(format!("expected a number, found '{value}'")),
            },
        },
        _ => match value.parse::<i128>() {
            Ok(number) => json.extend_from_slice(number.to_string().as_bytes()),
            Err(_) => return Err(format!("expected an integer, found '{value}'")),
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
        let cases: [(&[u8], &str); 4] = [
            (b"carrier,wings\nUA,2\n", "unknown input 'wings'"),
            (b"seats\nmany\n", "row 0, column 'seats': expected a number, found 'many'"),
            (b"seats,late\n1\n", "the CSV cannot be read"),
            (b"late\nmaybe\n", "expected true or false"),
        ];
        for (file, expected) in cases {
            let found = csv_to_frame(file, &table()).unwrap_err().to_string();
            assert!(found.contains(expected), "{found}");
        }
        let cases = [
            (r#"{"dataframe_split":{"columns":["seats"],"data":[[1,2]]}}"#, "more values"),
            (r#"{"dataframe_split":{"columns":["seats","late"],"data":[[1]]}}"#, "has 1 values"),
            (r#"{"dataframe_records":[]}"#, "at least one row"),
            (r#"{"dataframe_records":[{"seats":1},{"late":true}]}"#, "in 1 rows of 2"),
        ];
        for (json, expected) in cases {
            let found = decode_frame(json.as_bytes(), &table()).unwrap_err().to_string();
            assert!(found.contains(expected), "{json}: {found}");
        }
    }
}
