//! Arrow columns as elements of tensors.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{Array, ArrayRef, make_array};
use arrow_schema::{ArrowError, DataType};
use landfall_tensor::{DType, Element};

use super::column_types::described;
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
    dtype: DType,
    null: Option<A::Native>,
    problems: &mut Problems,
) -> Result<Vec<A::Native>, ArrowError>
where
    A: ArrowPrimitiveType,
    A::Native: Element,
{
    let numbers = Numbers::<A>::of(name, array, dtype)?;
    let value = |row| {
        numbers.get(row, null).unwrap_or_else(|problem| {
            problems.note(row, || problem);
            A::Native::default()
        })
    };
    Ok((0..numbers.len()).map(value).collect())
}

/// The numbers of each row, of shape `row`, from a column of lists, or of lists of lists.
pub(super) fn lists<A>(
    name: &str,
    array: &dyn Array,
    dtype: DType,
    row_shape: &[usize],
    null: Option<A::Native>,
    problems: &mut Problems,
) -> Result<Vec<A::Native>, ArrowError>
where
    A: ArrowPrimitiveType,
    A::Native: Element,
{
    let (elements, spans) = spans(array, row_shape)?;
    let numbers = Numbers::<A>::of(name, &elements, dtype)?;
    let width: usize = row_shape.iter().product();
    let mut values = Vec::with_capacity(spans.len().saturating_mul(width));
    for (row, span) in spans.into_iter().enumerate() {
        let start = values.len();
        let found: Result<(), String> = match span {
            Some(mut span) => span.try_for_each(|element| {
                values.push(numbers.get(element, null)?);
                Ok(())
            }),
            None if array.is_null(row) => Err(format!("column '{name}' is null")),
            None => {
                let (expected, found) = (described(row_shape), shown(array, row));
                Err(format!("column '{name}': expected {expected}, found '{found}'"))
            }
        };
        if let Err(problem) = found {
            problems.note(row, || problem);
            values.resize(start + width, A::Native::default());
        }
    }
    Ok(values)
}

/// Where the elements of a row are; `None` if they are not of its shape.
type Span = Option<Range<usize>>;

/// The elements of all lists, and where those of each row are.
fn spans(array: &dyn Array, row_shape: &[usize]) -> Result<(ArrayRef, Vec<Span>), ArrowError> {
    let mut level = make_array(array.to_data());
    if level.data_type().is_null() {
        return Ok((level, vec![None; array.len()]));
    }
    let flat = [row_shape.iter().product()];
    let extents = match array.data_type() {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _)
            if !field.data_type().is_nested() =>
        {
            flat.as_slice()
        }
        _ => row_shape,
    };
    let mut spans: Vec<Span> = (0..array.len()).map(|row| Some(row..row + 1)).collect();
    for &extent in extents {
        if let DataType::List(field) | DataType::FixedSizeList(field, _) = level.data_type() {
            level = cast(&level, &DataType::LargeList(Arc::clone(field)))?;
        }
        let lists = level.as_list::<i64>();
        let offsets = lists.value_offsets();
        let fits = |i: usize| !lists.is_null(i) && lists.value_length(i) as usize == extent;
        for span in &mut spans {
            let whole = span.take().filter(|span| span.clone().all(fits));
            *span = whole.map(|span| offsets[span.start] as usize..offsets[span.end] as usize);
        }
        level = Arc::clone(lists.values());
    }
    Ok((level, spans))
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

#[cfg(test)]
mod tests {
    use arrow_array::builder::{FixedSizeListBuilder, Int32Builder, ListBuilder};
    use arrow_array::types::Float32Type;

    use super::*;

    /// `[[1,2],[3,4]]`, `[[1,2],[3]]`, null, `[[5,6],[7,null]]`.
    fn nested() -> ArrayRef {
        let mut lists = ListBuilder::new(ListBuilder::new(Int32Builder::new()));
        for row in [[vec![Some(1), Some(2)], vec![Some(3), Some(4)]], [vec![Some(1)], vec![]]] {
            row.into_iter().for_each(|values| lists.values().append_value(values));
            lists.append(true);
        }
        lists.append_null();
        lists.values().append_value([Some(5), Some(6)]);
        lists.values().append_value([Some(7), None]);
        lists.append(true);
        Arc::new(lists.finish())
    }

    #[test]
    fn lists_of_lists_are_taken_where_they_have_the_shape_of_a_row() {
        let mut problems = Problems::none(4);
        let found = lists::<Float32Type>(
            "x",
            &nested(),
            DType::F32,
            &[2, 2],
            Some(f32::NAN),
            &mut problems,
        )
        .unwrap();
        assert_eq!(found[..4], [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(found[12..15], [5.0, 6.0, 7.0]);
        assert!(found[15].is_nan());
        let reasons = problems.into_reasons();
        assert_eq!((reasons[0].as_ref(), reasons[3].as_ref()), (None, None));
        let expected = "column 'x': expected a list of 4 values or lists of shape [2,2], found";
        assert!(reasons[1].as_ref().unwrap().starts_with(expected), "{reasons:?}");
        assert!(reasons[2].is_some());
    }

    #[test]
    fn rows_of_a_slice_of_fixed_lists_are_found() {
        let mut fixed = FixedSizeListBuilder::new(Int32Builder::new(), 2);
        for first in [1, 3, 5] {
            fixed.values().append_slice(&[first, first + 1]);
            fixed.append(true);
        }
        let slice = fixed.finish().slice(1, 2);
        let mut problems = Problems::none(2);
        let found =
            lists::<Float32Type>("x", &slice, DType::F32, &[2, 1], None, &mut problems).unwrap();
        assert_eq!(found, [3.0, 4.0, 5.0, 6.0]);
        assert_eq!(problems.into_reasons(), [None, None]);
    }

    #[test]
    fn bytes_that_are_no_text_are_not_called_null() {
        let bytes =
            arrow_array::BinaryArray::from(vec![Some(b"a".as_slice()), Some(b"\xff"), None]);
        let mut problems = Problems::none(3);
        assert_eq!(texts("x", &bytes, &mut problems).unwrap(), ["a", "", ""]);
        let expected = [None, Some("column 'x' is not UTF-8 text"), Some("column 'x' is null")];
        assert_eq!(problems.into_reasons(), expected.map(|reason| reason.map(str::to_owned)));
    }
}
