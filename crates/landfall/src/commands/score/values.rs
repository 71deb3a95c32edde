//! Arrow columns as elements of tensors.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{Array, ArrayRef, make_array};
use arrow_schema::{ArrowError, DataType};
use landfall_tensor::Element;

use super::numbers::{Numbers, cast, plain, shown};

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
    let numbers = Numbers::<A>::of(name, array)?;
    let value = |row| {
        numbers.get(row, null).unwrap_or_else(|problem| {
            problems.note(row, || problem);
            A::Native::default()
        })
    };
    Ok((0..numbers.len()).map(value).collect())
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
    let (elements, spans) = spans(array, extent)?;
    let numbers = Numbers::<A>::of(name, &elements)?;
    let mut values = Vec::with_capacity(spans.len().saturating_mul(extent));
    for (row, span) in spans.into_iter().enumerate() {
        let start = values.len();
        let found: Result<(), String> = match span {
            Some(mut span) => {
                span.try_for_each(|element| Ok(values.push(numbers.get(element, null)?)))
            }
            None => {
                let value = shown(array, row);
                Err(format!("column '{name}': expected a list of {extent} values, found '{value}'"))
            }
        };
        if let Err(problem) = found {
            problems.note(row, || problem);
            values.resize(start + extent, A::Native::default());
        }
    }
    Ok(values)
}

/// The elements of all lists, and where those of each row are; `None` if they are not `extent`.
fn spans(
    array: &dyn Array,
    extent: usize,
) -> Result<(ArrayRef, Vec<Option<Range<usize>>>), ArrowError> {
    let lists = match array.data_type() {
        DataType::List(field) | DataType::FixedSizeList(field, _) => {
            cast(array, &DataType::LargeList(Arc::clone(field)))?
        }
        _ => make_array(array.to_data()),
    };
    let lists = lists.as_list::<i64>();
    let span = |row: usize| {
        let start = lists.value_offsets()[row] as usize;
        let is_whole = !lists.is_null(row) && lists.value_length(row) as usize == extent;
        is_whole.then_some(start..start + extent)
    };
    Ok((Arc::clone(lists.values()), (0..lists.len()).map(span).collect()))
}

/// One text for each row.
pub(super) fn texts(
    name: &str,
    array: &dyn Array,
    problems: &mut Problems,
) -> Result<Vec<String>, ArrowError> {
    let (given, is_null) = plain(array)?;
    let found = cast(&given, &DataType::Utf8)?;
    let found = found.as_string::<i32>();
    let mut values = Vec::with_capacity(found.len());
    for row in 0..found.len() {
        if found.is_null(row) {
            problems.note(row, || match is_null.value(row) {
                true => format!("column '{name}' is null"),
                false => format!("column '{name}' is not UTF-8 text"),
            });
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
    let (given, is_null) = plain(array)?;
    let found = cast(&given, &DataType::Boolean)?;
    let found = found.as_boolean();
    let mut values = Vec::with_capacity(found.len());
    for row in 0..found.len() {
        if found.is_null(row) {
            problems.note(row, || match is_null.value(row) {
                true => format!("column '{name}' is null"),
                false => format!("column '{name}': '{}' is not of type BOOL", shown(&given, row)),
            });
        }
        values.push(u8::from(!found.is_null(row) && found.value(row)));
    }
    Ok(values)
}
