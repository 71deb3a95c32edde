//! Convolution whose taps are moved by given offsets. Source: J. Dai and others, "Deformable
//! Convolutional Networks" (2017); the mask is that of X. Zhu and others (2019).

use crate::Exec;
use crate::elementwise::CastElement;
use crate::parallel::over_range;
use crate::shared::SharedMut;

/// A deformable convolution of `[batch, channels, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeformableConv {
    /// Images.
    pub batch: usize,
    /// Input channels.
    pub channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Groups of weights; divides both.
    pub groups: usize,
    /// Groups of input channels that share offsets; divides the input channels.
    pub offset_groups: usize,
    /// Input height and width.
    pub input: [usize; 2],
    /// Output height and width.
    pub output: [usize; 2],
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Steps.
    pub stride: [usize; 2],
    /// Distances between taps.
    pub dilation: [usize; 2],
    /// Padding before.
    pub pad: [usize; 2],
}

/// Operands of a deformable convolution.
#[derive(Debug, Clone, Copy)]
pub struct DeformableOperands<'a, T> {
    /// `[batch, channels, height, width]`.
    pub x: &'a [T],
    /// `[out_channels, channels / groups, kernel...]`.
    pub w: &'a [T],
    /// `[batch, offset_groups, kernel..., 2, output...]`: vertical, then horizontal.
    pub offsets: &'a [T],
    /// `[out_channels]`.
    pub bias: Option<&'a [T]>,
    /// `[batch, offset_groups, kernel..., output...]`, factors of the taps.
    pub mask: Option<&'a [T]>,
}

impl DeformableConv {
    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Samples every channel under every tap of one output position: `column[channel, tap]`.
    fn column<T: CastElement>(
        &self,
        operands: &DeformableOperands<'_, T>,
        [image, position]: [usize; 2],
        column: &mut [f64],
    ) {
        let (taps, pixels) = (self.taps(), self.pixels());
        let area = self.input[0] * self.input[1];
        let members = self.channels / self.offset_groups;
        let out = [position / self.output[1], position % self.output[1]];
        for group in 0..self.offset_groups {
            for tap in 0..taps {
                let at = (image * self.offset_groups + group) * taps + tap;
                let step = [tap / self.kernel[1], tap % self.kernel[1]];
                let place = |axis: usize| {
                    let offset = operands.offsets[(at * 2 + axis) * pixels + position].to_real();
                    let regular = out[axis] * self.stride[axis] + step[axis] * self.dilation[axis];
                    regular as f64 - self.pad[axis] as f64 + offset
                };
                let mask = operands.mask.map_or(1.0, |m| m[at * pixels + position].to_real());
                let corners = self.corners([place(0), place(1)]);
                for channel in group * members..(group + 1) * members {
                    let plane = &operands.x[(image * self.channels + channel) * area..][..area];
                    let sum: f64 = corners
                        .iter()
                        .flatten()
                        .map(|&(pixel, weight)| weight * plane[pixel].to_real())
                        .sum();
                    column[channel * taps + tap] = sum * mask;
                }
            }
        }
    }

    /// The pixels around a place with their weights; none outside the image.
    fn corners(&self, place: [f64; 2]) -> [Option<(usize, f64)>; 4] {
        let [height, width] = self.input;
        let low = place.map(f64::floor);
        let part = [place[0] - low[0], place[1] - low[1]];
        [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)].map(|(dy, dx): (f64, f64)| {
            let (y, x) = (low[0] + dy, low[1] + dx);
            let inside = (0.0..height as f64).contains(&y) && (0.0..width as f64).contains(&x);
            let share = |far: f64, part: f64| if far == 1.0 { part } else { 1.0 - part };
            let weight = share(dy, part[0]) * share(dx, part[1]);
            inside.then(|| (y as usize * width + x as usize, weight))
        })
    }
}

/// Applies a deformable convolution, in `f64`.
///
/// # Panics
/// If a slice has the wrong length.
pub fn deformable_conv<T: CastElement>(
    exec: Exec<'_>,
    conv: &DeformableConv,
    operands: &DeformableOperands<'_, T>,
    out: &mut [T],
) {
    let (taps, pixels) = (conv.taps(), conv.pixels());
    let (inputs, outputs) = (conv.channels / conv.groups, conv.out_channels / conv.groups);
    let offsets = conv.batch * conv.offset_groups * taps * pixels;
    assert_eq!(operands.x.len(), conv.batch * conv.channels * conv.input[0] * conv.input[1], "x");
    assert_eq!(operands.w.len(), conv.out_channels * inputs * taps, "weights length");
    assert_eq!(operands.offsets.len(), offsets * 2, "offsets length");
    assert!(operands.mask.is_none_or(|mask| mask.len() == offsets), "mask length");
    assert!(operands.bias.is_none_or(|bias| bias.len() == conv.out_channels), "bias length");
    assert_eq!(out.len(), conv.batch * conv.out_channels * pixels, "output length");
    let shared = SharedMut::new(out);
    let cost = (conv.out_channels * inputs + conv.channels * 8).saturating_mul(taps);
    over_range(exec, conv.batch * pixels, cost, &|range| {
        let mut column = vec![0.0; conv.channels * taps];
        for index in range {
            let (image, position) = (index / pixels, index % pixels);
            conv.column(operands, [image, position], &mut column);
            for o in 0..conv.out_channels {
                let weights = &operands.w[o * inputs * taps..][..inputs * taps];
                let values = &column[o / outputs * inputs * taps..];
                let products = weights.iter().zip(values).map(|(w, x)| w.to_real() * x);
                let bias = operands.bias.map_or(0.0, |bias| bias[o].to_real());
                let value = T::from_real(bias + products.sum::<f64>());
                let at = (image * conv.out_channels + o) * pixels + position;
                // SAFETY: every (output channel, position) is written by the position's part.
                unsafe { shared.range(at, 1)[0] = value };
            }
        }
    });
}
