//! Values of arguments, each with its bounds and an example.

use std::time::Duration;

use landfall_tensor::Precision;

use crate::config::MAX_THREADS;

/// A number from 1.
pub(super) fn positive(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| format!("expected a number from 1, found '{text}'"))
}

/// A number of threads; 0 for one per core.
pub(super) fn threads(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&number| number <= MAX_THREADS);
    number.ok_or_else(|| format!("expected a number from 0 to {MAX_THREADS}, found '{text}'"))
}

/// The precision of matrix products and convolutions.
pub(super) fn precision(text: &str) -> Result<Precision, String> {
    text.parse()
}

/// A number of threads that are wanted for sure.
pub(super) fn workers(text: &str) -> Result<usize, String> {
    let number = threads(text).ok().filter(|&number| number > 0);
    number.ok_or_else(|| {
        format!(
            "expected a number from 1 to {MAX_THREADS}, found '{text}'; leave it out for one per \
             core"
        )
    })
}

/// A time in seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    seconds.ok_or_else(|| format!("expected seconds, such as 1.5, found '{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_bounds_and_errors_an_example() {
        assert_eq!((threads("0"), threads("1024")), (Ok(0), Ok(1024)));
        for text in ["1025", "100000", "-1", "two", ""] {
            assert!(threads(text).unwrap_err().contains("0 to 1024"), "{text}");
        }
        assert_eq!((workers("1"), workers("1024")), (Ok(1), Ok(1024)));
        for text in ["0", "1025", "two"] {
            assert!(workers(text).unwrap_err().contains("1 to 1024"), "{text}");
        }
        assert_eq!(precision("bf16"), Ok(Precision::Bf16));
        assert!(precision("auto").unwrap_err().contains("f32 or bf16"));
        assert!(positive("0").unwrap_err().contains("from 1"));
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["NaN", "inf", "-1", "1e300", "soon"] {
            assert!(seconds(text).unwrap_err().contains("such as 1.5"), "{text}");
        }
    }
}
