//! Numbers of tables that are to be integers. Programs with one kind of number write 3 as 3.0 or
//! 3e0; computed digit by digit, no size is rounded on the way.

/// What a number is to integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decimal {
    /// A whole number.
    Whole(i128),
    /// One that is not whole.
    Fraction,
}

impl Decimal {
    /// Reads a number, perhaps with a sign, a point and an exponent. `None` for what is no number,
    /// and for what no integer type holds.
    pub fn read(text: &str) -> Option<Decimal> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_exactly_however_they_are_written() {
        let cases = [
            ("12", 12),
            ("+7", 7),
            ("1.0", 1),
            ("1e3", 1000),
            ("-0.0", 0),
            ("2.50e1", 25),
            ("-1.5E1", -15),
            ("0.000", 0),
            ("9007199254740993.000", 9_007_199_254_740_993),
            ("9.007199254740993e15", 9_007_199_254_740_993),
            ("18446744073709551615", i128::from(u64::MAX)),
        ];
        for (text, expected) in cases {
            assert_eq!(Decimal::read(text), Some(Decimal::Whole(expected)), "{text}");
        }
    }

    #[test]
    fn fractions_and_other_text_are_told_apart() {
        for text in ["1.5", "1e-1", "-0.25", "15e-2147483648"] {
            assert_eq!(Decimal::read(text), Some(Decimal::Fraction), "{text}");
        }
        let others =
            ["", "-", ".", "e5", "1.0x", "1e", "1e99999999999", "1e40", "NaN", "--1", "1_0"];
        for text in others {
            assert_eq!(Decimal::read(text), None, "{text}");
        }
    }
}
