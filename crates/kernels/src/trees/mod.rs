//! Ensembles of decision trees.
//!
//! A [`Forest`] is made once from a description of its trees and evaluated many times. The
//! decisions behind its layout:
//!
//! - Every kind of test becomes one unsigned comparison `key > threshold`. Reals are mapped to
//!   integers of the same order, strict tests move the threshold by one, and `≥` and `>` swap the
//!   children. Tests of equality and of set membership read a *derived column*, 0 or 1, computed
//!   once for each row. A feature has two columns where trees disagree about missing values: in one
//!   NaN is below everything, in the other above everything. The inner loop thus never branches on
//!   data and knows nothing of modes or NaN.
//! - The two children of a node are neighbours, so that a step is
//!   `node += node.step + (key > threshold)`. A leaf has step 0 and the largest threshold: walking
//!   on from it stays there, and every walk of a tree takes as many steps as the tree is deep.
//! - Eight walks go side by side, to hide the latency of their loads: eight rows through one tree,
//!   or one row through eight trees when there are few rows. Blocks of rows stay in the first-level
//!   cache while every tree passes over them.
//! - A node takes 8 bytes where its tree is small enough and the reals are `f32`.
//!
//! Leaf weights are added in `f64`, in the order of the trees and in fixed groups of
//! [`GROUP`](walk::GROUP) trees, then rounded once. Trainers add in `f32` (XGBoost) or `f64`
//! (LightGBM, scikit-learn); the exact sum is within the rounding error of each, and it does not
//! depend on the number of threads.

mod build;
mod key;
mod layout;
mod scores;
mod stored;
#[cfg(test)]
mod tests;
mod walk;

use std::ops::Range;

use landfall_tensor::Buffer;

pub use build::ForestError;
pub(crate) use scores::largest;
pub use scores::{Aggregate, Decision, Finish};

/// The question at a branch. A comparison with NaN is false, unless `missing_is_true`.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// `x ≤ split`.
    AtMost(f64),
    /// `x < split`.
    Below(f64),
    /// `x ≥ split`.
    AtLeast(f64),
    /// `x > split`.
    Above(f64),
    /// `x = split`.
    Equal(f64),
    /// `x ≠ split`; true of NaN.
    NotEqual(f64),
    /// `x` is one of these.
    Member(Vec<f64>),
}

/// What a branch leads to, by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Child {
    /// Another branch.
    Branch(usize),
    /// A leaf.
    Leaf(usize),
}

/// An inner node of a tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// Column of the input that is tested.
    pub feature: usize,
    /// The question.
    pub test: Test,
    /// The answer for NaN.
    pub missing_is_true: bool,
    /// Where to go if the answer is yes.
    pub on_true: Child,
    /// Where to go if it is no.
    pub on_false: Child,
}

/// The trees as a trainer describes them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ForestSpec {
    /// Inner nodes of all trees. Each is reached on one path only.
    pub branches: Vec<Branch>,
    /// For every leaf, its part of `weights`.
    pub leaves: Vec<Range<usize>>,
    /// Target and weight.
    pub weights: Vec<(usize, f64)>,
    /// The root of every tree.
    pub roots: Vec<Child>,
    /// Number of targets.
    pub targets: usize,
    /// Whether splits or weights need the range and precision of `f64`.
    pub double: bool,
}

/// Trees in the form in which they are evaluated.
#[derive(Debug)]
pub struct Forest {
    layout: Layout,
    targets: usize,
    trees: usize,
    features: usize,
}

#[derive(Debug)]
enum Layout {
    /// `f32`, 8 bytes a node.
    Narrow(stored::Stored<u32, u16>),
    /// `f32`, for large trees or many columns.
    Wide(stored::Stored<u32, u32>),
    /// `f64`.
    Double(stored::Stored<u64, u32>),
}

impl Forest {
    /// Number of values a row gets.
    pub fn targets(&self) -> usize {
        self.targets
    }

    /// Number of trees.
    pub fn trees(&self) -> usize {
        self.trees
    }

    /// The least number of columns that an input must have.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Name of the layout, for reports.
    pub fn layout(&self) -> &'static str {
        match &self.layout {
            Layout::Narrow(_) => "trees_f32",
            Layout::Wide(_) => "trees_f32_wide",
            Layout::Double(_) => "trees_f64",
        }
    }

    /// The memory that holds it, from which [`Forest::open`] makes it again.
    pub fn bytes(&self) -> &Buffer {
        match &self.layout {
            Layout::Narrow(stored) => stored.bytes(),
            Layout::Wide(stored) => stored.bytes(),
            Layout::Double(stored) => stored.bytes(),
        }
    }
}
