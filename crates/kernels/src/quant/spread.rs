//! Which scale and zero point belong to which element.

/// How quantisation parameters spread over a row-major tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Elements of the tensor.
    len: usize,
    /// Parameters.
    parameters: usize,
    /// Contiguous elements that take parameters in one way; the lines follow each other.
    line: usize,
    /// Lines of one outer index.
    lines: usize,
    /// Lines that share a parameter, or a row of them.
    block: usize,
    /// Parameters, or rows of them, from one outer index to the next.
    outer: usize,
    /// Parameters in a row.
    width: usize,
    step: Step,
}

/// How parameters go along a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// One for the line.
    Uniform,
    /// One for each element.
    Each,
    /// One for so many elements.
    Every(usize),
}

/// A run of elements, relative to where an iteration began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The parameter of the first element.
    pub(super) first: usize,
    /// Whether the next elements take the next parameters rather than the same.
    pub(super) each: bool,
}

impl Spread {
    /// One parameter for all `len` elements.
    pub fn per_tensor(len: usize) -> Spread {
        Spread {
            len,
            parameters: 1,
            line: len.max(1),
            lines: 1,
            block: 1,
            outer: 0,
            width: 0,
            step: Step::Uniform,
        }
    }

    /// One parameter for each index along `axis`.
    ///
    /// # Panics
    /// If `axis` is not an axis of `dims`.
    pub fn per_axis(dims: &[usize], axis: usize) -> Spread {
        let inner: usize = dims[axis + 1..].iter().product();
        let (len, extent) = (dims.iter().product(), dims[axis]);
        let parameters = extent;
        if inner == 1 {
            let (line, lines, block, outer, width) = (extent.max(1), 1, 1, 0, 0);
            return Spread { len, parameters, line, lines, block, outer, width, step: Step::Each };
        }
        let (line, lines, block, outer, width) = (inner.max(1), extent.max(1), 1, 0, 1);
        Spread { len, parameters, line, lines, block, outer, width, step: Step::Uniform }
    }

    /// One parameter for each run of `block` elements along `axis`, the last one shorter: an array
    /// of the shape `dims` with `ceil(dims[axis] / block)` along `axis`.
    ///
    /// # Panics
    /// If `axis` is not an axis of `dims`, or `block` is zero.
    pub fn blocked(dims: &[usize], axis: usize, block: usize) -> Spread {
        assert!(block > 0, "blocks of no elements");
        let inner: usize = dims[axis + 1..].iter().product();
        let before: usize = dims[..axis].iter().product();
        let (len, extent) = (dims.iter().product(), dims[axis]);
        let outer = extent.div_ceil(block);
        let parameters = before * outer * inner;
        if inner == 1 {
            let (line, lines, width) = (extent.max(1), 1, 1);
            let step = Step::Every(block);
            return Spread { len, parameters, line, lines, block: 1, outer, width, step };
        }
        let (line, lines, width) = (inner.max(1), extent.max(1), inner);
        Spread { len, parameters, line, lines, block, outer, width, step: Step::Each }
    }

    /// Scales and zero points that there must be.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// Elements of the tensor.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn is_per_tensor(&self) -> bool {
        self.step == Step::Uniform && self.width == 0
    }

    /// Elements that must stay together when the tensor is divided.
    pub(super) fn unit(&self) -> usize {
        if self.is_per_tensor() { 1 } else { self.line }
    }

    /// The runs of `count` elements from `start`, a multiple of [`Spread::unit`].
    #[inline(always)]
    pub(super) fn lines(&self, start: usize, count: usize) -> impl Iterator<Item = Line> {
        let line = if self.is_per_tensor() { count.max(1) } else { self.line };
        let (piece, each) = match self.step {
            Step::Uniform => (line, false),
            Step::Each => (line, true),
            Step::Every(block) => (block, false),
        };
        let pieces = line.div_ceil(piece);
        let all = *self;
        (0..count.div_ceil(line) * pieces).map(move |index| {
            let (row, part) = (index / pieces, index % pieces);
            let from = row * line + part * piece;
            let to = (row * line + (part * piece + piece).min(line)).min(count);
            Line { from, to, first: all.first(start / line + row) + part, each }
        })
    }

    fn first(&self, line: usize) -> usize {
        (line / self.lines * self.outer + line % self.lines / self.block) * self.width
    }
}
