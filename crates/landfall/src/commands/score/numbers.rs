//! Arrow columns as numbers of one type, without silent change: an integer takes whole numbers
//! only, from whatever type the file has them in.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Decimal256Type, Float64Type};
use arrow_array::{
    Array, ArrayRef, ArrowNativeTypeOp, BooleanArray, PrimitiveArray, StringArray, make_array,
};
use arrow_cast::cast::{CastOptions, cast_with_options};
use arrow_cast::display::array_value_to_string;
use arrow_schema::{ArrowError, DECIMAL256_MAX_PRECISION, DataType};
use landfall_protocol::json::Decimal;
use landfall_tensor::{DType, Element, bf16, f16};

/// Casts; what does not fit becomes null.
pub(super) fn cast(array: &dyn Array, to: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, to, &CastOptions { safe: true, ..CastOptions::default() })
}

/// The value of a row as people read it.
pub(super) fn shown(array: &dyn Array, row: usize) -> String {
    array_value_to_string(array, row).unwrap_or_default().chars().take(40).collect()
}

/// A column without dictionary, and whether its values are null.
pub(super) fn plain(array: &dyn Array) -> Result<(ArrayRef, BooleanArray), ArrowError> {
    let given = match array.data_type() {
        DataType::Dictionary(_, values) => cast(array, values)?,
        _ => make_array(array.to_data()),
    };
    let is_null = match given.logical_nulls() {
        Some(nulls) => BooleanArray::new(!nulls.inner(), None),
        None => BooleanArray::from(vec![false; given.len()]),
    };
    Ok((given, is_null))
}

/// The values of a column as numbers of one type.
pub(super) struct Numbers<'a, A: ArrowPrimitiveType> {
    column: &'a str,
    dtype: DType,
    given: ArrayRef,
    is_null: BooleanArray,
    found: PrimitiveArray<A>,
    /// Whether a value has a fraction, where that matters and can be.
    has_fraction: Option<BooleanArray>,
    /// Whether a value becomes infinite, where one does.
    is_infinite: Option<BooleanArray>,
}

impl<A> Numbers<'_, A>
where
    A: ArrowPrimitiveType,
    A::Native: Element,
{
    /// Those of `array`, which `column` names, on their way to elements of `dtype`: half precision
    /// is found in single.
    pub(super) fn of<'a>(
        column: &'a str,
        array: &dyn Array,
        dtype: DType,
    ) -> Result<Numbers<'a, A>, ArrowError> {
        let (given, is_null) = plain(array)?;
        let (source, has_fraction) = match A::DATA_TYPE.is_integer() {
            true => whole(&given)?,
            false => (Arc::clone(&given), None),
        };
        let found = cast(&source, &A::DATA_TYPE)?.as_primitive::<A>().clone();
        let is_infinite = match dtype.is_float() {
            true => infinite(&found, dtype)?,
            false => None,
        };
        Ok(Numbers { column, dtype, given, is_null, found, has_fraction, is_infinite })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.found.len()
    }

    /// The value of a row, `null` for a null; or what is wrong with it.
    pub(super) fn get(&self, row: usize, null: Option<A::Native>) -> Result<A::Native, String> {
        let column = self.column;
        if self.is_null.value(row) {
            return null.ok_or_else(|| format!("column '{column}' is null"));
        }
        if self.has_fraction.as_ref().is_some_and(|has_fraction| has_fraction.value(row)) {
            return Err(format!("column '{column}': {} is not whole", shown(&self.given, row)));
        }
        let dtype = self.dtype.protocol_name();
        if self.is_infinite.as_ref().is_some_and(|is_infinite| is_infinite.value(row)) {
            let value = shown(&self.given, row);
            // A number that is too large is not one that somebody called infinite.
            if value.contains(|c: char| c.is_ascii_digit()) {
                return Err(format!("column '{column}': {value} is out of the range of {dtype}"));
            }
        }
        if self.found.is_null(row) {
            let value = shown(&self.given, row);
            return Err(format!("column '{column}': '{value}' is not of type {dtype}"));
        }
        Ok(self.found.value(row))
    }
}

/// Which numbers are infinite as elements of `dtype`, if any is.
fn infinite(found: &dyn Array, dtype: DType) -> Result<Option<BooleanArray>, ArrowError> {
    let wide = cast(found, &DataType::Float64)?;
    let is_infinite = |&value: &f64| match dtype {
        DType::F16 => f16::from_f64(value).is_infinite(),
        DType::BF16 => bf16::from_f64(value).is_infinite(),
        _ => value.is_infinite(),
    };
    let values = wide.as_primitive::<Float64Type>().values();
    let any = values.iter().any(is_infinite);
    Ok(any.then(|| values.iter().map(|value| Some(is_infinite(value))).collect()))
}

/// A column to cast to integers, and which of its values are not whole.
fn whole(given: &ArrayRef) -> Result<(ArrayRef, Option<BooleanArray>), ArrowError> {
    let fractions = match given.data_type() {
        float if float.is_floating() => {
            let exact = cast(given, &DataType::Float64)?;
            let exact = exact.as_primitive::<Float64Type>();
            exact.values().iter().map(|value| Some(value.fract() != 0.0)).collect()
        }
        decimal if decimal.is_decimal() => decimal_fractions(given)?,
        text if text.is_string() => {
            let texts = cast(given, &DataType::Utf8)?;
            let (texts, fractions) = whole_texts(texts.as_string());
            return Ok((Arc::new(texts), Some(fractions)));
        }
        _ => return Ok((Arc::clone(given), None)),
    };
    Ok((Arc::clone(given), Some(fractions)))
}

fn decimal_fractions(given: &ArrayRef) -> Result<BooleanArray, ArrowError> {
    let scale = match *given.data_type() {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => scale,
        _ => 0,
    };
    let widest = cast(given, &DataType::Decimal256(DECIMAL256_MAX_PRECISION, scale))?;
    let widest = widest.as_primitive::<Decimal256Type>();
    type Wide = <Decimal256Type as ArrowPrimitiveType>::Native;
    let one = Wide::from_i128(10).pow_wrapping(u32::try_from(scale).unwrap_or(0));
    let has_fraction = |value: &Wide| Some(!value.mod_wrapping(one).is_zero());
    Ok(widest.values().iter().map(has_fraction).collect())
}

/// Texts with whole numbers such as `1.0` and `1e3` written as integers, and which are not whole.
fn whole_texts(texts: &StringArray) -> (StringArray, BooleanArray) {
    let mut fractions = Vec::with_capacity(texts.len());
    let texts = texts.iter().map(|text| {
        // Integers need no help.
        let read = |text: &str| text.contains(['.', 'e', 'E']).then(|| Decimal::read(text))?;
        let (text, has_fraction) = text.map_or((None, false), |text| match read(text) {
            Some(Decimal::Whole(value)) => (Some(Cow::Owned(value.to_string())), false),
            Some(Decimal::Fraction) => (Some(Cow::Borrowed(text)), true),
            None => (Some(Cow::Borrowed(text)), false),
        });
        fractions.push(has_fraction);
        text
    });
    let texts = texts.collect();
    (texts, BooleanArray::from(fractions))
}

#[cfg(test)]
mod tests {
    use arrow_array::types::{Float32Type, Int8Type, Int64Type, UInt64Type};
    use arrow_array::{Decimal128Array, DictionaryArray, Float64Array, NullArray};

    use super::*;

    /// Every value of a column, or the end of what is wrong with it.
    fn read<A>(array: &dyn Array) -> Vec<Result<A::Native, String>>
    where
        A: ArrowPrimitiveType,
        A::Native: Element,
    {
        read_as::<A>(array, A::Native::DTYPE)
    }

    fn read_as<A>(array: &dyn Array, dtype: DType) -> Vec<Result<A::Native, String>>
    where
        A: ArrowPrimitiveType,
        A::Native: Element,
    {
        let numbers = Numbers::<A>::of("x", array, dtype).unwrap();
        let get = |row| {
            let problem = |problem: String| problem.trim_start_matches("column 'x'").to_owned();
            numbers.get(row, None).map_err(problem)
        };
        (0..numbers.len()).map(get).collect()
    }

    #[test]
    fn decimals_with_a_fraction_are_no_integers() {
        let decimals = Decimal128Array::from(vec![Some(150), Some(200), Some(-250), None]);
        let decimals = decimals.with_precision_and_scale(10, 2).unwrap();
        let expected = [
            Err(": 1.50 is not whole".to_owned()),
            Ok(2),
            Err(": -2.50 is not whole".to_owned()),
            Err(" is null".to_owned()),
        ];
        assert_eq!(read::<Int64Type>(&decimals), expected);
        assert_eq!(read::<Float32Type>(&decimals)[0], Ok(1.5));
        let thousands = Decimal128Array::from(vec![5]).with_precision_and_scale(5, -3).unwrap();
        assert_eq!(read::<Int64Type>(&thousands), [Ok(5000)]);
        assert_eq!(read::<Int8Type>(&thousands), [Err(": '5000' is not of type INT8".to_owned())]);
    }

    #[test]
    fn floats_with_a_fraction_are_no_integers() {
        let floats = Float64Array::from(vec![1.5, 2.0, f64::NAN, 1e300]);
        let found = read::<Int64Type>(&floats);
        assert_eq!(found[0], Err(": 1.5 is not whole".to_owned()));
        assert_eq!(found[1], Ok(2));
        assert!(found[2].is_err() && found[3].is_err());
    }

    #[test]
    fn whole_texts_are_integers_however_they_are_written() {
        let texts = ["1.0", "1e3", "-0.0", "9007199254740993.000", "2.50e1", "+7", "12"];
        let expected = [1, 1000, 0, 9_007_199_254_740_993, 25, 7, 12].map(Ok);
        assert_eq!(read::<Int64Type>(&StringArray::from(texts.to_vec())), expected);
        let dictionary: DictionaryArray<Int8Type> = texts.into_iter().collect();
        assert_eq!(read::<Int64Type>(&dictionary), expected);
        let texts = StringArray::from(vec!["1.5", "1e-1", "1e30", ".", "e5", "1.0x", "-1.0"]);
        let problems = read::<UInt64Type>(&texts).into_iter().map(Result::unwrap_err);
        let not_whole = problems.map(|problem| problem.ends_with("is not whole"));
        assert_eq!(not_whole.collect::<Vec<_>>(), [true, true, false, false, false, false, false]);
    }

    #[test]
    fn numbers_too_large_are_not_infinite() {
        let range = |value: &str, dtype| Err(format!(": {value} is out of the range of {dtype}"));
        let texts = StringArray::from(vec!["1e39", "-1e999", "inf", "-Infinity", "70000"]);
        let infinite = [Ok(f32::INFINITY), Ok(f32::NEG_INFINITY)];
        let found = read::<Float32Type>(&texts);
        assert_eq!(found[..2], [range("1e39", "FP32"), range("-1e999", "FP32")]);
        assert_eq!(found[2..4], infinite);
        assert_eq!(found[4], Ok(70000.0));
        assert_eq!(read_as::<Float32Type>(&texts, DType::F16)[4], range("70000", "FP16"));
        let floats = Float64Array::from(vec![1e39, f64::INFINITY]);
        let found = read::<Float32Type>(&floats);
        assert!(found[0].as_ref().unwrap_err().ends_with("is out of the range of FP32"));
        assert_eq!(found[1], infinite[0]);
    }

    #[test]
    fn a_column_of_nulls_is_null() {
        assert_eq!(read::<Int64Type>(&NullArray::new(1)), [Err(" is null".to_owned())]);
    }
}
