//! Normalisation over any axes of a tensor.

use crate::Exec;
use crate::elementwise::CastElement;
use crate::parallel::over_range;
use crate::shared::SharedMut;

/// What the elements of a line are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineNorm {
    /// `Σ |x|`.
    L1,
    /// `sqrt(Σ x²)`.
    L2,
    /// The mean is taken away, then by the standard deviation plus 1e-9.
    MeanVariance,
}

/// Lines of elements normalised together: element `i` of line `l` is at `starts[l] + steps[i]`.
/// Every element of the tensor is in exactly one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    pub(super) starts: Vec<usize>,
    pub(super) steps: Vec<usize>,
}

impl Lines {
    /// The lines of a row-major tensor along the marked axes.
    ///
    /// # Panics
    /// If `along` is not as long as `shape`.
    pub fn along(shape: &[usize], along: &[bool]) -> Lines {
        assert_eq!(shape.len(), along.len(), "one mark for every axis");
        let offsets = |wanted: bool| {
            let mut offsets = vec![0];
            for axis in (0..shape.len()).filter(|&axis| along[axis] == wanted) {
                let stride: usize = shape[axis + 1..].iter().product();
                let next = |&start: &usize| (0..shape[axis]).map(move |i| start + i * stride);
                offsets = offsets.iter().flat_map(next).collect();
            }
            offsets
        };
        Lines { starts: offsets(false), steps: offsets(true) }
    }

    fn elements(&self) -> usize {
        self.starts.len() * self.steps.len()
    }
}

/// Normalises every line, in `f64`. A line whose norm is zero gives zeros.
///
/// # Panics
/// If a slice has the wrong length.
pub fn normalize_lines<T: CastElement>(
    exec: Exec<'_>,
    norm: LineNorm,
    lines: &Lines,
    x: &[T],
    out: &mut [T],
) {
    assert_eq!(x.len(), lines.elements(), "length of the tensor");
    assert_eq!(x.len(), out.len(), "input and output lengths");
    let shared = SharedMut::new(out);
    let cost = lines.steps.len().saturating_mul(4);
    over_range(exec, lines.starts.len(), cost, &|range| {
        for &start in &lines.starts[range] {
            let values = || lines.steps.iter().map(|&step| x[start + step].to_real());
            let (mean, divisor) = match norm {
                LineNorm::L1 => (0.0, values().map(f64::abs).sum()),
                LineNorm::L2 => (0.0, values().map(|x| x * x).sum::<f64>().sqrt()),
                LineNorm::MeanVariance => {
                    let count = lines.steps.len() as f64;
                    let mean = values().sum::<f64>() / count;
                    let square: f64 = values().map(|x| (x - mean) * (x - mean)).sum();
                    (mean, (square / count).sqrt() + 1e-9)
                }
            };
            let divisor = if divisor == 0.0 { 1.0 } else { divisor };
            for (&step, value) in lines.steps.iter().zip(values()) {
                // SAFETY: every element is in exactly one line, and parts have their own lines.
                unsafe {
                    shared.range(start + step, 1)[0] = T::from_real((value - mean) / divisor)
                };
            }
        }
    });
}
