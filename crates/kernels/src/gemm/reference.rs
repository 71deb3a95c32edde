//! The scalar twin of the matrix product. It defines the result: one chain of fused multiply-adds
//! per element in order of depth, then bias, residual and activation.

use std::ops::Range;

use super::drive::{Product, Right};
use super::pack::PANEL;
use crate::rows::RowTable;

pub(crate) fn run_part(p: &Product<'_>, rows: Range<usize>, panels: Range<usize>) {
    let k = p.rows.depth();
    RowTable::with(1, |table| {
        for row in rows {
            table.clear();
            p.rows.fill(row, 1, 0..k, table);
            for col in panels.start * PANEL..p.n.min(panels.end * PANEL) {
                // SAFETY: row and column are inside operands that the product's makers checked; the
                // table's segments are readable by the `RowSource` contract.
                unsafe {
                    let mut sum = dot(p, table, col);
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
}

/// # Safety
/// The table describes a whole row and `col` is a column of the product.
unsafe fn dot(p: &Product<'_>, table: &RowTable, col: usize) -> f32 {
    let depth = p.rows.depth();
    let mut sum = 0.0f32;
    let mut k = 0;
    for (segment, &len) in table.lens().iter().enumerate() {
        let start = table.start(segment, 0).cast::<f32>();
        for i in 0..len {
            // SAFETY: by the caller's promise.
            unsafe {
                let b = match p.right {
                    Right::Packed(b) | Right::PackedAgain(b) => {
                        *b.add((col / PANEL * depth + k) * PANEL + col % PANEL)
                    }
                    Right::PackedBf16(_) => unreachable!("products in bf16 have their own twin"),
                    Right::Strided { start, k_stride, n_stride } => {
                        *start.add(k * k_stride + col * n_stride)
                    }
                };
                sum = (*start.add(i)).mul_add(b, sum);
            }
            k += 1;
        }
    }
    sum
}
