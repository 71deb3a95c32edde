//! Arrow columns as elements of tensors.

use arrow_array::cast::AsArray;
use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{Array, ArrayRef};
use arrow_cast::cast::{CastOptions, cast_with_options};
use arrow_cast::display::array_value_to_string;
use arrow_schema::{ArrowError, DataType, Field};
use landfall_tensor::Element;

/// Notes what is wrong with a row; the first reason stays.
pub(super) struct Problems(Vec<Option<String>>);

impl Problems {
    /// No row has any.
    pub(super) fn none(rows: usize) -> Problems {
        Problems(vec![None; rows])
    }

    /// Something is wrong with a row.
    pub(super) fn note(&mut self, row: usize, reason: impl FnOnce() -> String) {
        if let Some(problem @ None) = self.0.get_mut(row) {
            *problem = Some(reason());
        }
    }

    /// The reason of every row.
    pub(super) fn into_reasons(self) -> Vec<Option<String>> {
        self.0
    }
}

fn cast(array: &dyn Array, to: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, to, &CastOptions { safe: true, ..CastOptions::default() })
}

/// The value of a row as people read it.
pub(super) fn shown(array: &dyn Array, row: usize) -> String {
    array_value_to_string(array, row).unwrap_or_default().chars().take(40).collect()
}

/// One number for each row; `null` stands for nulls, where they may.
pub(super) fn numbers<A>(
    name: &str,
    array: &dyn Array,
    null: Option<A::Native>,
    problems: &mut Problems,
) -> Result<Vec<A::Native>, ArrowError>
where
    A: ArrowPrimitiveType,
    A::Native: Element,
{
    let found = cast(array, &A::DATA_TYPE)?;
    let found = found.as_primitive::<A>();
    if array.data_type().is_floating() && A::DATA_TYPE.is_integer() {
        let exact = cast(array, &DataType::Float64)?;
        let exact = exact.as_primitive::<arrow_array::types::Float64Type>();
        for row in (0..exact.len()).filter(|&row| !exact.is_null(row)) {
            if exact.value(row).fract() != 0.0 {
                let value = || format!("column '{name}': {} is not whole", shown(array, row));
                problems.note(row, value);
            }
        }
    }
    let mut values = Vec::with_capacity(found.len());
    for row in 0..found.len() {
        values.push(match (array.is_null(row), null) {
            (true, Some(null)) => null,
            (true, None) => {
                problems.note(row, || format!("column '{name}' is null"));
                A::Native::default()
            }
            (false, _) if found.is_null(row) => {
                problems.note(row, || {
                    let dtype = A::Native::DTYPE.protocol_name();
                    format!("column '{name}': '{}' is not of type {dtype}", shown(array, row))
                });
                A::Native::default()
            }
            (false, _) => found.value(row),
        });
    }
    Ok(values)
}

/// `extent` numbers for each row, from a column of lists.
pub(super) fn lists<A>(
    name: &str,
    array: &dyn Array,
    extent: usize,
    null: Option<A::Native>,
    problems: &mut Problems,
) -> Result<Vec<A::Native>, ArrowError>
where
    A: ArrowPrimitiveType,
    A::Native: Element,
{
    let list = DataType::List(Field::new_list_field(A::DATA_TYPE, true).into());
    let found = cast(array, &list)?;
    let found = found.as_list::<i32>();
    let mut values = Vec::with_capacity(found.len().saturating_mul(extent));
    for row in 0..found.len() {
        let start = values.len();
        if !found.is_null(row) {
            let elements = found.value(row);
            let elements = elements.as_primitive::<A>();
            if elements.len() == extent && (null.is_some() || elements.null_count() == 0) {
                let element = |i| match (elements.is_null(i), null) {
                    (true, Some(null)) => null,
                    _ => elements.value(i),
                };
                values.extend((0..extent).map(element));
            }
        }
        if values.len() - start != extent {
            problems.note(row, || {
                let value = shown(array, row);
                format!("column '{name}': expected a list of {extent} values, found '{value}'")
            });
            values.resize(start + extent, A::Native::default());
        }
    }
    Ok(values)
}

/// One text for each row.
pub(super) fn texts(
    name: &str,
    array: &dyn Array,
    problems: &mut Problems,
) -> Result<Vec<String>, ArrowError> {
    let found = cast(array, &DataType::Utf8)?;
    let found = found.as_string::<i32>();
    let mut values = Vec::with_capacity(found.len());
    for row in 0..found.len() {
        if found.is_null(row) {
            problems.note(row, || format!("column '{name}' is null"));
            values.push(String::new());
        } else {
            values.push(found.value(row).to_owned());
        }
    }
    Ok(values)
}

/// One byte string for each row.
pub(super) fn blobs(
    name: &str,
    array: &dyn Array,
    problems: &mut Problems,
) -> Result<Vec<Vec<u8>>, ArrowError> {
    let found = cast(array, &DataType::Binary)?;
    let found = found.as_binary::<i32>();
    let mut values = Vec::with_capacity(found.len());
    for row in 0..found.len() {
        if found.is_null(row) {
            problems.note(row, || format!("column '{name}' is null"));
            values.push(Vec::new());
        } else {
            values.push(found.value(row).to_vec());
        }
    }
    Ok(values)
}

/// One boolean for each row, as 0 or 1.
pub(super) fn bools(
    name: &str,
    array: &dyn Array,
    problems: &mut Problems,
) -> Result<Vec<u8>, ArrowError> {
    let found = cast(array, &DataType::Boolean)?;
    let found = found.as_boolean();
    let mut values = Vec::with_capacity(found.len());
    for row in 0..found.len() {
        if found.is_null(row) {
            problems.note(row, || match array.is_null(row) {
                true => format!("column '{name}' is null"),
                false => format!("column '{name}': '{}' is not of type BOOL", shown(array, row)),
            });
        }
        values.push(u8::from(!found.is_null(row) && found.value(row)));
    }
    Ok(values)
}
