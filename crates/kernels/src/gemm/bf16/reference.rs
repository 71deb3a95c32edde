//! The scalar twins. They define the result, up to sums that are not normal numbers.

use std::ops::Range;

use super::{Element, PAIR, TILE_DEPTH, rounded};
use crate::gemm::PANEL;
use crate::gemm::drive::Product;
use crate::rows::RowTable;
use crate::{Cpu, scratch};

pub(super) fn run_part(
    cpu: Cpu,
    p: &Product<'_>,
    right: *const Element,
    rows: Range<usize>,
    panels: Range<usize>,
) {
    let dot = if cpu.sums_bf16_in_tiles() { dot_in_tiles } else { dot_in_pairs };
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
unsafe fn dot_in_pairs(left: &[f32], right: *const Element) -> f32 {
    left.chunks_exact(PAIR).enumerate().fold(0.0, |sum, (pair, a)| {
        // SAFETY: by the caller's promise.
        let [even, odd] = [0, 1].map(|h| unsafe { *right.add(pair * PANEL * PAIR + h) }.to_f32());
        a[0].mul_add(even, a[1].mul_add(odd, sum))
    })
}

/// # Safety
/// `right` points to the column's first pair, in a panel as deep as `left`.
unsafe fn dot_in_tiles(left: &[f32], right: *const Element) -> f32 {
    const TILE_PAIRS: usize = TILE_DEPTH / PAIR;

    let part = |tile: usize, left: &[f32], half: usize| {
        left.chunks_exact(PAIR).enumerate().fold(0f32, |sum, (pair, a)| {
            let at = (tile * TILE_PAIRS + pair) * PANEL * PAIR + half;
            // SAFETY: by the caller's promise.
            a[half].mul_add(unsafe { *right.add(at) }.to_f32(), sum)
        })
    };
    left.chunks(TILE_DEPTH)
        .enumerate()
        .fold(0.0, |sum, (tile, left)| sum + (part(tile, left, 0) + part(tile, left, 1)))
}
