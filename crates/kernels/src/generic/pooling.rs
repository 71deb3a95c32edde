//! Direct pooling over planes of contiguous pixels.

use super::Window3d;
use crate::Exec;
use crate::elementwise::{Float, Wide};
use crate::parallel::{over_chunks, over_range};
use crate::shared::SharedMut;

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

/// Which element of a window a maximum was.
#[derive(Debug)]
pub struct MaxIndices<'a> {
    /// For every output the element's index in the whole input.
    pub indices: &'a mut [i64],
    /// Count the last spatial axis slowest within a plane, not fastest.
    pub column_major: bool,
}

/// Largest element of every window of every plane, and where it was; the first of equals.
/// Windows without elements give `lowest` at index 0 of their plane.
///
/// # Panics
/// If a slice has the wrong length.
pub fn direct_max_pool<T: Copy + PartialOrd + Send + Sync>(
    exec: Exec<'_>,
    w: &Window3d,
    lowest: T,
    input: &[T],
    out: &mut [T],
    indices: Option<MaxIndices<'_>>,
) {
    let (pixels, outputs) = (w.input.iter().product::<usize>(), w.output.iter().product::<usize>());
    if out.is_empty() {
        return;
    }
    let planes = out.len() / outputs;
    assert_eq!(input.len(), planes * pixels, "input length");
    assert!(indices.as_ref().is_none_or(|i| i.indices.len() == out.len()), "indices length");
    let column_major = indices.as_ref().is_some_and(|i| i.column_major);
    let shared = SharedMut::new(out);
    let places = indices.map(|i| SharedMut::new(i.indices));
    let cost = outputs.saturating_mul(w.kernel.iter().product::<usize>());
    over_range(exec, planes, cost, &|range| {
        for plane in range {
            let source = &input[plane * pixels..][..pixels];
            // SAFETY: parts own disjoint planes.
            let out = unsafe { shared.range(plane * outputs, outputs) };
            // SAFETY: as above.
            let mut places = places.map(|p| unsafe { p.range(plane * outputs, outputs) });
            for (i, position) in w.positions().enumerate() {
                let mut best: Option<(T, usize)> = None;
                w.taps(position, |_, [z, y, x]| {
                    let value = source[(z * w.input[1] + y) * w.input[2] + x];
                    if best.is_none_or(|(largest, _)| value > largest) {
                        let column = (x * w.input[1] + y) * w.input[0] + z;
                        let row = (z * w.input[1] + y) * w.input[2] + x;
                        best = Some((value, if column_major { column } else { row }));
                    }
                });
                let (value, at) = best.unwrap_or((lowest, 0));
                out[i] = value;
                if let Some(places) = &mut places {
                    places[i] = (plane * pixels + at) as i64;
                }
            }
        }
    });
}
