//! A graph and concrete input shapes to a flat list of steps over one arena.
//!
//! Planning walks the graph once. What is known without the inputs' data is computed now; a node of
//! known shapes becomes a kernel writing into the arena; a node that only renames elements shares
//! its operand's place; a node whose result shapes depend on data allocates when it runs, and so
//! does what follows from it. Then steps that are better run together form regions
//! (`plan/regions.rs`), some convolutions become one (`plan/chains.rs`), and values get their
//! offsets (`plan/layout.rs`).

mod chains;
mod layout;
mod regions;

use std::ops::Range;

use landfall_graph::infer::{Fact, Int, infer_node};
use landfall_graph::{Graph, Node, NodeId, Op, Origin, ValueId};
use landfall_kernels::Exec;
use landfall_tensor::{DType, Shape, Tensor};

use crate::evaluate::{Late, OnHeap, bytes_of_fact, evaluate, specs, within};
use crate::lower::{Lowered, Site, Target, lower};
use crate::memory::Request;
use crate::{Algorithms, DynamicKernel, Kernel, KernelError, KernelInfo, NodeError, StepIdentity};

/// Results of more bytes than this are not computed while planning.
const FOLD_BYTES: usize = 1 << 20;

/// A flat program for one set of input shapes.
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// In the steps' order.
    pub(crate) regions: Vec<Region>,
    pub(crate) outputs: Vec<Operand>,
    pub(crate) arena_bytes: usize,
    /// What every run needs: the arena, and copies of the results for whoever takes them, as far as
    /// their shapes do not depend on data.
    pub(crate) run_bytes: usize,
    pub(crate) lower_bound_bytes: usize,
    pub(crate) heap_slots: usize,
}

/// One call of a kernel.
pub(crate) struct Step {
    pub(crate) node: String,
    pub(crate) op: &'static str,
    pub(crate) work: Work,
    pub(crate) inputs: Vec<Option<Operand>>,
    pub(crate) outputs: Vec<Destination>,
    /// Working memory in the arena.
    pub(crate) scratch: Span,
    /// Heap slots that nothing reads after this step.
    pub(crate) dead_slots: Vec<usize>,
    /// Threads that it uses at most, if that was measured.
    pub(crate) threads: Option<usize>,
    /// See [`crate::StepReport::identity`].
    pub(crate) identity: Option<StepIdentity>,
}

/// Consecutive steps that run together for some rows of the batch after others, so that what one
/// step leaves is still in the caches when the next one reads it. Its steps' kernels, operands and
/// results are those of one slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) steps: Range<usize>,
    /// How often the steps run.
    pub(crate) slices: usize,
    /// Rows of the batch in a slice.
    pub(crate) rows: usize,
    /// Threads that each run slices of their own. With one, the threads share every step.
    pub(crate) workers: usize,
}

/// A slice of a region, and which of its threads works on it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct At {
    pub(crate) slice: usize,
    pub(crate) worker: usize,
}

/// Bytes of the arena, and how far they move from slice to slice and from thread to thread.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) range: Range<usize>,
    pub(crate) per_slice: usize,
    pub(crate) per_worker: usize,
}

impl Span {
    pub(crate) fn at(&self, at: At) -> Range<usize> {
        let by = at.slice * self.per_slice + at.worker * self.per_worker;
        self.range.start + by..self.range.end + by
    }
}

pub(crate) enum Work {
    Kernel(Box<dyn Kernel>),
    Dynamic(Box<dyn DynamicKernel>),
}

impl Work {
    pub(crate) fn info(&self) -> KernelInfo {
        match self {
            Work::Kernel(kernel) => kernel.info(),
            Work::Dynamic(kernel) => kernel.info(),
        }
    }

    /// See [`Kernel::has_packed`].
    fn has_packed(&self, index: usize) -> bool {
        matches!(self, Work::Kernel(kernel) if kernel.has_packed(index))
    }

    pub(crate) fn algorithms(&self) -> Option<Algorithms> {
        match self {
            Work::Kernel(kernel) => kernel.algorithms(),
            Work::Dynamic(_) => None,
        }
    }
}

/// Where a step finds an operand.
pub(crate) enum Operand {
    Arena {
        span: Span,
        dtype: DType,
        shape: Shape,
    },
    Constant(Tensor),
    /// One of so many slices of a caller's tensor, whose shape may differ but for its number of
    /// elements.
    Input {
        index: usize,
        shape: Shape,
        slices: usize,
    },
    /// `shape` is `None` if it depends on data.
    Heap {
        slot: usize,
        shape: Option<Shape>,
    },
}

/// Where a step leaves a result.
pub(crate) enum Destination {
    Arena { span: Span, dtype: DType, shape: Shape },
    Heap(usize),
}

/// Where a value lives, before the arena is laid out.
#[derive(Clone)]
enum Place {
    Constant(Tensor),
    Input(usize),
    /// Index of a memory request.
    Arena(usize),
    Heap(usize),
}

/// A step before the arena is laid out.
struct Draft {
    id: NodeId,
    work: Work,
    /// Index of a memory request.
    scratch: Option<usize>,
    threads: Option<usize>,
    identity: Option<StepIdentity>,
    region: Option<usize>,
    /// What it reads, if not what its node reads.
    operands: Option<Vec<Option<ValueId>>>,
}

struct Planner<'a> {
    graph: &'a Graph,
    target: &'a Target,
    exec: Exec<'a>,
    facts: Vec<Fact>,
    places: Vec<Option<Place>>,
    drafts: Vec<Draft>,
    requests: Vec<Request>,
    regions: Vec<Region>,
    /// For every request, the region that alone uses it: each of its threads has its own.
    inner: Vec<Option<usize>>,
    /// For every heap slot, the last step that reads it.
    slot_last: Vec<usize>,
}

/// Plans `graph` for inputs of these shapes, in the signature's order.
pub(crate) fn build(
    graph: &Graph,
    order: &[NodeId],
    input_shapes: &[Shape],
    target: &Target,
    exec: Exec<'_>,
) -> Result<Plan, Box<NodeError>> {
    let mut planner = Planner::new(graph, input_shapes, target, exec);
    for &id in order {
        if let Some(node) = graph.node(id) {
            planner.node(id, node).map_err(|error| Box::new(node_error(graph, node, error)))?;
        }
    }
    planner.find_lifetimes();
    planner.form_regions();
    planner.merge_chains();
    planner.share_in_place();
    Ok(planner.finish())
}

pub(crate) fn node_error(graph: &Graph, node: &Node, error: KernelError) -> NodeError {
    let result = || node.outputs.first().map(|&id| graph.value(id).name.clone());
    let name = Some(node.name.clone()).filter(|name| !name.is_empty()).or_else(result);
    NodeError { node: name.unwrap_or_default(), op: node.op.name(), error }
}

impl<'a> Planner<'a> {
    fn new(
        graph: &'a Graph,
        input_shapes: &[Shape],
        target: &'a Target,
        exec: Exec<'a>,
    ) -> Planner<'a> {
        let mut facts = Vec::with_capacity(graph.value_count());
        let mut places = Vec::with_capacity(graph.value_count());
        for (_, value) in graph.values() {
            match &value.origin {
                Origin::Constant(tensor) => {
                    facts.push(Fact::constant(tensor));
                    places.push(Some(Place::Constant(tensor.clone())));
                }
                _ => {
                    facts.push(Fact::default());
                    places.push(None);
                }
            }
        }
        for (index, (&id, shape)) in graph.inputs.iter().zip(input_shapes).enumerate() {
            let dtype = graph.value(id).dtype.unwrap_or(DType::F32);
            facts[id.index()] = Fact::concrete(dtype, shape);
            places[id.index()] = Some(Place::Input(index));
        }
        Planner {
            graph,
            target,
            exec,
            facts,
            places,
            drafts: Vec::new(),
            requests: Vec::new(),
            regions: Vec::new(),
            inner: Vec::new(),
            slot_last: Vec::new(),
        }
    }

    fn node(&mut self, id: NodeId, node: &Node) -> Result<(), KernelError> {
        let operands: Vec<Option<&Fact>> =
            node.inputs.iter().map(|input| input.map(|v| &self.facts[v.index()])).collect();
        let results = infer_node(&node.op, &operands, node.outputs.len())?;
        if let Some(tensors) = self.fold(node, &operands, &results) {
            for (&output, tensor) in node.outputs.iter().zip(tensors) {
                self.facts[output.index()] = Fact::constant(&tensor);
                self.places[output.index()] = Some(Place::Constant(tensor));
            }
            return Ok(());
        }
        let site = site(node, &operands, &results, self.target);
        let known = specs(&results).ok();
        let shaped = operands.iter().flatten().all(|fact| fact.shape().is_some());
        let work = match (lower(&site), known) {
            (Ok(Lowered::Alias), Some(_)) => {
                let first = node.input(0).and_then(|v| self.places[v.index()].clone());
                self.places[node.outputs[0].index()] = first;
                self.facts[node.outputs[0].index()].clone_from(&results[0]);
                return Ok(());
            }
            (Ok(Lowered::Kernel(kernel)), Some(specs)) => {
                let text = |dtype| matches!(dtype, DType::String | DType::Bytes);
                if specs.iter().any(|(dtype, _)| text(*dtype)) {
                    let limit = self.target.limits.memory_limit_bytes;
                    Work::Dynamic(Box::new(OnHeap { kernel, specs, limit }))
                } else {
                    Work::Kernel(kernel)
                }
            }
            (Ok(Lowered::Dynamic(kernel)), _) => Work::Dynamic(kernel),
            (Err(error), Some(_)) if shaped => return Err(error),
            _ => Work::Dynamic(Box::new(Late {
                op: node.op.clone(),
                result: node.outputs.first().copied(),
                outputs: node.outputs.len(),
                target: self.target.clone(),
            })),
        };
        let tuning = self.target.tuning.as_ref().filter(|_| matches!(work, Work::Kernel(_)));
        let identity = tuning.map(|_| site.identity());
        let limits = tuning.and_then(|tuning| tuning.threads.get(&self.target.threads));
        let threads = identity.as_ref().and_then(|id| limits?.get(&id.signature).copied());
        self.draft(id, node, work, results)?;
        if let Some(draft) = self.drafts.last_mut() {
            (draft.threads, draft.identity) = (threads, identity);
        }
        Ok(())
    }

    /// Fails if the node alone needs more memory than a run may use, so that no sum overflows.
    fn draft(
        &mut self,
        id: NodeId,
        node: &Node,
        work: Work,
        results: Vec<Fact>,
    ) -> Result<(), KernelError> {
        let limit = self.target.limits.memory_limit_bytes;
        let step = self.drafts.len();
        for (&output, fact) in node.outputs.iter().zip(results) {
            self.places[output.index()] = Some(match work {
                Work::Kernel(_) => {
                    let bytes = bytes_of_fact(&fact);
                    within(bytes, limit)?;
                    Place::Arena(self.request(bytes, step))
                }
                Work::Dynamic(_) => {
                    self.slot_last.push(step);
                    Place::Heap(self.slot_last.len() - 1)
                }
            });
            self.facts[output.index()] = fact;
        }
        let bytes = match &work {
            Work::Kernel(kernel) => kernel.scratch_bytes(),
            Work::Dynamic(_) => 0,
        };
        within(bytes, limit)?;
        let scratch = (bytes > 0).then(|| self.request(bytes, step));
        let (threads, identity, region, operands) = (None, None, None, None);
        self.drafts.push(Draft { id, work, scratch, threads, identity, region, operands });
        Ok(())
    }

    /// Asks for memory at one step, for all that the planner knows yet.
    fn request(&mut self, bytes: usize, step: usize) -> usize {
        self.requests.push(Request { bytes, first: step, last: step });
        self.inner.push(None);
        self.requests.len() - 1
    }

    /// The node's results, if they follow from what is known now and are small.
    fn fold(
        &self,
        node: &Node,
        operands: &[Option<&Fact>],
        results: &[Fact],
    ) -> Option<Vec<Tensor>> {
        if let [Fact { dtype: Some(DType::I64), ints: Some(ints), .. }] = results
            && let Some(shape) = results[0].shape()
        {
            let known: Option<Vec<i64>> = ints
                .iter()
                .map(|int| if let Int::Known(n) = int { Some(*n) } else { None })
                .collect();
            if let Some(tensor) = known.and_then(|ints| Tensor::from_slice(shape, &ints).ok()) {
                return Some(vec![tensor]);
            }
        }
        let inputs: Vec<Option<Tensor>> = operands
            .iter()
            .map(|fact| match fact {
                None => Some(None),
                Some(fact) => fact.tensor.clone().map(Some),
            })
            .collect::<Option<_>>()?;
        let small =
            results.iter().all(|fact| fact.shape().is_some() && bytes_of_fact(fact) <= FOLD_BYTES);
        if !small || node.outputs.is_empty() || is_random(&node.op) {
            return None;
        }
        evaluate(&node.op, None, &inputs, node.outputs.len(), self.target, self.exec).ok()
    }

    fn place(&self, id: ValueId) -> Option<&Place> {
        self.places[id.index()].as_ref()
    }
}

/// A node to lower.
fn site<'s>(
    node: &'s Node,
    inputs: &'s [Option<&'s Fact>],
    outputs: &'s [Fact],
    target: &'s Target,
) -> Site<'s> {
    let result = node.outputs.first().copied();
    Site { op: &node.op, inputs, outputs, ids: &node.inputs, result, target }
}

/// Whether the operator, or one in its bodies, draws random numbers.
fn is_random(op: &Op) -> bool {
    let drawn_inside = |(_, body): (_, &Graph)| body.nodes().any(|(_, node)| is_random(&node.op));
    if op.bodies().into_iter().any(drawn_inside) {
        return true;
    }
    matches!(
        op,
        Op::Bernoulli(_)
            | Op::Multinomial(_)
            | Op::RandomNormal(_)
            | Op::RandomNormalLike(_)
            | Op::RandomUniform(_)
            | Op::RandomUniformLike(_)
    )
}
