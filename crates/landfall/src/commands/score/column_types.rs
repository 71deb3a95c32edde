//! Which types of columns an input takes. Checked once a file, before any of its rows is read: a
//! conversion that is possible but not meant, of dates to integers say, would be silent.

use anyhow::{Result, bail, ensure};
use arrow_schema::DataType;
use landfall_tensor::DType;

/// What an input takes from each row of a column.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expected<'a> {
    /// One value.
    Value,
    /// Values of this shape, as a list or as lists of lists.
    List(&'a [usize]),
}

/// Fails unless the values of `column` can become elements of `input`.
pub(super) fn check(
    column: &str,
    found: &DataType,
    input: &str,
    dtype: DType,
    expected: Expected<'_>,
) -> Result<()> {
    let wanted = dtype.protocol_name();
    let (element, depth) = nesting(found);
    let found = if found.is_string() { "text".to_owned() } else { found.to_string() };
    let shape = match expected {
        Expected::Value => &[],
        Expected::List(shape) => shape,
    };
    let is_number = !matches!(dtype, DType::Bool | DType::String | DType::Bytes);
    ensure!(
        is_number || shape.is_empty(),
        "input '{input}' takes several values of type {wanted} a row, which no column can give; \
         name one column for each of them with --columns"
    );
    let is_nested = depth == shape.len() || (depth == 1 && !shape.is_empty());
    let hint = match depth {
        0 => ". Name one column for each of them with --columns",
        _ => "",
    };
    ensure!(
        is_nested || element.is_null(),
        "column '{column}' is of type {found}; input '{input}' takes {} of type {wanted} a \
         row{hint}",
        described(shape),
    );
    if fits(dtype, element) {
        return Ok(());
    }
    let values = match dtype {
        DType::String => "text",
        DType::Bytes => "bytes",
        _ => "numbers",
    };
    if element.is_temporal() {
        bail!(
            "column '{column}' is of type {found}, and what number stands for a time depends on \
             the unit; input '{input}' takes {values} of type {wanted}. Write a column of the \
             numbers that the model was trained on, such as seconds since 1970"
        );
    }
    bail!(
        "column '{column}' is of type {found}; input '{input}' takes {values} of type {wanted}. \
         Write the column as {values}"
    );
}

/// Elements of lists of lists, and how many levels there are.
fn nesting(found: &DataType) -> (&DataType, usize) {
    match found {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            let (element, depth) = nesting(field.data_type());
            (element, depth + 1)
        }
        DataType::Dictionary(_, element) => (element, 0),
        element => (element, 0),
    }
}

fn fits(dtype: DType, found: &DataType) -> bool {
    let is_text = found.is_string();
    let is_binary = matches!(
        found,
        DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_)
    );
    let is_bool = matches!(found, DataType::Boolean);
    let is_number = found.is_integer() || found.is_floating() || found.is_decimal();
    found.is_null()
        || match dtype {
            DType::Bytes => is_text || is_binary,
            DType::String => is_text || is_binary || is_number || found.is_temporal() || is_bool,
            DType::Bool => is_text || is_bool || (is_number && !found.is_decimal()),
            _ => is_text || is_number || is_bool,
        }
}

/// `12 values as a list or as lists of shape [3,4]` and its like.
pub(super) fn described(shape: &[usize]) -> String {
    let count: usize = shape.iter().product();
    match shape {
        [] => "one value".to_owned(),
        [_] => format!("a list of {count} values"),
        _ => {
            let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
            format!("a list of {count} values or lists of shape [{}]", shape.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::{Field, TimeUnit};

    use super::*;

    fn list(of: DataType) -> DataType {
        DataType::List(Arc::new(Field::new_list_field(of, true)))
    }

    #[test]
    fn times_are_no_numbers_and_the_error_says_what_to_do() {
        let times = [
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Date32,
            DataType::Duration(TimeUnit::Second),
        ];
        for time in times {
            for dtype in [DType::I64, DType::F32, DType::Bool] {
                let error = check("t", &time, "x", dtype, Expected::Value).unwrap_err().to_string();
                let found = format!("column 't' is of type {time}, and what number");
                assert!(error.starts_with(&found), "{error}");
                assert!(error.contains("Write a column of the numbers"), "{error}");
            }
            check("t", &time, "x", DType::String, Expected::Value).unwrap();
        }
    }

    #[test]
    fn types_that_hold_no_numbers_are_named_with_what_is_expected() {
        let error = |found: DataType, expected| {
            check("c", &found, "x", DType::I64, expected).unwrap_err().to_string()
        };
        let expected = "column 'c' is of type Binary; input 'x' takes numbers of type INT64. \
                        Write the column as numbers";
        assert_eq!(error(DataType::Binary, Expected::Value), expected);
        let lists = list(DataType::Int64);
        assert!(error(lists.clone(), Expected::Value).contains("takes one value of type INT64"));
        check("c", &lists, "x", DType::I64, Expected::List(&[2, 3])).unwrap();
        check("c", &list(lists.clone()), "x", DType::I64, Expected::List(&[2, 3])).unwrap();
        let deep = error(list(lists.clone()), Expected::List(&[6]));
        assert!(deep.contains("takes a list of 6 values of type INT64"), "{deep}");
        let text = error(DataType::Utf8, Expected::List(&[6]));
        assert!(text.starts_with("column 'c' is of type text; input 'x' takes a list"), "{text}");
        assert!(text.ends_with("Name one column for each of them with --columns"), "{text}");
    }
}
