//! The scalar twin of 8-bit products.

use super::blocks::Scalar;
use super::drive::Part;
use super::epilogue::RowSums;
use crate::gemm::PANEL;
use crate::rows::RowTable;

pub(crate) fn run_part(part: &Part<'_>) {
    let p = part.product;
    let k = p.rows.depth();
    let flip = part.flip();
    RowTable::with(1, |table| {
        for row in part.rows.clone() {
            table.clear();
            p.rows.fill(row, 1, 0..k, table);
            let mut row_sums = [0];
            part.sum_rows(table, &mut row_sums);
            for panel in part.panels.clone() {
                let mut sums = [0i32; PANEL];
                let mut index = 0;
                for (segment, &len) in table.lens().iter().enumerate() {
                    for i in 0..len {
                        // SAFETY: the segment is readable by the `RowSource` contract.
                        let left = i32::from(unsafe { *table.start(segment, 0).add(i) } ^ flip);
                        for (col, sum) in sums.iter_mut().enumerate() {
                            let at = panel * PANEL * k + (index / 4 * PANEL + col) * 4 + index % 4;
                            // SAFETY: the packed operand has `k` rows in each panel.
                            *sum += left * i32::from(unsafe { *p.right.add(at) });
                        }
                        index += 1;
                    }
                }
                let columns = p.finish.columns(panel * PANEL);
                let sums = RowSums { sums: &sums, stride: PANEL, rows: 1, left: &row_sums };
                // SAFETY: row and panel are inside the part's rectangle of the output.
                unsafe { p.finish.rows(Scalar, row, &columns, &sums) };
            }
        }
    });
    let cols = (part.panels.end * PANEL).min(p.finish.n) - part.panels.start * PANEL;
    part.activate(part.rows.start, part.rows.len(), part.panels.start * PANEL, cols);
}
