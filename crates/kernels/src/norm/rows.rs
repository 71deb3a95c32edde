//! Layer and root-mean-square normalisation of any types and any broadcast scale, with statistics.

use crate::elementwise::CastElement;
use crate::parallel::over_chunks;
use crate::{Exec, NormKind};

/// Which statistics rows of which length are normalised by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowNorm {
    /// The statistics.
    pub kind: NormKind,
    /// Elements of a row.
    pub len: usize,
    /// Added to the variance or mean square.
    pub epsilon: f32,
}

impl RowNorm {
    /// Mean (0 for root mean square) and `1 / sqrt(variance + epsilon)`, in `f64`.
    fn statistics<T: CastElement>(&self, row: &[T]) -> [f64; 2] {
        let count = row.len() as f64;
        let mean = match self.kind {
            NormKind::Layer => row.iter().map(|x| x.to_real()).sum::<f64>() / count,
            NormKind::RootMeanSquare => 0.0,
        };
        let square: f64 = row.iter().map(|x| (x.to_real() - mean).powi(2)).sum::<f64>() / count;
        [mean, (square + f64::from(self.epsilon)).sqrt().recip()]
    }
}

/// Which element of a smaller operand meets an element of the tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spread {
    /// The operand repeats.
    Cyclic,
    /// The operand's index for every element.
    Indexed(Vec<u32>),
}

impl Spread {
    fn at<P: CastElement>(&self, values: &[P], index: usize) -> f64 {
        match self {
            Spread::Cyclic => values[index % values.len()].to_real(),
            Spread::Indexed(indices) => values[indices[index] as usize].to_real(),
        }
    }
}

/// `out = (x - mean) inverse * scale + bias` for every row, in `f64`.
///
/// # Panics
/// If a slice has the wrong length or an index is out of range.
pub fn normalize_rows<T: CastElement, P: CastElement>(
    exec: Exec<'_>,
    norm: &RowNorm,
    scale: Option<(&[P], &Spread)>,
    bias: Option<(&[P], &Spread)>,
    x: &[T],
    out: &mut [P],
) {
    assert_eq!(x.len(), out.len(), "input and output lengths");
    let operand = |operand: Option<(&[P], &Spread)>, index: usize, absent: f64| {
        operand.map_or(absent, |(values, spread)| spread.at(values, index))
    };
    over_chunks(exec, out, norm.len, 8, &|first, chunk| {
        let x = &x[first * norm.len..][..chunk.len()];
        let rows = x.chunks_exact(norm.len).zip(chunk.chunks_exact_mut(norm.len));
        for (r, (row, out)) in rows.enumerate() {
            let [mean, inverse] = norm.statistics(row);
            for (i, (o, x)) in out.iter_mut().zip(row).enumerate() {
                let index = (first + r) * norm.len + i;
                let factor = operand(scale, index, 1.0);
                let normal = (x.to_real() - mean) * inverse;
                *o = P::from_real(normal * factor + operand(bias, index, 0.0));
            }
        }
    });
}

/// Mean and inverse standard deviation of every row.
///
/// # Panics
/// If `x` is not as many rows as `statistics`.
pub fn row_statistics<T: CastElement>(
    exec: Exec<'_>,
    norm: &RowNorm,
    x: &[T],
    statistics: &mut [[f64; 2]],
) {
    assert_eq!(x.len(), norm.len * statistics.len(), "length of the rows");
    over_chunks(exec, statistics, 1, norm.len.saturating_mul(4), &|first, chunk| {
        for (i, out) in chunk.iter_mut().enumerate() {
            *out = norm.statistics(&x[(first + i) * norm.len..][..norm.len]);
        }
    });
}
