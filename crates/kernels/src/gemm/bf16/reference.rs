//! The scalar twin. It defines the result, up to sums that are not normal numbers.

use std::ops::Range;

use super::{Element, PAIR, rounded};
use crate::gemm::PANEL;
use crate::gemm::drive::Product;
use crate::rows::RowTable;
use crate::scratch;

pub(super) fn run_part(
    p: &Product<'_>,
    right: *const Element,
    rows: Range<usize>,
    panels: Range<usize>,
) {
    let k = p.rows.depth();
    let depth = k.next_multiple_of(PAIR);
    RowTable::with(1, |table| {
        scratch::with(depth, |left: &mut [f32]| {
            for row in rows {
                table.clear();
                p.rows.fill(row, 1, 0..k, table);
                round_row(table, left);
                for col in panels.start * PANEL..p.n.min(panels.end * PANEL) {
                    let start = col / PANEL * PANEL * depth + col % PANEL * PAIR;
                    // SAFETY: row and column are inside operands that the product's makers checked.
                    unsafe {
                        let mut sum = dot(left, right.add(start));
                        if !p.bias.is_null() {
                            sum += *p.bias.add(col);
                        }
                        if !p.residual.is_null() {
                            sum += *p.residual.add(row * p.residual_stride + col);
                        }
                        *p.out.add(row * p.out_stride + col) = p.activation.reference(sum);
                    }
                }
            }
        });
    });
}

/// Rounds the row that the table describes, and completes its last pair.
fn round_row(table: &RowTable, to: &mut [f32]) {
    let mut at = 0;
    for (segment, &len) in table.lens().iter().enumerate() {
        let from = table.start(segment, 0).cast::<f32>();
        for (i, x) in to[at..at + len].iter_mut().enumerate() {
            // SAFETY: the segment is readable by the `RowSource` contract.
            *x = rounded(unsafe { *from.add(i) });
        }
        at += len;
    }
    to[at..].fill(0.0);
}

/// # Safety
/// `right` points to the column's first pair, in a panel as deep as `left`.
unsafe fn dot(left: &[f32], right: *const Element) -> f32 {
    left.chunks_exact(PAIR).enumerate().fold(0.0, |sum, (pair, a)| {
        // SAFETY: by the caller's promise.
        let [even, odd] = [0, 1].map(|h| unsafe { *right.add(pair * PANEL * PAIR + h) }.to_f32());
        a[0].mul_add(even, a[1].mul_add(odd, sum))
    })
}
