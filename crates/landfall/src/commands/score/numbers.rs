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
use landfall_tensor::Element;

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
    given: ArrayRef,
    is_null: BooleanArray,
    found: PrimitiveArray<A>,
    /// Whether a value has a fraction, where that matters and can be.
    has_fraction: Option<BooleanArray>,
}

impl<A> Numbers<'_, A>
where
    A: ArrowPrimitiveType,
    A::Native: Element,
{
    /// Those of `array`, which `column` names.
    pub(super) fn of<'a>(column: &'a str, array: &dyn Array) -> Result<Numbers<'a, A>, ArrowError> {
        let (given, is_null) = plain(array)?;
        let (source, has_fraction) = match A::DATA_TYPE.is_integer() {
            true => whole(&given)?,
            false => (Arc::clone(&given), None),
        };
        let found = cast(&source, &A::DATA_TYPE)?.as_primitive::<A>().clone();
        Ok(Numbers { column, given, is_null, found, has_fraction })
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
        if self.found.is_null(row) {
            let dtype = A::Native::DTYPE.protocol_name();
            let value = shown(&self.given, row);
            return Err(format!("column '{column}': '{value}' is not of type {dtype}"));
        }
        Ok(self.found.value(row))
    }
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
        let (text, has_fraction) = text.map_or((None, false), |text| match decimal(text) {
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

#[derive(Debug, PartialEq, Eq)]
enum Decimal {
    Whole(i128),
    Fraction,
}

/// A number with a point or an exponent, computed exactly. `None` for integers, which need no help,
/// for what is no number, and for what no integer type holds.
fn decimal(text: &str) -> Option<Decimal> {
    if !text.contains(['.', 'e', 'E']) {
        return None;
    }
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [before, after].concat();
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    let leading = digits.trim_end_matches('0');
    if leading.is_empty() {
        return Some(Decimal::Whole(0));
    }
    let trailing_zeros = digits.len() as i64 - leading.len() as i64;
    let power = i64::from(exponent) - after.len() as i64 + trailing_zeros;
    if power < 0 {
        return Some(Decimal::Fraction);
    }
    let one = 10i128.checked_pow(u32::try_from(power).ok()?)?;
    let value = leading.parse::<i128>().ok()?.checked_mul(one)?;
    Some(Decimal::Whole(if is_negative { -value } else { value }))
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
        let numbers = Numbers::<A>::of("x", array).unwrap();
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
    fn a_column_of_nulls_is_null() {
        assert_eq!(read::<Int64Type>(&NullArray::new(1)), [Err(" is null".to_owned())]);
    }
}
