//! What a pass may do to results, and what the passes did.

use std::fmt;

/// How far a pass may change results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The same bits (a zero may change its sign).
    Exact,
    /// The same algebra in another order: results differ by rounding.
    Reassociating,
    /// Other algebra, with an error that is small but not only rounding.
    Approximate,
}

/// What one pass did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassReport {
    /// The pass.
    pub name: &'static str,
    /// What it may do to results.
    pub effect: Effect,
    /// Number of rewrites it made.
    pub changes: usize,
}

/// What the passes did, in the order of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// One entry for each pass that changed something.
    pub passes: Vec<PassReport>,
    /// Number of nodes before, sub-graphs left out.
    pub nodes_before: usize,
    /// Number of nodes after, sub-graphs left out.
    pub nodes_after: usize,
}

impl Report {
    /// Number of rewrites by a pass.
    pub fn changes(&self, pass: &str) -> usize {
        self.passes.iter().filter(|entry| entry.name == pass).map(|entry| entry.changes).sum()
    }

    pub(crate) fn add(&mut self, name: &'static str, effect: Effect, changes: usize) {
        match self.passes.iter_mut().find(|entry| entry.name == name) {
            Some(entry) => entry.changes += changes,
            None if changes > 0 => self.passes.push(PassReport { name, effect, changes }),
            None => (),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "nodes: {} -> {}", self.nodes_before, self.nodes_after)?;
        for pass in &self.passes {
            let effect = format!("{:?}", pass.effect).to_lowercase();
            writeln!(f, "  {:<24} {:>5}  {effect}", pass.name, pass.changes)?;
        }
        Ok(())
    }
}
