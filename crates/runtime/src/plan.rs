//! A graph and concrete input shapes to a flat list of steps over one arena.
//!
//! Planning walks the graph once. What is known without the inputs' data is computed now; a node of
//! known shapes becomes a kernel writing into the arena; a node that only renames elements shares
//! its operand's place; a node whose result shapes depend on data allocates when it runs, and so
//! does what follows from it.

use std::ops::Range;

use landfall_graph::infer::{Fact, Int, infer_node};
use landfall_graph::{Graph, Node, NodeId, Op, Origin, ValueId};
use landfall_kernels::Exec;
use landfall_tensor::{DType, Shape, Tensor};

use crate::evaluate::{Late, OnHeap, bytes_of_fact, evaluate, specs, within};
use crate::lower::{Lowered, Site, Target, lower};
use crate::memory::{self, MemoryPlan, Request};
use crate::{Algorithms, DynamicKernel, Kernel, KernelError, KernelInfo, NodeError};

/// Results of more bytes than this are not computed while planning.
const FOLD_BYTES: usize = 1 << 20;

/// A flat program for one set of input shapes.
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
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
    pub(crate) scratch: Range<usize>,
    /// Heap slots that nothing reads after this step.
    pub(crate) dead_slots: Vec<usize>,
    /// Threads that it uses at most, if that was measured.
    pub(crate) threads: Option<usize>,
    /// See [`crate::StepReport::signature`].
    pub(crate) signature: String,
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
        range: Range<usize>,
        dtype: DType,
        shape: Shape,
    },
    Constant(Tensor),
    /// The shape may differ from the caller's tensor's, but not its number of elements.
    Input {
        index: usize,
        shape: Shape,
    },
    /// `shape` is `None` if it depends on data.
    Heap {
        slot: usize,
        shape: Option<Shape>,
    },
}

/// Where a step leaves a result.
pub(crate) enum Destination {
    Arena { range: Range<usize>, dtype: DType, shape: Shape },
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
    signature: String,
}

struct Planner<'a> {
    graph: &'a Graph,
    target: &'a Target,
    exec: Exec<'a>,
    facts: Vec<Fact>,
    places: Vec<Option<Place>>,
    drafts: Vec<Draft>,
    requests: Vec<Request>,
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
        let (drafts, requests, slot_last) = (Vec::new(), Vec::new(), Vec::new());
        Planner { graph, target, exec, facts, places, drafts, requests, slot_last }
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
        let site = Site {
            op: &node.op,
            inputs: &operands,
            outputs: &results,
            ids: &node.inputs,
            result: node.outputs.first().copied(),
            target: self.target,
        };
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
        let signature = match (&work, &self.target.tuning) {
            (Work::Kernel(_), Some(_)) => site.signature(),
            _ => String::new(),
        };
        let threads = site.choice(&signature).and_then(|choice| choice.threads);
        self.draft(id, node, work, results)?;
        if let Some(draft) = self.drafts.last_mut() {
            (draft.threads, draft.signature) = (threads, signature);
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
                    self.requests.push(Request { bytes, first: step, last: step });
                    Place::Arena(self.requests.len() - 1)
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
        let scratch = (bytes > 0).then(|| {
            self.requests.push(Request { bytes, first: step, last: step });
            self.requests.len() - 1
        });
        self.drafts.push(Draft { id, work, scratch, threads: None, signature: String::new() });
        Ok(())
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

    fn find_lifetimes(&mut self) {
        let graph = self.graph;
        let end = self.drafts.len();
        let mut uses: Vec<(ValueId, usize)> = graph.outputs.iter().map(|&id| (id, end)).collect();
        for (step, draft) in self.drafts.iter().enumerate() {
            let operands = graph.node(draft.id).into_iter().flat_map(Node::operands);
            uses.extend(operands.map(|id| (id, step)));
        }
        for (id, step) in uses {
            match self.places[id.index()] {
                Some(Place::Arena(i)) => self.requests[i].last = self.requests[i].last.max(step),
                Some(Place::Heap(i)) => self.slot_last[i] = self.slot_last[i].max(step),
                _ => (),
            }
        }
    }

    /// Lets a result take over the memory of an operand that dies at its step.
    fn share_in_place(&mut self) {
        for step in 0..self.drafts.len() {
            let Work::Kernel(kernel) = &self.drafts[step].work else { continue };
            let Some(index) = kernel.in_place() else { continue };
            let Some(node) = self.graph.node(self.drafts[step].id) else { continue };
            let (Some(operand), Some(&result)) = (node.input(index), node.outputs.first()) else {
                continue;
            };
            let (Some(&Place::Arena(from)), Some(&Place::Arena(to))) =
                (self.place(operand), self.place(result))
            else {
                continue;
            };
            let same_place =
                |id: ValueId| matches!(self.place(id), Some(Place::Arena(i)) if *i == from);
            let reads = node.operands().filter(|&id| same_place(id)).count();
            let fits = self.requests[from].bytes == self.requests[to].bytes;
            if reads == 1 && fits && self.requests[from].last == step {
                self.requests[from].last = self.requests[to].last;
                self.requests[to].bytes = 0;
                for place in &mut self.places {
                    if matches!(place, Some(Place::Arena(i)) if *i == to) {
                        *place = Some(Place::Arena(from));
                    }
                }
            }
        }
    }

    fn finish(self) -> Plan {
        let memory = memory::plan(&self.requests);
        let outputs = self.graph.outputs.iter().filter_map(|&id| self.operand(id, &memory));
        let outputs = outputs.collect();
        let copied = self.graph.outputs.iter().map(|&id| match self.place(id) {
            Some(Place::Heap(_)) | None => 0,
            Some(_) => bytes_of_fact(&self.facts[id.index()]),
        });
        let run_bytes = copied.fold(memory.arena_bytes, usize::saturating_add);
        let mut steps: Vec<Step> = Vec::with_capacity(self.drafts.len());
        let mut dead: Vec<Vec<usize>> = vec![Vec::new(); self.drafts.len() + 1];
        for (slot, &last) in self.slot_last.iter().enumerate() {
            dead[last].push(slot);
        }
        let wiring: Vec<_> = self.drafts.iter().map(|draft| self.wiring(draft, &memory)).collect();
        let drafts = self.drafts.into_iter().zip(wiring).zip(dead);
        for ((draft, (inputs, outputs)), dead_slots) in drafts {
            let Some(node) = self.graph.node(draft.id) else { continue };
            let name = node_error(self.graph, node, KernelError::Invalid(String::new())).node;
            let Draft { work, threads, signature, .. } = draft;
            let op = node.op.name();
            let scratch = draft.scratch.map_or(0..0, |request| memory.ranges[request].clone());
            steps.push(Step {
                node: name,
                op,
                work,
                inputs,
                outputs,
                scratch,
                dead_slots,
                threads,
                signature,
            });
        }
        Plan {
            steps,
            outputs,
            arena_bytes: memory.arena_bytes,
            run_bytes,
            lower_bound_bytes: memory.lower_bound_bytes,
            heap_slots: self.slot_last.len(),
        }
    }

    fn wiring(
        &self,
        draft: &Draft,
        memory: &MemoryPlan,
    ) -> (Vec<Option<Operand>>, Vec<Destination>) {
        let Some(node) = self.graph.node(draft.id) else { return (Vec::new(), Vec::new()) };
        let destinations: Vec<Destination> = node
            .outputs
            .iter()
            .filter_map(|&id| match self.operand(id, memory)? {
                Operand::Arena { range, dtype, shape } => {
                    Some(Destination::Arena { range, dtype, shape })
                }
                Operand::Heap { slot, .. } => Some(Destination::Heap(slot)),
                Operand::Constant(_) | Operand::Input { .. } => None,
            })
            .collect();
        let written: Vec<&Range<usize>> = destinations
            .iter()
            .filter_map(|destination| match destination {
                Destination::Arena { range, .. } if !range.is_empty() => Some(range),
                _ => None,
            })
            .collect();
        // An operand whose memory a result takes over is not handed to the kernel as a view.
        let taken = |operand: &Operand| match operand {
            Operand::Arena { range, .. } => written.contains(&range),
            _ => false,
        };
        let operands = node.inputs.iter().map(|input| {
            input.and_then(|id| self.operand(id, memory)).filter(|operand| !taken(operand))
        });
        (operands.collect(), destinations)
    }

    fn operand(&self, id: ValueId, memory: &MemoryPlan) -> Option<Operand> {
        let fact = &self.facts[id.index()];
        Some(match self.place(id)? {
            Place::Constant(tensor) => match fact.shape() {
                Some(shape) => Operand::Constant(tensor.reshaped(shape).ok()?),
                None => Operand::Constant(tensor.clone()),
            },
            Place::Input(index) => Operand::Input { index: *index, shape: fact.shape()? },
            Place::Arena(i) => Operand::Arena {
                range: memory.ranges[*i].clone(),
                dtype: fact.dtype?,
                shape: fact.shape()?,
            },
            Place::Heap(slot) => Operand::Heap { slot: *slot, shape: fact.shape() },
        })
    }
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
