//! Branches and loops: bodies are programs of their own, run once for each iteration.
//!
//! A body is compiled once for each model and shared by its plans; the plans of the body are kept
//! by shape, so an iteration of known shapes only walks a list.

use std::sync::Arc;

use landfall_graph::infer::{annotate, resolve_axis};
use landfall_graph::{Dim, Graph, Op, ops};
use landfall_kernels::Exec;
use landfall_tensor::{DType, Shape, Tensor};

use super::stack::{slice_along, stack};
use super::{Lowered, Site};
use crate::evaluate::{memory_of, within};
use crate::program::Program;
use crate::{DynamicKernel, KernelError, KernelInfo};

/// Bodies nested deeper than this are not run.
const MAX_DEPTH: usize = 32;
/// A loop that has not ended after as many iterations never will.
const MAX_TRIPS: u64 = 1 << 24;

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::If(op) => lower_if(site, op),
        Op::Loop(op) => lower_loop(site, op),
        Op::Scan(op) => lower_scan(site, op),
        _ => return None,
    })
}

fn dynamic(kernel: impl DynamicKernel + 'static) -> Result<Lowered, KernelError> {
    Ok(Lowered::Dynamic(Box::new(kernel)))
}

/// A compiled body.
struct Body {
    name: &'static str,
    program: Arc<Program>,
}

impl Body {
    /// Compiles the body, whose inputs have the given datatypes where it declares none.
    fn new(
        site: &Site<'_>,
        name: &'static str,
        graph: &Graph,
        dtypes: &[Option<DType>],
    ) -> Result<Body, KernelError> {
        if dtypes.len() != graph.inputs.len() {
            let (wants, gets) = (graph.inputs.len(), dtypes.len());
            return KernelError::invalid(format!(
                "{name} has {wants} inputs, the node gives {gets}"
            ));
        }
        if site.target.depth >= MAX_DEPTH {
            return KernelError::invalid(format!("bodies nest more than {MAX_DEPTH} deep"));
        }
        let compile = || {
            let mut graph = graph.clone();
            for (id, dtype) in graph.inputs.clone().into_iter().zip(dtypes) {
                let value = graph.value_mut(id);
                value.dtype = dtype.or(value.dtype);
                // The extents of what a loop carries may change from one iteration to the next.
                value.dims = None;
            }
            // What it cannot infer, or finds wrong, planning will tell with the shapes.
            let _ = annotate(&mut graph);
            let program = Program::new(graph, site.target.nested());
            let program =
                program.map_err(|error| KernelError::Invalid(format!("in {name}: {error}")))?;
            Ok(Arc::new(program))
        };
        let program = match site.result {
            Some(id) => site.target.bodies.get((id, name), compile)?,
            None => compile()?,
        };
        Ok(Body { name, program })
    }

    fn run(&self, exec: Exec<'_>, inputs: &[Tensor]) -> Result<Vec<Tensor>, KernelError> {
        self.program
            .run(exec, inputs, None)
            .map_err(|error| KernelError::Body { body: self.name, error: Box::new(error) })
    }

    /// Results declared by the body.
    fn outputs(&self) -> usize {
        self.program.graph.outputs.len()
    }

    /// An empty tensor in place of the stack of result `index` when there were no iterations. Axes
    /// of unknown extent are empty.
    fn nothing(&self, index: usize, axis: i64) -> Result<Tensor, KernelError> {
        let graph = &self.program.graph;
        let value = graph.value(graph.outputs[index]);
        let extents = value.dims.iter().flatten().map(|dim: &Dim| dim.known().unwrap_or(0));
        let mut shape: Vec<usize> = extents.collect();
        let at = resolve_axis(axis, shape.len() + 1)?;
        shape.insert(at, 0);
        Ok(Tensor::zeros(value.dtype.unwrap_or(DType::F32), Shape::from(&shape[..]))?)
    }
}

/// Datatypes of operands `from..`.
fn dtypes(site: &Site<'_>, from: usize) -> Vec<Option<DType>> {
    site.inputs.iter().skip(from).map(|fact| fact.and_then(|fact| fact.dtype)).collect()
}

/// Operands `from..`, all of which must be present.
fn present(inputs: &[Option<Tensor>], from: usize) -> Result<Vec<Tensor>, KernelError> {
    let missing = |i: usize| KernelError::Invalid(format!("operand {i} is missing"));
    let each = inputs.iter().enumerate().skip(from);
    each.map(|(i, tensor)| tensor.clone().ok_or_else(|| missing(i))).collect()
}

/// A number of operands that an attribute counts.
fn count(value: i64, most: usize, what: &str) -> Result<usize, KernelError> {
    usize::try_from(value)
        .ok()
        .filter(|&n| n <= most)
        .ok_or_else(|| KernelError::Invalid(format!("{what} is {value} of {most} operands")))
}

fn is_true(tensor: &Tensor) -> Result<bool, KernelError> {
    Ok(tensor.item::<u8>()? != 0)
}

struct If {
    then_branch: Body,
    else_branch: Body,
}

fn lower_if(site: &Site<'_>, op: &ops::If) -> Result<Lowered, KernelError> {
    site.input(0)?;
    let dtypes = dtypes(site, 1);
    let then_branch = Body::new(site, "then_branch", &op.then_branch, &dtypes)?;
    let else_branch = Body::new(site, "else_branch", &op.else_branch, &dtypes)?;
    dynamic(If { then_branch, else_branch })
}

impl DynamicKernel for If {
    fn run(&self, inputs: &[Option<Tensor>], exec: Exec<'_>) -> Result<Vec<Tensor>, KernelError> {
        let operands = present(inputs, 0)?;
        let condition = operands.first().map(is_true).transpose()?.unwrap_or(false);
        let branch = if condition { &self.then_branch } else { &self.else_branch };
        branch.run(exec, &operands[1..])
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("if", "")
    }
}

struct Loop {
    body: Body,
    states: usize,
}

fn lower_loop(site: &Site<'_>, op: &ops::Loop) -> Result<Lowered, KernelError> {
    let operands = site.inputs.len().saturating_sub(2);
    let captures = count(op.captures, operands, "captures")?;
    let states = operands - captures;
    let mut kinds = vec![Some(DType::I64), Some(DType::Bool)];
    kinds.extend(dtypes(site, 2));
    let body = Body::new(site, "body", &op.body, &kinds)?;
    if body.outputs() < 1 + states {
        let found = body.outputs();
        return KernelError::invalid(format!("the body gives {found} results for {states} states"));
    }
    dynamic(Loop { body, states })
}

impl DynamicKernel for Loop {
    fn run(&self, inputs: &[Option<Tensor>], exec: Exec<'_>) -> Result<Vec<Tensor>, KernelError> {
        let operand = |i: usize| inputs.get(i).and_then(Option::as_ref);
        let trips = operand(0).map(Tensor::item::<i64>).transpose()?;
        let mut going = operand(1).map(is_true).transpose()?.unwrap_or(true);
        let carried = present(inputs, 2)?;
        let (states, captures) = carried.split_at(self.states);
        let mut states = states.to_vec();
        let scans = self.body.outputs() - 1 - self.states;
        let limit = self.body.program.target.limits.memory_limit_bytes;
        let mut collected = Collected::new(scans, limit);
        let trips = trips.map_or(u64::MAX, |trips| u64::try_from(trips).unwrap_or(0));
        for trip in 0..trips {
            if !going {
                break;
            }
            if trip == MAX_TRIPS {
                return KernelError::invalid(format!("no end after {MAX_TRIPS} iterations"));
            }
            let mut given =
                vec![Tensor::scalar(trip as i64), Tensor::from_bools(Shape::scalar(), &[going])?];
            given.append(&mut states);
            given.extend_from_slice(captures);
            let mut results = self.body.run(exec, &given)?;
            collected.push(results.split_off(1 + self.states))?;
            states = results.split_off(1);
            collected.leave_room_for(&states)?;
            going = results.first().map(is_true).transpose()?.unwrap_or(false);
        }
        for (scan, parts) in collected.parts.into_iter().enumerate() {
            states.push(match parts.is_empty() {
                true => self.body.nothing(1 + self.states + scan, 0)?,
                false => stack(&parts, 0)?,
            });
        }
        Ok(states)
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("loop", "")
    }
}

/// What iterations leave behind, for each scan output.
struct Collected {
    parts: Vec<Vec<Tensor>>,
    bytes: usize,
    limit: usize,
}

impl Collected {
    fn new(scans: usize, limit: usize) -> Collected {
        Collected { parts: vec![Vec::new(); scans], bytes: 0, limit }
    }

    fn push(&mut self, results: Vec<Tensor>) -> Result<(), KernelError> {
        for (parts, tensor) in self.parts.iter_mut().zip(results) {
            self.bytes = self.bytes.saturating_add(memory_of(&tensor).max(64));
            parts.push(tensor);
        }
        within(self.bytes, self.limit)
    }

    /// Refuses states that would not fit beside what was collected.
    fn leave_room_for(&self, states: &[Tensor]) -> Result<(), KernelError> {
        let states = states.iter().map(memory_of);
        within(states.fold(self.bytes, usize::saturating_add), self.limit)
    }
}

/// The axis and direction of each scanned operand or result.
type Tracks = Vec<(i64, bool)>;

struct Scan {
    body: Body,
    states: usize,
    inputs: Tracks,
    outputs: Tracks,
}

fn tracks(axes: &[i64], directions: &[i64], len: usize) -> Tracks {
    let at = |list: &[i64], i: usize| list.get(i).copied().unwrap_or(0);
    (0..len).map(|i| (at(axes, i), at(directions, i) != 0)).collect()
}

fn lower_scan(site: &Site<'_>, op: &ops::Scan) -> Result<Lowered, KernelError> {
    let captures = count(op.captures, site.inputs.len(), "captures")?;
    let operands = site.inputs.len() - captures;
    let scanned = count(op.num_scan_inputs, operands, "num_scan_inputs")?;
    let states = operands - scanned;
    if scanned == 0 {
        return KernelError::invalid("a scan needs an operand to scan");
    }
    let body = Body::new(site, "body", &op.body, &dtypes(site, 0))?;
    let Some(scans) = body.outputs().checked_sub(states) else {
        let found = body.outputs();
        return KernelError::invalid(format!("the body gives {found} results for {states} states"));
    };
    let inputs = tracks(&op.scan_input_axes, &op.scan_input_directions, scanned);
    let outputs = tracks(&op.scan_output_axes, &op.scan_output_directions, scans);
    dynamic(Scan { body, states, inputs, outputs })
}

impl DynamicKernel for Scan {
    fn run(&self, inputs: &[Option<Tensor>], exec: Exec<'_>) -> Result<Vec<Tensor>, KernelError> {
        let operands = present(inputs, 0)?;
        let (states, rest) = operands.split_at(self.states);
        let (scanned, captures) = rest.split_at(self.inputs.len());
        let mut states = states.to_vec();
        let mut trips = None;
        for (tensor, &(axis, _)) in scanned.iter().zip(&self.inputs) {
            let axis = resolve_axis(axis, tensor.shape().rank())?;
            let extent = tensor.shape()[axis];
            if *trips.get_or_insert(extent) != extent {
                return KernelError::invalid(format!(
                    "scanned operands have {} and {extent} steps",
                    trips.unwrap_or(0)
                ));
            }
        }
        let trips = trips.unwrap_or(0);
        let limit = self.body.program.target.limits.memory_limit_bytes;
        let mut collected = Collected::new(self.outputs.len(), limit);
        for trip in 0..trips {
            let mut given = std::mem::take(&mut states);
            for (tensor, &(axis, backwards)) in scanned.iter().zip(&self.inputs) {
                let at = if backwards { trips - 1 - trip } else { trip };
                given.push(slice_along(tensor, axis, at)?);
            }
            given.extend_from_slice(captures);
            let mut results = self.body.run(exec, &given)?;
            collected.push(results.split_off(self.states))?;
            states = results;
            collected.leave_room_for(&states)?;
        }
        let stacks = collected.parts.into_iter().zip(&self.outputs).enumerate();
        for (scan, (mut parts, &(axis, backwards))) in stacks {
            if backwards {
                parts.reverse();
            }
            states.push(match parts.is_empty() {
                true => self.body.nothing(self.states + scan, axis)?,
                false => stack(&parts, axis)?,
            });
        }
        Ok(states)
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("scan", "")
    }
}

#[cfg(test)]
mod tests;
