//! Which way of running each step was measured to be fastest.
//!
//! Without a measurement a cost model decides: which of its algorithms a step takes, and how many
//! threads it is worth. Algorithms round differently, so one is chosen for a step with any number
//! of rows on any number of threads: neither batching nor threads may change an answer. Threads do
//! not change results, so they are chosen for exactly the shapes and threads measured.

use std::collections::BTreeMap;

/// The fastest ways found to run steps. What is absent is left to the cost model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tuning {
    /// Algorithms by [`StepIdentity::kind`]; ignored where a step has none of that name.
    pub algorithms: BTreeMap<String, String>,
    /// By the threads of a run, and then by [`StepIdentity::signature`]: threads that the step uses
    /// at most.
    pub threads: BTreeMap<usize, BTreeMap<String, usize>>,
}

impl Tuning {
    /// Whether everything is left to the cost model.
    pub fn is_empty(&self) -> bool {
        self.algorithms.is_empty() && self.threads.values().all(BTreeMap::is_empty)
    }

    /// How many choices differ from the cost model's.
    pub fn len(&self) -> usize {
        self.algorithms.len() + self.threads.values().map(BTreeMap::len).sum::<usize>()
    }
}

/// What a step has in common with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepIdentity {
    /// Operator, attributes, and types and shapes of operands: steps that take the same time.
    pub signature: String,
    /// The same for any number of rows: `n` stands for the first extent of operands that are not
    /// constants.
    pub kind: String,
}

/// The ways in which a step can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithms {
    /// Names, such as `gemm`.
    pub names: Vec<&'static str>,
    /// The one it takes, of `names`.
    pub chosen: usize,
}
