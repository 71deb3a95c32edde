//! Choosing between two operands by a third.

use crate::Exec;
use crate::elementwise::Broadcast;
use crate::parallel::over_chunks;

/// `out = condition ? a : b` along the pattern of (condition, a, b).
pub fn select<T: Copy + Send + Sync>(
    exec: Exec<'_>,
    pattern: &Broadcast,
    condition: &[u8],
    a: &[T],
    b: &[T],
    out: &mut [T],
) {
    let row = pattern.row();
    let steps = [0, 1, 2].map(|index| pattern.row_stride(index));
    over_chunks(exec, out, row, 2, &|first, chunk| {
        let count = chunk.len() / row;
        let mut rows = chunk.chunks_exact_mut(row);
        pattern.walk::<3>(first, count, |_, [c, i, j]| {
            for (k, o) in rows.next().into_iter().flatten().enumerate() {
                let chosen = condition[c + k * steps[0]] != 0;
                *o = if chosen { a[i + k * steps[1]] } else { b[j + k * steps[2]] };
            }
        });
    });
}
