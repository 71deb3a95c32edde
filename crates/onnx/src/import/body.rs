//! Sub-graphs of `If`, `Loop` and `Scan`, closed on import.
//!
//! ONNX lets a body read any value of the graphs around it. Here such values become explicit
//! trailing inputs of the node and of the body; constants become constants of the body, sharing
//! memory.

use std::collections::HashSet;
use std::rc::Rc;

use landfall_graph::{Attribute, Graph, ValueId};

use super::Importer;
use super::scope::{Scope, tensor_type};
use crate::error::{Malformed, NodeError};
use crate::proto;
use crate::upgrade::Draft;

/// Every name that a node reads from its graph, through its sub-graphs too.
pub(super) fn names_read<'m>(node: &'m proto::Node<'m>) -> Vec<&'m str> {
    let mut names: Vec<&str> = node.input.iter().copied().filter(|n| !n.is_empty()).collect();
    for graph in node.attribute.iter().filter_map(|a| a.g.as_deref()) {
        names.extend(free_names(graph));
    }
    names
}

/// Names that a graph reads but does not define, in the order of first use.
///
/// Recursion is bounded by the depth of messages.
fn free_names<'m>(graph: &'m proto::Graph<'m>) -> Vec<&'m str> {
    let mut defined: HashSet<&str> = graph.input.iter().map(|v| v.name).collect();
    defined.extend(graph.initializer.iter().map(|t| t.name));
    defined.extend(graph.sparse_initializer.iter().filter_map(|s| Some(s.values.as_ref()?.name)));
    defined.extend(graph.node.iter().flat_map(|node| node.output.iter().copied()));
    let mut free = Vec::new();
    let mut seen = HashSet::new();
    let reads = graph.node.iter().flat_map(names_read);
    for name in reads.chain(graph.output.iter().map(|v| v.name)) {
        if !defined.contains(name) && seen.insert(name) {
            free.push(name);
        }
    }
    free
}

impl<'m> Importer<'m> {
    /// Imports the sub-graphs of a control-flow node and appends what they capture to its inputs.
    pub(super) fn bodies(
        &mut self,
        draft: &mut Draft<'_>,
        scope: &Scope<'m>,
        node: &'m proto::Node<'m>,
    ) -> Result<(), NodeError> {
        let graphs: Vec<_> =
            node.attribute.iter().filter_map(|a| Some((a.name, a.g.as_deref()?))).collect();
        let mut captured: Vec<(&'m str, Option<ValueId>)> = Vec::new();
        let mut seen = HashSet::new();
        for name in graphs.iter().flat_map(|(_, graph)| free_names(graph)) {
            if seen.insert(name) {
                let id = scope.get(name).ok_or_else(|| {
                    Malformed::new(format!("sub-graphs read '{name}', which nothing defines"))
                })?;
                if id.is_some_and(|id| scope.sequences.borrow().contains_key(&id)) {
                    return Err(format!("its sub-graphs read the sequence '{name}'").into());
                }
                captured.push((name, id));
            }
        }
        for (name, graph) in graphs {
            let body = self.body(draft.graph, scope, graph, &captured);
            let body = body.map_err(|error| error.within(name))?;
            draft.attributes.insert(name.to_owned(), Attribute::Graph(Box::new(body)));
        }
        let operands = captured.into_iter().filter_map(|(_, id)| id);
        let operands: Vec<_> = operands.filter(|&id| draft.graph.constant(id).is_none()).collect();
        if draft.op != "If" {
            draft.attributes.insert("captures".to_owned(), Attribute::Int(operands.len() as i64));
        }
        draft.inputs.extend(operands.into_iter().map(Some));
        Ok(())
    }

    fn body(
        &mut self,
        outer: &Graph,
        scope: &Scope<'m>,
        proto: &'m proto::Graph<'m>,
        captured: &[(&'m str, Option<ValueId>)],
    ) -> Result<Graph, Malformed> {
        let mut graph = Graph::new(proto.name);
        let mut scope = scope.inner()?;
        scope.prefix.clear();
        scope.sequences = Rc::default();
        for input in &proto.input {
            let declared = input.r#type.as_deref().map(tensor_type);
            let (dtype, dims) = declared.and_then(Result::ok).unwrap_or_default();
            let id = graph.add_input(input.name, dtype, dims);
            scope.bind(input.name, Some(id))?;
        }
        for &(name, id) in captured {
            let inner = id.map(|id| match outer.constant(id) {
                Some(tensor) => graph.add_constant(name, tensor.clone()),
                None => {
                    let value = outer.value(id);
                    graph.add_input(name, value.dtype, value.dims.clone())
                }
            });
            scope.bind(name, inner)?;
        }
        self.initialisers(&mut graph, &mut scope, proto)?;
        self.contents(&mut graph, &mut scope, proto)?;
        Ok(graph)
    }
}
