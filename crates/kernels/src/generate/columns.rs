//! Images from the columns that convolution windows cut out of them.

use crate::generic::Window3d;
use crate::reduce::Reducible;

/// Adds every block's elements where the block was cut from. `columns` are
/// `[batch, channels · taps, blocks]`; `images` are `[batch, channels, spatial...]`. In `window` the
/// input is the image and the outputs are the blocks.
///
/// # Panics
/// If a length does not fit the window.
pub fn columns_to_image<T: Reducible>(window: &Window3d, columns: &[T], images: &mut [T]) {
    let product = |extents: [usize; 3]| extents.iter().product::<usize>();
    let (taps, blocks) = (product(window.kernel), product(window.output));
    let pixels = product(window.input);
    images.fill(T::element(T::ZERO));
    if images.is_empty() || columns.is_empty() {
        return;
    }
    assert_eq!(images.len() / pixels * taps * blocks, columns.len(), "operand length");
    let planes = images.chunks_exact_mut(pixels).zip(columns.chunks_exact(taps * blocks));
    let mut sums = vec![T::ZERO; pixels];
    for (image, columns) in planes {
        sums.fill(T::ZERO);
        for (block, at) in window.positions().enumerate() {
            window.taps(at, |tap, [z, y, x]| {
                let sum = &mut sums[(z * window.input[1] + y) * window.input[2] + x];
                *sum = T::add(*sum, columns[tap * blocks + block].accumulator());
            });
        }
        for (o, &sum) in image.iter_mut().zip(&sums) {
            *o = T::element(sum);
        }
    }
}
