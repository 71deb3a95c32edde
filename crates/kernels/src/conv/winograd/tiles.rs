//! Where tiles lie, and the memory of a block of them.

use std::ops::Range;

use super::super::Window2d;
use crate::gemm::PANEL;

/// The outputs of all images as tiles of `edge` by `edge`; the last of a row or column may be cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    edge: usize,
    down: usize,
    across: usize,
}

/// One tile: its image and the output position of its first element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    pub(super) image: usize,
    pub(super) y: usize,
    pub(super) x: usize,
}

impl Tiles {
    pub(super) fn new(w: &Window2d, edge: usize) -> Tiles {
        Tiles { edge, down: w.out_height.div_ceil(edge), across: w.out_width.div_ceil(edge) }
    }

    /// Tiles of one image.
    pub(super) fn per_image(&self) -> usize {
        self.down * self.across
    }

    pub(super) fn at(&self, index: usize) -> Tile {
        let line = index / self.across;
        Tile {
            image: line / self.down,
            y: line % self.down * self.edge,
            x: index % self.across * self.edge,
        }
    }
}

impl Tile {
    /// Rows (axis 0) or columns (axis 1) of the tile's `n` inputs that are inside the image.
    pub(super) fn inside(&self, w: &Window2d, axis: usize, n: usize) -> Range<usize> {
        let (first, size) = if axis == 0 { (self.y, w.height) } else { (self.x, w.width) };
        let pad = w.pads[axis];
        let start = pad.saturating_sub(first).min(n);
        let end = (size + pad).saturating_sub(first).min(n);
        start..end.max(start)
    }

    /// Rows (axis 0) or columns (axis 1) of the tile's `m` outputs that exist.
    pub(super) fn outputs(&self, w: &Window2d, axis: usize, m: usize) -> usize {
        let rest = if axis == 0 { w.out_height - self.y } else { w.out_width - self.x };
        rest.min(m)
    }
}

/// Transformed inputs `[product][tile][channel]` of a block of tiles. Rows and planes are an odd
/// number of cache lines apart: powers of two would meet in one set of the cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planes {
    /// Elements from a tile to the next.
    pub(super) row: usize,
    /// Elements from a product's plane to the next.
    pub(super) plane: usize,
}

impl Planes {
    pub(super) fn new(tiles: usize, channels: usize) -> Planes {
        let odd = |lines: usize| (lines | 1) * PANEL;
        let row = odd(channels.div_ceil(PANEL));
        Planes { row, plane: odd(tiles * row / PANEL) }
    }
}
