//! Which elements a reduction combines, as merged axes.

/// An axis walked outside the innermost loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    extent: usize,
    stride: usize,
}

/// The innermost merged axis, contiguous in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inner {
    /// Elements that one result combines.
    Reduced(usize),
    /// Neighbouring results.
    Kept(usize),
}

/// Which axes of a tensor are reduced. Neighbouring axes of one kind are one axis, so that an
/// innermost loop is as long as it can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReduceLayout {
    kept: Vec<Step>,
    reduced: Vec<Step>,
    pub(super) inner: Inner,
    pub(super) count: usize,
    pub(super) results: usize,
}

impl ReduceLayout {
    /// A tensor of extents `dims`, of which the axes marked in `reduced` are combined.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn new(dims: &[usize], reduced: &[bool]) -> ReduceLayout {
        assert_eq!(dims.len(), reduced.len());
        let extents = |of: bool| dims.iter().zip(reduced).filter(move |(_, r)| **r == of);
        let total = |of: bool| extents(of).fold(1usize, |n, (dim, _)| n.saturating_mul(*dim));
        let (count, results) = (total(true), total(false));
        let mut layout = ReduceLayout {
            kept: Vec::new(),
            reduced: Vec::new(),
            inner: Inner::Reduced(1),
            count,
            results,
        };
        if count == 0 || results == 0 {
            return layout;
        }
        let mut merged: Vec<(usize, bool)> = Vec::with_capacity(dims.len());
        for (&dim, &flag) in dims.iter().zip(reduced).filter(|(dim, _)| **dim != 1) {
            match merged.last_mut() {
                Some((extent, same)) if *same == flag => *extent *= dim,
                _ => merged.push((dim, flag)),
            }
        }
        let mut stride = 1;
        for (depth, &(extent, flag)) in merged.iter().rev().enumerate() {
            match (depth, flag) {
                (0, true) => layout.inner = Inner::Reduced(extent),
                (0, false) => layout.inner = Inner::Kept(extent),
                (_, true) => layout.reduced.push(Step { extent, stride }),
                (_, false) => layout.kept.push(Step { extent, stride }),
            }
            stride *= extent;
        }
        layout
    }

    /// Elements of the source.
    pub fn source_len(&self) -> usize {
        self.count * self.results
    }

    /// The first source element of row `row` of results (of one result if the innermost axis is
    /// reduced).
    #[inline(always)]
    pub(super) fn base(&self, row: usize) -> usize {
        let mut rest = row;
        let mut base = 0;
        for step in &self.kept {
            base += rest % step.extent * step.stride;
            rest /= step.extent;
        }
        base
    }

    /// The walk over all reduced axes outside the innermost loop.
    #[inline(always)]
    pub(super) fn walk(&self) -> Walk<'_> {
        Walk::new(&self.reduced)
    }

    /// The walk over those outside the innermost reduced axis, and that axis' extent. Only for a
    /// kept innermost axis, whose rows then follow one another.
    #[inline(always)]
    pub(super) fn walk_blocks(&self) -> (Walk<'_>, usize) {
        match self.reduced.split_first() {
            Some((first, rest)) => (Walk::new(rest), first.extent),
            None => (Walk::new(&[]), 1),
        }
    }
}

/// Source offsets in turn.
pub(super) struct Walk<'a> {
    steps: &'a [Step],
    position: [usize; landfall_tensor::MAX_RANK],
    offset: usize,
    left: usize,
}

impl<'a> Walk<'a> {
    #[inline(always)]
    fn new(steps: &'a [Step]) -> Walk<'a> {
        let left = steps.iter().map(|step| step.extent).product();
        Walk { steps, position: [0; landfall_tensor::MAX_RANK], offset: 0, left }
    }
}

impl Iterator for Walk<'_> {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let offset = self.offset;
        for (position, step) in self.position.iter_mut().zip(self.steps) {
            *position += 1;
            self.offset += step.stride;
            if *position < step.extent {
                break;
            }
            *position = 0;
            self.offset -= step.stride * step.extent;
        }
        Some(offset)
    }
}
