//! Windows over channels-last images.

use std::ops::Range;

/// Geometry of windows sliding over images `[batch, height, width, channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window2d {
    /// Images.
    pub batch: usize,
    /// Input rows.
    pub height: usize,
    /// Input columns.
    pub width: usize,
    /// Input channels.
    pub channels: usize,
    /// Window height and width, at least 1.
    pub kernel: [usize; 2],
    /// Steps between windows, at least 1.
    pub stride: [usize; 2],
    /// Distances between taps, at least 1.
    pub dilation: [usize; 2],
    /// Padding at the top, left, bottom and right.
    pub pads: [usize; 4],
    /// Output rows.
    pub out_height: usize,
    /// Output columns.
    pub out_width: usize,
}

impl Window2d {
    /// Undilated, unpadded windows of step 1 over images `[batch, height, width, channels]`; chain
    /// the other methods to change that.
    pub fn new([batch, height, width, channels]: [usize; 4], kernel: [usize; 2]) -> Window2d {
        let window = Window2d {
            batch,
            height,
            width,
            channels,
            kernel,
            stride: [1, 1],
            dilation: [1, 1],
            pads: [0; 4],
            out_height: 0,
            out_width: 0,
        };
        window.sized(false)
    }

    /// With steps between windows.
    pub fn with_stride(self, stride: [usize; 2]) -> Window2d {
        Window2d { stride, ..self }.sized(false)
    }

    /// With distances between taps.
    pub fn with_dilation(self, dilation: [usize; 2]) -> Window2d {
        Window2d { dilation, ..self }.sized(false)
    }

    /// With padding at the top, left, bottom and right.
    pub fn with_pads(self, pads: [usize; 4]) -> Window2d {
        Window2d { pads, ..self }.sized(false)
    }

    /// With the last window allowed to hang over the padding's end. As in ONNX, a window that would
    /// begin in the bottom or right padding is dropped.
    pub fn with_ceil_mode(self) -> Window2d {
        self.sized(true)
    }

    fn sized(self, ceil: bool) -> Window2d {
        let out = |axis: usize, size: usize| {
            let reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            let padded = size + self.pads[axis] + self.pads[axis + 2];
            let Some(room) = padded.checked_sub(reach) else { return 0 };
            let stride = self.stride[axis];
            let count = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
            let begins_inside = (count - 1) * stride < size + self.pads[axis];
            if ceil && !begins_inside { count - 1 } else { count }
        };
        Window2d { out_height: out(0, self.height), out_width: out(1, self.width), ..self }
    }

    /// Output positions: rows of the output matrix.
    pub fn positions(&self) -> usize {
        self.batch * self.out_height * self.out_width
    }

    /// Taps of a window.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }

    /// Input elements from a tap to the next along the kernel's height and width.
    pub(crate) fn tap_steps(&self) -> [usize; 2] {
        [self.dilation[0] * self.width * self.channels, self.dilation[1] * self.channels]
    }

    /// Taps along `axis` (0 height, 1 width) of the window at output index `out` that meet the
    /// input.
    #[inline]
    pub(crate) fn valid_taps(&self, axis: usize, out: usize) -> Range<usize> {
        let size = if axis == 0 { self.height } else { self.width };
        let (dilation, pad) = (self.dilation[axis], self.pads[axis]);
        let start = out * self.stride[axis];
        let taps = |reach: usize| if dilation == 1 { reach } else { reach.div_ceil(dilation) };
        let first = taps(pad.saturating_sub(start));
        let end = taps((size + pad).saturating_sub(start));
        let end = end.min(self.kernel[axis]);
        first.min(end)..end
    }

    /// Output indices along `axis` whose windows lie wholly inside the input.
    pub(crate) fn interior(&self, axis: usize) -> Range<usize> {
        let count = if axis == 0 { self.out_height } else { self.out_width };
        let size = if axis == 0 { self.height } else { self.width };
        let reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
        let (stride, pad) = (self.stride[axis], self.pads[axis]);
        let first = pad.div_ceil(stride);
        let end = (size + pad).checked_sub(reach).map_or(0, |room| room / stride + 1).min(count);
        first.min(end)..end
    }

    /// Input index along `axis` of a tap that is valid for output index `out`.
    #[inline]
    pub(crate) fn input_index(&self, axis: usize, out: usize, tap: usize) -> usize {
        out * self.stride[axis] + tap * self.dilation[axis] - self.pads[axis]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn valid_taps_are_those_inside(
            size in 1usize..12, kernel in 1usize..5, stride in 1usize..4, dilation in 1usize..4,
            (before, after) in (0usize..5, 0usize..5), ceil: bool,
        ) {
            let mut w = Window2d::new([1, size, 1, 1], [kernel, 1])
                .with_stride([stride, 1])
                .with_dilation([dilation, 1])
                .with_pads([before, 0, after, 0]);
            if ceil {
                w = w.with_ceil_mode();
            }
            let at = |out: usize, tap: usize| (out * stride + tap * dilation) as isize
                - before as isize;
            let inside = |i: isize| i >= 0 && i < size as isize;
            for out in 0..w.out_height {
                let valid = w.valid_taps(0, out);
                for tap in 0..kernel {
                    prop_assert_eq!(valid.contains(&tap), inside(at(out, tap)));
                }
                let whole = valid == (0..kernel);
                prop_assert_eq!(w.interior(0).contains(&out), whole);
            }
        }
    }

    #[test]
    fn output_sizes_follow_onnx() {
        let w = Window2d::new([1, 224, 224, 3], [7, 7]).with_stride([2, 2]).with_pads([3; 4]);
        assert_eq!((w.out_height, w.out_width), (112, 112));
        let w = Window2d::new([1, 4, 4, 1], [3, 3]).with_stride([2, 2]);
        assert_eq!((w.out_height, w.with_ceil_mode().out_height), (1, 2));
        assert_eq!(Window2d::new([1, 2, 5, 1], [3, 3]).positions(), 0);
    }
}
