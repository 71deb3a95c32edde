//! The verifier: every invariant that passes must keep.
//!
//! 1. Every operand and result id exists.
//! 2. A result's origin names its node and position; no two nodes share a result.
//! 3. No node reads a detached value, and no output is detached.
//! 4. There is no cycle.
//! 5. Graph inputs have the origin `Input`, each appears once, and input names are unique; so are
//!    output names.
//! 6. A constant's declared datatype and extents are its tensor's.
//! 7. Sub-graphs verify, and are nested at most 32 deep.

use std::collections::HashSet;

use crate::{Dim, Graph, Node, Origin, ValueId};

/// Sub-graphs nested deeper than this are refused.
pub(crate) const MAX_DEPTH: usize = 32;

/// A broken invariant. After an import this is the model's fault; after a pass it is always a bug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct VerifyError(pub String);

/// Checks every invariant of the module's list.
pub fn verify(graph: &Graph) -> Result<(), VerifyError> {
    verify_at(graph, 0)
}

fn fail<T>(message: String) -> Result<T, VerifyError> {
    Err(VerifyError(message))
}

fn verify_at(graph: &Graph, depth: usize) -> Result<(), VerifyError> {
    if depth > MAX_DEPTH {
        return fail(format!("sub-graphs are nested more than {MAX_DEPTH} deep"));
    }
    let mut defined = HashSet::new();
    for (id, node) in graph.nodes() {
        let place = || format!("node {id:?} '{}' ({})", node.name, node.op.name());
        for operand in node.operands() {
            check_use(graph, operand, &place)?;
        }
        for (i, &output) in node.outputs.iter().enumerate() {
            if output.index() >= graph.value_count() {
                return fail(format!("{} defines a value that does not exist", place()));
            }
            if !defined.insert(output) {
                return fail(format!("{} defines {output:?}, which is already defined", place()));
            }
            match graph.value(output).origin {
                Origin::Node(n, k) if n == id && k == i => (),
                _ => return fail(format!("result {i} of {} has another origin", place())),
            }
        }
        verify_subgraphs(node, depth)?;
    }
    if let Err(cycle) = graph.schedule() {
        return fail(cycle.to_string());
    }
    check_signature(graph)?;
    check_constants(graph)
}

fn check_use(graph: &Graph, id: ValueId, place: &dyn Fn() -> String) -> Result<(), VerifyError> {
    if id.index() >= graph.value_count() {
        return fail(format!("{} reads a value that does not exist", place()));
    }
    let value = graph.value(id);
    match value.origin {
        Origin::Detached => {
            fail(format!("{} reads '{}', which nothing defines", place(), value.name))
        }
        Origin::Node(node, _) if graph.node(node).is_none() => {
            fail(format!("{} reads '{}' of a removed node", place(), value.name))
        }
        _ => Ok(()),
    }
}

fn check_signature(graph: &Graph) -> Result<(), VerifyError> {
    let mut names = HashSet::new();
    for &input in &graph.inputs {
        let value = graph.value(input);
        if !matches!(value.origin, Origin::Input) {
            return fail(format!("input '{}' is also defined inside the graph", value.name));
        }
        if !names.insert(&value.name) {
            return fail(format!("two inputs are named '{}'", value.name));
        }
    }
    for (id, value) in graph.values() {
        if matches!(value.origin, Origin::Input) && !graph.inputs.contains(&id) {
            return fail(format!("'{}' has the origin of an input but is none", value.name));
        }
    }
    names.clear();
    for &output in &graph.outputs {
        check_use(graph, output, &|| "the graph's output list".to_owned())?;
        if !names.insert(&graph.value(output).name) {
            return fail(format!("two outputs are named '{}'", graph.value(output).name));
        }
    }
    Ok(())
}

fn check_constants(graph: &Graph) -> Result<(), VerifyError> {
    for (_, value) in graph.values() {
        let Origin::Constant(tensor) = &value.origin else { continue };
        let dims: Vec<Dim> = tensor.shape().iter().map(|&n| Dim::Known(n)).collect();
        if value.dtype != Some(tensor.dtype()) || value.dims.as_ref() != Some(&dims) {
            return fail(format!(
                "constant '{}' is {}{}, declared otherwise",
                value.name,
                tensor.dtype(),
                tensor.shape()
            ));
        }
    }
    Ok(())
}

fn verify_subgraphs(node: &Node, depth: usize) -> Result<(), VerifyError> {
    for (name, body) in node.op.bodies() {
        verify_at(body, depth + 1).map_err(|VerifyError(message)| {
            VerifyError(format!("in {name} of node '{}': {message}", node.name))
        })?;
    }
    Ok(())
}
