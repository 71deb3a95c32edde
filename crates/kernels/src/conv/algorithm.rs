//! Which algorithm computes a convolution.

use super::{Conv2d, conv2d, winograd};
use crate::Exec;
use crate::gemm::{Epilogue, RowsMut};

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

    /// The algorithm of that name.
    pub fn from_name(name: &str) -> Option<ConvAlgorithm> {
        ConvAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl Conv2d {
    /// The algorithms that can compute this convolution, the simplest first.
    pub fn algorithms(&self) -> &'static [ConvAlgorithm] {
        let w = &self.window;
        let plain = w.kernel == [3, 3] && w.stride == [1, 1] && w.dilation == [1, 1];
        if plain && self.groups == 1 { &ConvAlgorithm::ALL } else { &[ConvAlgorithm::Gemm] }
    }

    /// The algorithm that is expected to be fastest.
    pub fn algorithm(&self) -> ConvAlgorithm {
        let w = &self.window;
        match self.algorithms().contains(&ConvAlgorithm::Winograd4) && w.channels >= 16 {
            true if w.out_height.max(w.out_width) > 14 => ConvAlgorithm::Winograd4,
            true => ConvAlgorithm::Winograd2,
            false => ConvAlgorithm::Gemm,
        }
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
