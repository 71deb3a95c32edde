//! Direct loops for every type, rank and layout: what runs where no fast kernel fits, and the slow
//! twin that fast kernels are tested against.

mod convolution;
mod matmul;
mod pooling;
mod transposed;

pub use convolution::{DirectConv, direct_conv};
pub use matmul::{Product, Scalar, matmul_direct};
pub use pooling::{DirectPool, MaxIndices, PoolFn, direct_max_pool, direct_pool};
pub use transposed::direct_transposed;

/// Spatial axes that direct loops handle; fewer are padded with extents of 1.
pub const SPATIAL: usize = 3;

/// Geometry of windows along three spatial axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window3d {
    /// Input extents.
    pub input: [usize; SPATIAL],
    /// Output extents.
    pub output: [usize; SPATIAL],
    /// Kernel extents.
    pub kernel: [usize; SPATIAL],
    /// Steps.
    pub stride: [usize; SPATIAL],
    /// Distances between taps.
    pub dilation: [usize; SPATIAL],
    /// Padding before.
    pub pad: [usize; SPATIAL],
}

impl Window3d {
    /// Calls `visit(tap, position)` for every tap of the window at `out` that lies inside the
    /// input.
    pub(crate) fn taps(
        &self,
        out: [usize; SPATIAL],
        mut visit: impl FnMut(usize, [usize; SPATIAL]),
    ) {
        let inside = |axis: usize, tap: usize| {
            let at = out[axis] * self.stride[axis] + tap * self.dilation[axis];
            at.checked_sub(self.pad[axis]).filter(|&at| at < self.input[axis])
        };
        for i in 0..self.kernel[0] {
            let Some(z) = inside(0, i) else { continue };
            for j in 0..self.kernel[1] {
                let Some(y) = inside(1, j) else { continue };
                for k in 0..self.kernel[2] {
                    let Some(x) = inside(2, k) else { continue };
                    visit((i * self.kernel[1] + j) * self.kernel[2] + k, [z, y, x]);
                }
            }
        }
    }

    /// Output positions in order.
    pub(crate) fn positions(&self) -> impl Iterator<Item = [usize; SPATIAL]> + '_ {
        let [a, b, c] = self.output;
        (0..a * b * c).map(move |i| [i / (b * c), i / c % b, i % c])
    }
}
