//! Regular patterns.

use crate::elementwise::CastElement;

/// `start + i delta`, computed in `f64`.
pub fn range_float<T: CastElement>(start: T, delta: T, out: &mut [T]) {
    let (start, delta) = (start.to_real(), delta.to_real());
    for (i, o) in out.iter_mut().enumerate() {
        *o = T::from_real(start + i as f64 * delta);
    }
}

/// `start + i delta`.
pub fn range_integer<T: CastElement>(start: i128, delta: i128, out: &mut [T]) {
    let mut next = start;
    for o in out {
        *o = T::from_integer(next);
        next += delta;
    }
}

/// Ones along diagonal `k` (0 the main one, positive above it) of a matrix of rows of `columns`,
/// zeros elsewhere.
pub fn write_diagonal<T: CastElement>(columns: usize, k: i64, out: &mut [T]) {
    out.fill(T::from_integer(0));
    if columns == 0 {
        return;
    }
    for (i, row) in out.chunks_exact_mut(columns).enumerate() {
        let at = i64::try_from(i).ok().and_then(|i| usize::try_from(i.checked_add(k)?).ok());
        if let Some(one) = at.and_then(|at| row.get_mut(at)) {
            *one = T::from_integer(1);
        }
    }
}

/// Zeroes what lies below diagonal `k` of every matrix `[rows, columns]` if `upper`, else what lies
/// above it. Elements are `size` bytes; zero is all bits zero.
pub fn keep_triangle(
    (rows, columns): (usize, usize),
    k: i64,
    upper: bool,
    bytes: &mut [u8],
    size: usize,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    for (i, row) in bytes.chunks_exact_mut(columns * size).enumerate() {
        let row_number = i64::try_from(i % rows).unwrap_or(i64::MAX);
        let diagonal = row_number.saturating_add(k).saturating_add(i64::from(!upper));
        let cut = usize::try_from(diagonal.max(0)).unwrap_or(columns).min(columns) * size;
        if upper { row[..cut].fill(0) } else { row[cut..].fill(0) }
    }
}

/// The value `on` at the class of every index, `off` elsewhere. `classes` are `[outer, inner]`,
/// `None` for an index outside the depth; `out` is `[outer, depth, inner]`.
///
/// # Panics
/// If a length does not fit or a class is `depth` or more.
pub fn one_hot<T: Clone>(
    classes: &[Option<usize>],
    (depth, inner): (usize, usize),
    (off, on): (&T, &T),
    out: &mut [T],
) {
    assert_eq!(out.len(), classes.len() * depth);
    out.fill(off.clone());
    for (i, &class) in classes.iter().enumerate() {
        if let Some(class) = class {
            assert!(class < depth);
            out[(i / inner * depth + class) * inner + i % inner] = on.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triangles_of_every_diagonal() {
        for k in [i64::MIN, -4, -1, 0, 1, 2, 5, i64::MAX] {
            for upper in [true, false] {
                let mut out = [1u8; 2 * 3 * 4];
                keep_triangle((3, 4), k, upper, &mut out, 1);
                for (i, &kept) in out.iter().enumerate() {
                    let (row, column) = (i as i128 / 4 % 3, i as i128 % 4);
                    let above = column - row - i128::from(k);
                    let expected = if upper { above >= 0 } else { above <= 0 };
                    assert_eq!(kept == 1, expected, "{k} {upper} {i}");
                }
            }
        }
    }

    #[test]
    fn diagonals_may_lie_outside() {
        for k in [i64::MIN, -3, -1, 0, 2, i64::MAX] {
            let mut out = [9i32; 6];
            write_diagonal(3, k, &mut out);
            let at = |i: usize| i128::from(k) + (i / 3) as i128 == (i % 3) as i128;
            assert!(out.iter().enumerate().all(|(i, &x)| x == i32::from(at(i))), "{k}");
        }
    }

    #[test]
    fn ranges_do_not_drift() {
        let mut out = [0.0f32; 1000];
        range_float(0.0, 0.1, &mut out);
        assert!((out[999] - 99.9).abs() < 1e-4);
        let mut out = [0i64; 3];
        range_integer(i128::from(i64::MAX - 1), -2, &mut out);
        assert_eq!(out, [i64::MAX - 1, i64::MAX - 3, i64::MAX - 5]);
    }
}
