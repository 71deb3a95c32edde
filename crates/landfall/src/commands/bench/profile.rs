//! Time by node and by operator.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use landfall_runtime::Model;
use landfall_tensor::{Shape, Tensor};
use serde::Serialize;

use crate::commands::table::Table;

/// Runs that are added up.
const RUNS: u32 = 10;
/// Nodes that are shown on a terminal; JSON has all.
const SHOWN: usize = 20;

/// Where the time of a run goes.
#[derive(Debug, Serialize)]
pub(super) struct Profile {
    /// Slowest first.
    nodes: Vec<NodeTime>,
    /// Slowest first.
    operators: Vec<OperatorTime>,
}

#[derive(Debug, Serialize)]
struct NodeTime {
    name: String,
    operator: &'static str,
    kernel: &'static str,
    isa: &'static str,
    slices: usize,
    ms: f64,
    share: f64,
}

#[derive(Debug, Serialize)]
struct OperatorTime {
    operator: &'static str,
    nodes: usize,
    ms: f64,
    share: f64,
}

/// Runs the model some more times, with a clock after every step.
pub(super) fn measure(model: &Model, shapes: &[Shape], inputs: &[Tensor]) -> Result<Profile> {
    let steps = model.report(shapes)?.steps;
    let mut spent = vec![Duration::ZERO; steps.len()];
    for _ in 0..RUNS {
        let mut last = Instant::now();
        model.run_observed(
            inputs,
            Some(&mut |step| {
                let now = Instant::now();
                if let Some(spent) = spent.get_mut(step) {
                    *spent += now - last;
                }
                last = now;
            }),
        )?;
    }
    let ms = |time: Duration| time.as_secs_f64() * 1e3 / f64::from(RUNS);
    let total = ms(spent.iter().sum()).max(f64::MIN_POSITIVE);
    let mut by_operator: BTreeMap<&'static str, (usize, f64)> = BTreeMap::new();
    let mut nodes = Vec::with_capacity(steps.len());
    for (step, spent) in steps.into_iter().zip(spent) {
        let ms = ms(spent);
        let operator = by_operator.entry(step.op).or_default();
        *operator = (operator.0 + 1, operator.1 + ms);
        let (kernel, isa) = (step.kernel.kernel, step.kernel.isa);
        let (name, operator) = (step.node, step.op);
        let slices = step.slices;
        nodes.push(NodeTime { name, operator, kernel, isa, slices, ms, share: ms / total });
    }
    let operator =
        |(operator, (nodes, ms))| OperatorTime { operator, nodes, ms, share: ms / total };
    let mut operators: Vec<_> = by_operator.into_iter().map(operator).collect();
    nodes.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    operators.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    Ok(Profile { nodes, operators })
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:.1}%", share * 100.0);
        let mut table = Table::new(&["operator", "nodes", "ms", "share"]);
        for line in &self.operators {
            let ms = format!("{:.4}", line.ms);
            table.row([line.operator.into(), line.nodes.to_string(), ms, percent(line.share)]);
        }
        writeln!(f, "{table}")?;
        let mut table = Table::new(&["node", "operator", "kernel", "isa", "slices", "ms", "share"]);
        for line in self.nodes.iter().take(SHOWN) {
            let ms = format!("{:.4}", line.ms);
            let words = [line.operator, line.kernel, line.isa].map(str::to_owned);
            let [operator, kernel, isa] = words;
            let slices = line.slices.to_string();
            table.row([line.name.clone(), operator, kernel, isa, slices, ms, percent(line.share)]);
        }
        write!(f, "{table}")?;
        match self.nodes.len().checked_sub(SHOWN) {
            Some(more) if more > 0 => writeln!(f, "and {more} more nodes (--json has all)"),
            _ => Ok(()),
        }
    }
}
