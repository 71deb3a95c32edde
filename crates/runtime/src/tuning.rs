//! Which way of running each step was measured to be fastest.
//!
//! Without a measurement a cost model decides: how many threads a step is worth, and which of its
//! algorithms. A choice is kept for a step's signature (operator, attributes, operand types and
//! shapes), so it holds for every step like it, and for no other shape.

use std::collections::BTreeMap;

/// The fastest way found to run one step. What is absent is left to the cost model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// One of the step's algorithms; ignored where the step has none of that name.
    pub algorithm: Option<String>,
    /// Threads that the step uses at most.
    pub threads: Option<usize>,
}

/// Choices by the signature of a step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tuning {
    /// See [`crate::StepReport::signature`].
    pub choices: BTreeMap<String, Choice>,
}

/// The ways in which a step can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithms {
    /// Names, such as `gemm`.
    pub names: Vec<&'static str>,
    /// The one it takes, of `names`.
    pub chosen: usize,
}
