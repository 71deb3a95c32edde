//! Direct pooling over planes of contiguous pixels.

use super::Window3d;
use crate::Exec;
use crate::elementwise::{Float, Wide};
use crate::parallel::over_chunks;

/// What is computed of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PoolFn {
    /// Largest element.
    Max,
    /// Mean of the elements inside the input.
    Average,
    /// Sum divided by the elements inside the padded input.
    AverageWithPadding,
    /// `(Σ |x|^p)^(1/p)`.
    Norm(f64),
}

/// Pooling of `[planes, spatial...]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DirectPool {
    /// Windows.
    pub window: Window3d,
    /// Padding after every axis, which bounds what `AverageWithPadding` counts.
    pub pad_end: [usize; super::SPATIAL],
    /// What is computed.
    pub function: PoolFn,
}

impl DirectPool {
    /// Taps of the window at `out` that lie inside the padded input.
    fn padded_taps(&self, out: [usize; super::SPATIAL]) -> usize {
        let w = &self.window;
        let along = |axis: usize| {
            let limit = w.input[axis] + w.pad[axis] + self.pad_end[axis];
            let start = out[axis] * w.stride[axis];
            (0..w.kernel[axis]).filter(|tap| start + tap * w.dilation[axis] < limit).count()
        };
        (0..super::SPATIAL).map(along).product()
    }
}

/// Pools every plane.
///
/// # Panics
/// If a slice has the wrong length.
pub fn direct_pool<T: Float>(exec: Exec<'_>, pool: &DirectPool, input: &[T], out: &mut [T]) {
    let w = &pool.window;
    let (pixels, outputs) = (w.input.iter().product::<usize>(), w.output.iter().product::<usize>());
    let zero = <T::Wide as Wide>::of(0.0);
    over_chunks(exec, out, outputs, 8, &|first, chunk| {
        for (k, plane) in chunk.chunks_exact_mut(outputs).enumerate() {
            let source = &input[(first + k) * pixels..][..pixels];
            for (o, position) in plane.iter_mut().zip(w.positions()) {
                let (mut sum, mut count) = (zero, 0usize);
                let mut largest: Option<T> = None;
                w.taps(position, |_, [z, y, x]| {
                    let value = source[(z * w.input[1] + y) * w.input[2] + x];
                    count += 1;
                    match pool.function {
                        PoolFn::Max => {
                            let better = largest.is_none_or(|m| value > m);
                            largest = if better { Some(value) } else { largest };
                        }
                        PoolFn::Norm(p) => {
                            let magnitude = value.widen().to_f64().abs();
                            sum = sum + <T::Wide as Wide>::of(magnitude.powf(p));
                        }
                        _ => sum = sum + value.widen(),
                    }
                });
                let mean = |count: usize| T::narrow(sum / <T::Wide as Wide>::of(count as f64));
                *o = match pool.function {
                    PoolFn::Max => {
                        largest.unwrap_or(T::narrow(<T::Wide as Wide>::of(f64::NEG_INFINITY)))
                    }
                    PoolFn::Average => mean(count.max(1)),
                    PoolFn::AverageWithPadding => mean(pool.padded_taps(position).max(1)),
                    PoolFn::Norm(p) => {
                        T::narrow(<T::Wide as Wide>::of(sum.to_f64().powf(p.recip())))
                    }
                };
            }
        }
    });
}
