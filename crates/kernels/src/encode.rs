//! Preparing features: scaling, normalising, filling in, picking columns.
//!
//! Rows lie one after the other; `columns` is the length of one. A list of constants holds one for
//! each column, or one for all.

use crate::elementwise::CastElement;

/// Element of a list that holds one for each column, or one for all.
fn of_column<T: Copy>(list: &[T], column: usize) -> Option<T> {
    if let [all] = list { Some(*all) } else { list.get(column).copied() }
}

/// `(x - offset) scale`; an empty list changes nothing.
pub fn scale<T: CastElement>(
    x: &[T],
    columns: usize,
    offsets: &[f32],
    factors: &[f32],
    out: &mut [f32],
) {
    let rows = x.chunks_exact(columns.max(1)).zip(out.chunks_exact_mut(columns.max(1)));
    for (x, out) in rows {
        for (column, (x, o)) in x.iter().zip(out).enumerate() {
            let offset = f64::from(of_column(offsets, column).unwrap_or(0.0));
            let factor = f64::from(of_column(factors, column).unwrap_or(1.0));
            *o = ((x.to_real() - offset) * factor) as f32;
        }
    }
}

/// What a row is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowNorm {
    /// The largest magnitude.
    Max,
    /// The sum of magnitudes.
    L1,
    /// The root of the sum of squares.
    L2,
}

/// Divides every row by its norm; a row of norm 0 stays.
pub fn normalize_rows<T: CastElement>(x: &[T], columns: usize, norm: RowNorm, out: &mut [f32]) {
    let rows = x.chunks_exact(columns.max(1)).zip(out.chunks_exact_mut(columns.max(1)));
    for (x, out) in rows {
        let values = || x.iter().map(|x| x.to_real());
        let size = match norm {
            RowNorm::Max => values().fold(0.0, |most: f64, x| most.max(x.abs())),
            RowNorm::L1 => values().map(f64::abs).sum(),
            RowNorm::L2 => values().map(|x| x * x).sum::<f64>().sqrt(),
        };
        let divisor = if size == 0.0 { 1.0 } else { size };
        for (o, x) in out.iter_mut().zip(values()) {
            *o = (x / divisor) as f32;
        }
    }
}

/// 1 where `x > threshold`, else 0.
pub fn binarize<T: CastElement>(x: &[T], threshold: f64, out: &mut [T]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = T::from_integer(i128::from(x.to_real() > threshold));
    }
}

/// Replaces elements equal to `missing` by the column's value. NaN is equal to NaN.
pub fn impute<T: CastElement>(x: &[T], columns: usize, missing: T, values: &[T], out: &mut [T]) {
    // Only NaN differs from itself.
    #[allow(clippy::eq_op, reason = "tells NaN of any type")]
    let is_nan = |x: T| x != x;
    let rows = x.chunks_exact(columns.max(1)).zip(out.chunks_exact_mut(columns.max(1)));
    for (x, out) in rows {
        for (column, (&x, o)) in x.iter().zip(out).enumerate() {
            let found = x == missing || (is_nan(x) && is_nan(missing));
            *o = of_column(values, column).filter(|_| found).unwrap_or(x);
        }
    }
}

/// Copies the elements at `picks`, below `columns`, of every row.
pub fn pick<T: Clone>(x: &[T], columns: usize, picks: &[usize], out: &mut [T]) {
    let rows = x.chunks_exact(columns.max(1)).zip(out.chunks_exact_mut(picks.len().max(1)));
    for (x, out) in rows {
        for (o, &pick) in out.iter_mut().zip(picks) {
            o.clone_from(&x[pick]);
        }
    }
}

/// Copies rows of `columns` into rows of `width`, from column `first` on.
pub fn place<T: CastElement>(
    x: &[T],
    columns: usize,
    (first, width): (usize, usize),
    out: &mut [f32],
) {
    let rows = x.chunks_exact(columns.max(1)).zip(out.chunks_exact_mut(width.max(1)));
    for (x, out) in rows {
        for (o, x) in out[first..].iter_mut().zip(x) {
            *o = x.to_real() as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_zeros_are_not_divided() {
        let mut out = [9.0; 6];
        normalize_rows(&[3.0f32, -4.0, 0.0, 0.0, -1.0, -1.0], 2, RowNorm::Max, &mut out);
        assert_eq!(out, [0.75, -1.0, 0.0, 0.0, -1.0, -1.0]);
        normalize_rows(&[3i64, -4, 0, 0, 1, 0], 2, RowNorm::L2, &mut out);
        assert_eq!(out, [0.6, -0.8, 0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn missing_may_be_nan_or_a_number() {
        let mut out = [0.0; 4];
        impute(&[f32::NAN, 1.0, 2.0, f32::NAN], 2, f32::NAN, &[7.0, 8.0], &mut out);
        assert_eq!(out, [7.0, 1.0, 2.0, 8.0]);
        let mut out = [0; 3];
        impute(&[-1i64, 5, -1], 3, -1, &[3], &mut out);
        assert_eq!(out, [3, 5, 3]);
    }
}
