//! Dividing work: how many parts are worth their hand-over, and where each begins.

use std::ops::Range;

use crate::Exec;
use crate::shared::SharedMut;

/// Elementary operations (about a cycle each) below which a second thread costs more than it saves.
const GRAIN: usize = 1 << 14;

/// Number of threads worth using for `cost` elementary operations that can be cut in `pieces`.
pub(crate) fn useful_parts(exec: Exec<'_>, cost: usize, pieces: usize) -> usize {
    exec.pool.threads().min(cost / GRAIN).min(pieces).max(1)
}

/// Part `index` of `parts` nearly equal parts of `0..len`.
pub(crate) fn share(len: usize, parts: usize, index: usize) -> Range<usize> {
    let (size, extra) = (len / parts, len % parts);
    let start = index * size + index.min(extra);
    start..start + size + usize::from(index < extra)
}

/// Runs `task(range)` over nearly equal parts of `0..len`; an index costs `cost` operations.
pub(crate) fn over_range(
    exec: Exec<'_>,
    len: usize,
    cost: usize,
    task: &(dyn Fn(Range<usize>) + Sync),
) {
    if len == 0 {
        return;
    }
    let parts = useful_parts(exec, len.saturating_mul(cost), len);
    exec.pool.run(parts, &|part| task(share(len, parts, part)));
}

/// Runs `task(first_row, rows)` over parts of `data`, which holds rows of `row_len` elements; an
/// element costs `cost` operations.
pub(crate) fn over_chunks<T: Send>(
    exec: Exec<'_>,
    data: &mut [T],
    row_len: usize,
    cost: usize,
    task: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    if row_len == 0 || data.is_empty() {
        return;
    }
    let rows = data.len() / row_len;
    let shared = SharedMut::new(data);
    over_range(exec, rows, row_len.saturating_mul(cost), &|range| {
        // SAFETY: parts are disjoint.
        let part = unsafe { shared.range(range.start * row_len, range.len() * row_len) };
        task(range.start, part);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        for (len, parts) in [(0, 1), (10, 3), (7, 7), (3, 5), (100, 8)] {
            let mut next = 0;
            for index in 0..parts {
                let range = share(len, parts, index);
                assert_eq!(range.start, next);
                assert!(range.len() <= len.div_ceil(parts));
                next = range.end;
            }
            assert_eq!(next, len);
        }
    }
}
