//! Names in the file. In ONNX a name has one meaning in a graph and everything inside it, and a
//! body reads what it captures by its outer name.

use std::collections::HashSet;

use landfall_graph::{Graph, Node, Op, ValueId};

/// Every name given out so far.
#[derive(Default)]
pub(super) struct Names {
    values: HashSet<String>,
    nodes: HashSet<String>,
}

/// How many trailing inputs of a node are captured by its bodies.
pub(super) fn captures(node: &Node) -> usize {
    let count = match &node.op {
        Op::If(_) => node.inputs.len().saturating_sub(1),
        Op::Loop(op) => usize::try_from(op.captures).unwrap_or(0),
        Op::Scan(op) => usize::try_from(op.captures).unwrap_or(0),
        _ => 0,
    };
    count.min(node.inputs.len())
}

impl Names {
    /// Names of a graph's values by index; inputs and outputs keep theirs.
    pub(super) fn of_graph(&mut self, graph: &Graph) -> Vec<String> {
        let mut names = vec![String::new(); graph.value_count()];
        for &id in graph.inputs.iter().chain(&graph.outputs) {
            names[id.index()] = graph.value(id).name.clone();
            self.values.insert(graph.value(id).name.clone());
        }
        self.fill(graph, &mut names);
        names
    }

    /// Names of a body's values by index; captured inputs have the names of the node's operands.
    pub(super) fn of_body(
        &mut self,
        body: &Graph,
        node: &Node,
        captures: usize,
        outer: &Graph,
        outer_names: &[String],
    ) -> Vec<String> {
        let mut names = vec![String::new(); body.value_count()];
        let operands = node.inputs.iter().rev().take(captures);
        for (&input, operand) in body.inputs.iter().rev().zip(operands) {
            if let Some(id) = operand.filter(|id| id.index() < outer.value_count()) {
                names[input.index()] = outer_names[id.index()].clone();
            }
        }
        self.fill(body, &mut names);
        names
    }

    /// Gives a unique name to every value without one. Results that nothing reads keep their
    /// place by an empty name.
    fn fill(&mut self, graph: &Graph, names: &mut [String]) {
        for (id, value) in graph.values() {
            if !names[id.index()].is_empty() || unnamed_result(graph, id) {
                continue;
            }
            names[id.index()] = self.unique(&value.name);
        }
    }

    fn unique(&mut self, wanted: &str) -> String {
        unique(&mut self.values, if wanted.is_empty() { "value" } else { wanted })
    }

    /// A unique name for a node; none stays none.
    pub(super) fn of_node(&mut self, wanted: &str) -> String {
        if wanted.is_empty() { String::new() } else { unique(&mut self.nodes, wanted) }
    }
}

fn unique(taken: &mut HashSet<String>, wanted: &str) -> String {
    let numbered = (1u64..).map(|count| format!("{wanted}#{count}"));
    let mut candidates = std::iter::once(wanted.to_owned()).chain(numbered);
    candidates.find(|name| taken.insert(name.clone())).unwrap_or_default()
}

fn unnamed_result(graph: &Graph, id: ValueId) -> bool {
    graph.value(id).name.is_empty() && graph.producer(id).is_some() && !read(graph, id)
}

fn read(graph: &Graph, id: ValueId) -> bool {
    graph.outputs.contains(&id) || graph.nodes().any(|(_, node)| node.operands().any(|o| o == id))
}
