//! Resizing by copying the nearest element.

use crate::Exec;
use crate::parallel::over_chunks;

/// An axis of a resize by copying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearestAxis {
    /// Input extent.
    pub input: usize,
    /// For every output index the input index, or `None` for the fill value.
    pub sources: Vec<Option<u32>>,
}

/// `out[i, j, ..] = input[sources_0[i], sources_1[j], ..]`, `fill` where there is no source. Every
/// element is `run` adjacent ones.
///
/// # Panics
/// If a slice has the wrong length or a source is out of range.
pub fn gather_nearest<T: Copy + Send + Sync>(
    exec: Exec<'_>,
    axes: &[NearestAxis],
    run: usize,
    fill: T,
    input: &[T],
    out: &mut [T],
) {
    let Some((last, lead)) = axes.split_last() else {
        out.copy_from_slice(input);
        return;
    };
    let line_len = last.sources.len() * run;
    assert_eq!(input.len(), axes.iter().map(|a| a.input).product::<usize>() * run, "input length");
    over_chunks(exec, out, line_len, 2, &|first, chunk| {
        for (i, line) in chunk.chunks_exact_mut(line_len).enumerate() {
            let Some(row) = source_row(lead, first + i) else {
                line.fill(fill);
                continue;
            };
            let row = &input[row * last.input * run..][..last.input * run];
            if run == 1 {
                for (o, source) in line.iter_mut().zip(&last.sources) {
                    *o = source.map_or(fill, |at| row[at as usize]);
                }
                continue;
            }
            for (o, source) in line.chunks_exact_mut(run).zip(&last.sources) {
                match source {
                    Some(at) => o.copy_from_slice(&row[*at as usize * run..][..run]),
                    None => o.fill(fill),
                }
            }
        }
    });
}

/// The input row that output row `row` copies.
fn source_row(lead: &[NearestAxis], mut row: usize) -> Option<usize> {
    let (mut source, mut stride) = (0, 1);
    for axis in lead.iter().rev() {
        let index = row % axis.sources.len();
        row /= axis.sources.len();
        source += axis.sources[index]? as usize * stride;
        stride *= axis.input;
    }
    Some(source)
}
