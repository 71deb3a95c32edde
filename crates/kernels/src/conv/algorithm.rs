//! Which algorithm computes a convolution.
//!
//! A matrix product over windows runs at nine tenths of the peak of multiply-adds, so only fewer
//! multiply-adds are faster: Winograd's tiles of 2 by 2 need 4 instead of 9 for an output, those
//! of 4 by 4 need 2.25. Against that stand their transforms, outputs computed beyond the image's
//! edge (7 by 7 is 4 tiles of 4 by 4, a quarter of it waste), and weights 16/9 and 4 times as
//! large, which every run reads from memory where a model's weights exceed the caches. The choice
//! counts these three for one image: all numbers of images and threads share the weights' layout.
//!
//! Tiles of 6 by 6 would need 1.78 multiplications for an output, 1.27 times fewer than 4 by 4.
//! They are left out: their rounding errors are 8 to 12 times those of the direct sum (in the
//! study that gave 1.7 to 2 for 4 by 4), weights grow 7 times, and few sizes of images are near a
//! multiple. What tiles make of errors and of inputs that are not finite: see `winograd`.

use super::winograd::Edge;
use super::{Conv2d, conv2d, winograd};
use crate::Exec;
use crate::gemm::{Epilogue, PANEL, RowsMut};

/// Weights read from memory in the time of a fused multiply-add of 16 lanes: 30 GB/s at 3.7 GHz.
const WEIGHTS_A_CYCLE: usize = 2;

/// What a value of a tile costs on its way into or out of the products, in that unit and for 16
/// channels at a time, as measured on a Zen 4 core.
const VALUE_CYCLES: usize = 9;

/// How a convolution is computed. Each has its own layout of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConvAlgorithm {
    /// A matrix product over windows of the image, or, if depthwise, directly.
    Gemm,
    /// Tiles of 2 by 2 outputs by Winograd's algorithm.
    Winograd2,
    /// Tiles of 4 by 4 outputs by Winograd's algorithm.
    Winograd4,
}

impl ConvAlgorithm {
    /// All algorithms.
    pub const ALL: [ConvAlgorithm; 3] =
        [ConvAlgorithm::Gemm, ConvAlgorithm::Winograd2, ConvAlgorithm::Winograd4];

    /// A stable name.
    pub fn name(self) -> &'static str {
        match self {
            ConvAlgorithm::Gemm => "gemm",
            ConvAlgorithm::Winograd2 => "winograd2",
            ConvAlgorithm::Winograd4 => "winograd4",
        }
    }
}

impl Conv2d {
    /// The algorithms that can compute this convolution, the simplest first.
    pub fn algorithms(&self) -> &'static [ConvAlgorithm] {
        let w = &self.window;
        let plain = w.kernel == [3, 3] && w.stride == [1, 1] && w.dilation == [1, 1];
        if plain && self.groups == 1 { &ConvAlgorithm::ALL } else { &[ConvAlgorithm::Gemm] }
    }

    /// The algorithm that is expected to be fastest for images of this size, whatever their number
    /// and the number of threads: all runs share one layout of weights.
    pub fn algorithm(&self) -> ConvAlgorithm {
        let fastest = self.algorithms().iter().min_by_key(|algorithm| self.cycles(**algorithm));
        fastest.copied().unwrap_or(ConvAlgorithm::Gemm)
    }

    /// The f32 algorithm that is expected to be faster than a matrix product of bf16 operands,
    /// which takes about half the time of one in f32; `None` if there is none.
    pub fn algorithm_beyond_bf16(&self) -> Option<ConvAlgorithm> {
        let fastest = self.algorithm();
        (self.cycles(fastest) < self.cycles(ConvAlgorithm::Gemm) / 2).then_some(fastest)
    }

    /// The time that an algorithm is expected to take for one image, in fused multiply-adds of 16
    /// lanes.
    fn cycles(&self, algorithm: ConvAlgorithm) -> usize {
        let w = &self.window;
        let (channels, outputs) = (w.channels.div_ceil(PANEL), self.out_channels.div_ceil(PANEL));
        let Some(edge) = algorithm.edge().map(Edge::outputs) else {
            let positions = w.out_height.saturating_mul(w.out_width);
            let sums = positions.saturating_mul(w.taps() * w.channels).saturating_mul(outputs);
            return sums.max(self.packed_weights_len() / WEIGHTS_A_CYCLE);
        };
        let tiles = w.out_height.div_ceil(edge).saturating_mul(w.out_width.div_ceil(edge));
        let products = (edge + 2) * (edge + 2);
        let sums = products * w.channels * outputs;
        let transforms = products * VALUE_CYCLES * (channels + outputs);
        tiles.saturating_mul(sums + transforms).max(self.packed_len(algorithm) / WEIGHTS_A_CYCLE)
    }

    /// Elements of the weights packed for an algorithm.
    pub fn packed_len(&self, algorithm: ConvAlgorithm) -> usize {
        match algorithm.edge() {
            None => self.packed_weights_len(),
            Some(edge) => winograd::packed_len(self, edge),
        }
    }

    /// Packs weights `[out_channels, channels / groups, kernel height, kernel width]` for an
    /// algorithm.
    ///
    /// # Panics
    /// If a slice has the wrong length or the algorithm is not one of [`Conv2d::algorithms`].
    pub fn pack(&self, algorithm: ConvAlgorithm, weights: &[f32], out: &mut [f32]) {
        assert!(self.algorithms().contains(&algorithm), "{algorithm:?} cannot compute {self:?}");
        assert_eq!(weights.len(), self.out_channels * self.depth(), "weights of the wrong length");
        assert_eq!(out.len(), self.packed_len(algorithm), "packed weights of the wrong length");
        match algorithm.edge() {
            None => self.pack_weights(weights, out),
            Some(edge) => winograd::pack(self, edge, weights, out),
        }
    }
}

/// [`conv2d`] by an algorithm, with weights that [`Conv2d::pack`] packed for it.
///
/// # Panics
/// If an operand is shorter than its shape or the algorithm is not one of [`Conv2d::algorithms`].
pub fn conv2d_by(
    exec: Exec<'_>,
    algorithm: ConvAlgorithm,
    conv: &Conv2d,
    input: &[f32],
    weights: &[f32],
    epilogue: &Epilogue<'_>,
    mut out: RowsMut<'_>,
) {
    let Some(edge) = algorithm.edge() else {
        conv2d(exec, conv, input, weights, epilogue, out);
        return;
    };
    assert!(conv.algorithms().contains(&algorithm), "{algorithm:?} cannot compute {conv:?}");
    assert_eq!(weights.len(), conv.packed_len(algorithm), "packed weights of the wrong length");
    assert_eq!(input.len(), conv.window.input_len(), "input of the wrong length");
    winograd::run(exec, conv, edge, input, weights, epilogue, &mut out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Window2d;

    fn choice(size: usize, channels: usize, outputs: usize) -> ConvAlgorithm {
        let window = Window2d::new([1, size, size, channels], [3, 3]).with_pads([1; 4]);
        Conv2d { window, out_channels: outputs, groups: 1 }.algorithm()
    }

    #[test]
    fn small_images_of_many_channels_are_left_to_bf16() {
        let conv = |size: usize, channels: usize| {
            let window = Window2d::new([1, size, size, channels], [3, 3]).with_pads([1; 4]);
            Conv2d { window, out_channels: channels, groups: 1 }.algorithm_beyond_bf16()
        };
        assert_eq!(conv(14, 256), Some(ConvAlgorithm::Winograd4));
        assert_eq!(conv(56, 64), Some(ConvAlgorithm::Winograd4));
        assert_eq!(conv(7, 512), None);
    }

    #[test]
    fn large_images_take_large_tiles() {
        for (size, channels, outputs) in
            [(224, 64, 64), (56, 128, 32), (28, 512, 512), (14, 256, 256), (7, 128, 32)]
        {
            assert_eq!(choice(size, channels, outputs), ConvAlgorithm::Winograd4, "{size}");
        }
    }

    #[test]
    fn weights_that_outweigh_the_arithmetic_stay_small() {
        assert_eq!(choice(7, 512, 512), ConvAlgorithm::Winograd2);
        assert_eq!(choice(1, 512, 512), ConvAlgorithm::Gemm);
    }

    #[test]
    fn few_channels_are_not_worth_transforms() {
        assert_eq!(choice(224, 3, 64), ConvAlgorithm::Gemm);
        assert_eq!(choice(224, 1, 1), ConvAlgorithm::Gemm);
    }

    #[test]
    fn other_windows_have_one_algorithm() {
        let window = Window2d::new([1, 9, 9, 64], [3, 3]);
        let conv = Conv2d { window, out_channels: 64, groups: 1 };
        assert_eq!(conv.algorithms(), ConvAlgorithm::ALL);
        for other in [
            Conv2d { window: window.with_stride([1, 2]), ..conv },
            Conv2d { window: window.with_dilation([2, 1]), ..conv },
            Conv2d { window: Window2d::new([1, 9, 9, 64], [3, 1]), ..conv },
            Conv2d { groups: 2, ..conv },
        ] {
            assert_eq!(other.algorithms(), [ConvAlgorithm::Gemm]);
            assert_eq!(other.algorithm(), ConvAlgorithm::Gemm);
        }
    }
}
