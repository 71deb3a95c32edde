//! Distinct slices of a tensor along an axis.

use std::cmp::Ordering;

use crate::reduce::Reducible;

/// The slices of a tensor `[outer, len, step]` along its middle axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slices {
    /// Extent of the axes before.
    pub outer: usize,
    /// Number of slices.
    pub len: usize,
    /// Extent of the axes after.
    pub step: usize,
}

/// Which slices are distinct.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Distinct {
    /// The first slice of every kind.
    pub first: Vec<usize>,
    /// For every slice its kind.
    pub kind: Vec<usize>,
    /// For every kind the number of slices.
    pub count: Vec<usize>,
}

/// Ascending, NaN last and equal to itself.
pub fn total_order<T: Reducible>(a: &T, b: &T) -> Ordering {
    let (a, b) = (a.accumulator(), b.accumulator());
    a.partial_cmp(&b).unwrap_or_else(|| T::is_nan(a).cmp(&T::is_nan(b)))
}

/// Groups equal slices. The kinds are in ascending order of their elements if `sorted`, else in
/// order of first occurrence.
///
/// # Panics
/// If `data` has another length than the slices.
pub fn distinct<T>(
    slices: Slices,
    sorted: bool,
    data: &[T],
    order: impl Fn(&T, &T) -> Ordering,
) -> Distinct {
    let Slices { outer, len, step } = slices;
    assert_eq!(data.len(), outer * len * step, "operand length");
    let row = |slice: usize, o: usize| &data[(o * len + slice) * step..][..step];
    let compare = |a: usize, b: usize| {
        let rows = (0..outer).map(|o| (row(a, o), row(b, o)));
        let mut pairs = rows.flat_map(|(a, b)| a.iter().zip(b).map(|(a, b)| order(a, b)));
        pairs.find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
    };
    let mut by_value: Vec<usize> = (0..len).collect();
    by_value.sort_by(|&a, &b| compare(a, b));
    let mut groups: Vec<&[usize]> = by_value.chunk_by(|&a, &b| compare(a, b).is_eq()).collect();
    if !sorted {
        groups.sort_by_key(|group| group[0]);
    }
    let mut found = Distinct { kind: vec![0; len], ..Distinct::default() };
    for (kind, group) in groups.into_iter().enumerate() {
        found.first.push(group[0]);
        found.count.push(group.len());
        group.iter().for_each(|&slice| found.kind[slice] = kind);
    }
    found
}
