//! Branches and loops: what is known of their bodies' results.
//!
//! The extents of what a loop carries are kept if one walk through the body, begun with the initial
//! extents, gives them back; else nothing is known of them.

use landfall_tensor::DType;

use super::context::{InferError, Operands, resolve_axis};
use super::{Fact, infer_graph_with};
use crate::{Dim, Graph, Op, ops};

/// Bodies that hold bodies nested deeper than this are not followed: each level may be walked twice.
const FOLLOWED_DEPTH: usize = 4;

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    Some(match operands.op {
        Op::If(op) => branches(operands, op),
        Op::Loop(op) => loops(operands, op),
        Op::Scan(op) => scan(operands, op),
        _ => return None,
    })
}

fn bodies(op: &Op) -> [Option<&Graph>; 2] {
    match op {
        Op::If(op) => [Some(&op.then_branch), Some(&op.else_branch)],
        Op::Loop(op) => [Some(&op.body), None],
        Op::Scan(op) => [Some(&op.body), None],
        _ => [None, None],
    }
}

/// Whether bodies inside `graph` nest at most `depth` deep.
fn is_shallow(graph: &Graph, depth: usize) -> bool {
    let inner = graph.nodes().flat_map(|(_, node)| bodies(&node.op)).flatten();
    inner.into_iter().all(|body| depth > 0 && is_shallow(body, depth - 1))
}

/// What is known of a body's results; only types and extents. A body that may never run, such as
/// the branch not taken, need not fit its operands.
fn results(body: &Graph, inputs: &[Fact], what: &str) -> Result<Vec<Fact>, InferError> {
    if inputs.len() != body.inputs.len() {
        return InferError::because(format!(
            "{what} has {} inputs, the node gives {}",
            body.inputs.len(),
            inputs.len()
        ));
    }
    let declared = || {
        let values = body.outputs.iter().map(|&id| body.value(id));
        values.map(|value| Fact::new(value.dtype, None)).collect()
    };
    if !is_shallow(body, FOLLOWED_DEPTH) {
        return Ok(declared());
    }
    let Ok(facts) = infer_graph_with(body, inputs) else { return Ok(declared()) };
    let plain = |fact: &Fact| Fact::new(fact.dtype, fact.dims.clone());
    Ok(body.outputs.iter().map(|id| plain(&facts[id.index()])).collect())
}

/// Operands from `first` on, as far as they are known.
fn given(operands: &Operands<'_>, first: usize) -> Vec<Fact> {
    (first..operands.len()).map(|i| operands.get(i).cloned().unwrap_or_default()).collect()
}

/// What holds of both.
fn either(a: Fact, b: Fact) -> Fact {
    let dims = match (a.dims, b.dims) {
        (Some(a), Some(b)) if a.len() == b.len() => Some(
            a.into_iter().zip(b).map(|(a, b)| if a.same(&b) { a } else { Dim::Unknown }).collect(),
        ),
        _ => None,
    };
    Fact::new(a.dtype.or(b.dtype), dims)
}

fn branches(operands: &Operands<'_>, op: &ops::If) -> Result<Vec<Fact>, InferError> {
    let inputs = given(operands, 1);
    let condition = operands.tensor(0).and_then(|tensor| tensor.item::<u8>().ok());
    match condition {
        Some(0) => return results(&op.else_branch, &inputs, "else_branch"),
        Some(_) => return results(&op.then_branch, &inputs, "then_branch"),
        None => (),
    }
    let then = results(&op.then_branch, &inputs, "then_branch")?;
    let other = results(&op.else_branch, &inputs, "else_branch")?;
    if then.len() != other.len() {
        return InferError::because("the branches differ in their number of results");
    }
    Ok(then.into_iter().zip(other).map(|(a, b)| either(a, b)).collect())
}

/// What is known of the results of a body that carries `states`, its inputs being `lead`, the
/// states and `tail`: for the states what holds in every iteration, then whatever follows them.
/// `skip` results come before the states.
fn carried(
    body: &Graph,
    lead: &[Fact],
    states: &[Fact],
    tail: &[Fact],
    skip: usize,
) -> Result<(Vec<Fact>, Vec<Fact>), InferError> {
    let walk = |states: &[Fact]| {
        let inputs = [lead, states, tail].concat();
        let found = results(body, &inputs, "body")?;
        if found.len() < skip + states.len() {
            return InferError::because(format!(
                "the body gives {} results for {} states",
                found.len(),
                states.len()
            ));
        }
        Ok(found)
    };
    let plain = |fact: &Fact| Fact::new(fact.dtype, fact.dims.clone());
    let mut assumed: Vec<Fact> = states.iter().map(plain).collect();
    let found = walk(&assumed)?;
    if confirms(&assumed, &found[skip..]) {
        return Ok((assumed, found[skip + states.len()..].to_vec()));
    }
    for (state, found) in assumed.iter_mut().zip(&found[skip..]) {
        *state = Fact::new(state.dtype.or(found.dtype), either(state.clone(), found.clone()).dims);
    }
    let found = walk(&assumed)?;
    let rest = found[skip + states.len()..].to_vec();
    if confirms(&assumed, &found[skip..]) {
        return Ok((assumed, rest));
    }
    assumed.iter_mut().for_each(|state| state.dims = None);
    Ok((assumed, rest.into_iter().map(|fact| Fact::new(fact.dtype, None)).collect()))
}

/// Whether the results have the extents assumed, wherever something was assumed.
fn confirms(assumed: &[Fact], found: &[Fact]) -> bool {
    assumed.iter().zip(found).all(|(assumed, found)| match (&assumed.dims, &found.dims) {
        (None, _) => true,
        (Some(a), Some(b)) if a.len() == b.len() => {
            a.iter().zip(b).all(|(a, b)| matches!(a, Dim::Unknown) || a.same(b))
        }
        _ => false,
    })
}

fn amount(value: i64, most: usize, what: &str) -> Result<usize, InferError> {
    usize::try_from(value)
        .ok()
        .filter(|&n| n <= most)
        .ok_or_else(|| InferError(format!("{what} is {value} of {most} operands")))
}

fn loops(operands: &Operands<'_>, op: &ops::Loop) -> Result<Vec<Fact>, InferError> {
    let rest = given(operands, 2);
    let captures = amount(op.captures, rest.len(), "captures")?;
    let (states, tail) = rest.split_at(rest.len() - captures);
    let lead = [Fact::concrete(DType::I64, &[]), Fact::concrete(DType::Bool, &[])];
    let (mut results, scans) = carried(&op.body, &lead, states, tail, 1)?;
    results.extend(scans.into_iter().map(|fact| {
        let dims = fact.dims.map(|dims| [vec![Dim::Unknown], dims].concat());
        Fact::new(fact.dtype, dims)
    }));
    Ok(results)
}

fn scan(operands: &Operands<'_>, op: &ops::Scan) -> Result<Vec<Fact>, InferError> {
    let all = given(operands, 0);
    let captures = amount(op.captures, all.len(), "captures")?;
    let (own, tail) = all.split_at(all.len() - captures);
    let scanned = amount(op.num_scan_inputs, own.len(), "num_scan_inputs")?;
    let (states, scanned) = own.split_at(own.len() - scanned);
    let mut steps = Dim::Unknown;
    let mut slices = Vec::with_capacity(scanned.len());
    for (i, fact) in scanned.iter().enumerate() {
        let mut dims = fact.dims.clone();
        if let Some(dims) = &mut dims {
            let axis = op.scan_input_axes.get(i).copied().unwrap_or(0);
            let extent = dims.remove(resolve_axis(axis, dims.len())?);
            if !matches!(steps, Dim::Known(_)) {
                steps = extent;
            }
        }
        slices.push(Fact::new(fact.dtype, dims));
    }
    let tail = [&slices[..], tail].concat();
    let (mut results, scans) = carried(&op.body, &[], states, &tail, 0)?;
    for (i, fact) in scans.into_iter().enumerate() {
        let mut dims = fact.dims;
        if let Some(dims) = &mut dims {
            let axis = op.scan_output_axes.get(i).copied().unwrap_or(0);
            dims.insert(resolve_axis(axis, dims.len() + 1)?, steps.clone());
        }
        results.push(Fact::new(fact.dtype, dims));
    }
    Ok(results)
}
