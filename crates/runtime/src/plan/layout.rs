//! Where every value of a plan lives: lifetimes, memory taken over in place, offsets.

use landfall_graph::{Node, ValueId};
use landfall_tensor::Shape;

use super::{
    Destination, Draft, Operand, Place, Plan, Planner, Span, Step, Work, bytes_of_fact, node_error,
};
use crate::KernelError;
use crate::memory::{self, Request};

/// The arena, laid out.
struct Layout {
    /// Where every request lies; what only a region uses, for its first thread.
    spans: Vec<Span>,
    arena_bytes: usize,
    lower_bound_bytes: usize,
}

impl Planner<'_> {
    pub(super) fn find_lifetimes(&mut self) {
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
    pub(super) fn share_in_place(&mut self) {
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
            let fits = self.requests[from].bytes == self.requests[to].bytes
                && self.inner[from] == self.inner[to];
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

    /// Lays the arena out. What only a region uses is laid out by itself, once for each of its
    /// threads, since they are at different steps of it at one time.
    fn layout(&self) -> Layout {
        let mut whole = self.requests.clone();
        let mut spans = vec![Span::default(); whole.len()];
        let mut bounds = whole.clone();
        for (index, region) in self.regions.iter().enumerate() {
            let inside: Vec<usize> =
                (0..self.requests.len()).filter(|&i| self.inner[i] == Some(index)).collect();
            let requests: Vec<Request> = inside.iter().map(|&i| self.requests[i]).collect();
            let memory = memory::plan(&requests);
            for (&i, range) in inside.iter().zip(memory.ranges) {
                (whole[i].bytes, bounds[i].bytes) = (0, 0);
                spans[i] = Span { range, per_slice: 0, per_worker: memory.arena_bytes };
            }
            let (first, last) = (region.steps.start, region.steps.end - 1);
            let request =
                |bytes: usize| Request { bytes: bytes.saturating_mul(region.workers), first, last };
            whole.push(request(memory.arena_bytes));
            bounds.push(request(memory.lower_bound_bytes));
        }
        let memory = memory::plan(&whole);
        for (i, span) in spans.iter_mut().enumerate() {
            match self.inner[i] {
                Some(region) => {
                    let base = memory.ranges[self.requests.len() + region].start;
                    span.range = span.range.start + base..span.range.end + base;
                }
                None => span.range = memory.ranges[i].clone(),
            }
        }
        let lower_bound_bytes = memory::lower_bound(&bounds);
        Layout { spans, arena_bytes: memory.arena_bytes, lower_bound_bytes }
    }

    pub(super) fn finish(self) -> Plan {
        let memory = self.layout();
        let outputs = self.graph.outputs.iter().filter_map(|&id| self.operand(id, &memory, None));
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
            let Draft { work, threads, identity, .. } = draft;
            let op = node.op.name();
            let scratch = draft.scratch.map_or_else(Span::default, |i| memory.spans[i].clone());
            steps.push(Step {
                node: name,
                op,
                work,
                inputs,
                outputs,
                scratch,
                dead_slots,
                threads,
                identity,
            });
        }
        Plan {
            steps,
            regions: self.regions,
            outputs,
            arena_bytes: memory.arena_bytes,
            run_bytes,
            lower_bound_bytes: memory.lower_bound_bytes,
            heap_slots: self.slot_last.len(),
        }
    }

    fn wiring(&self, draft: &Draft, memory: &Layout) -> (Vec<Option<Operand>>, Vec<Destination>) {
        let Some(node) = self.graph.node(draft.id) else { return (Vec::new(), Vec::new()) };
        let region = draft.region;
        let destinations: Vec<Destination> = node
            .outputs
            .iter()
            .filter_map(|&id| match self.operand(id, memory, region)? {
                Operand::Arena { span, dtype, shape } => {
                    Some(Destination::Arena { span, dtype, shape })
                }
                Operand::Heap { slot, .. } => Some(Destination::Heap(slot)),
                Operand::Constant(_) | Operand::Input { .. } => None,
            })
            .collect();
        let written: Vec<&Span> = destinations
            .iter()
            .filter_map(|destination| match destination {
                Destination::Arena { span, .. } if !span.range.is_empty() => Some(span),
                _ => None,
            })
            .collect();
        // An operand whose memory a result takes over is not handed to the kernel as a view.
        let taken = |operand: &Operand| match operand {
            Operand::Arena { span, .. } => written.contains(&span),
            _ => false,
        };
        let inputs = draft.operands.as_ref().unwrap_or(&node.inputs);
        let operands = inputs.iter().enumerate().map(|(index, input)| {
            let id = input.filter(|_| !draft.work.has_packed(index))?;
            self.operand(id, memory, region).filter(|operand| !taken(operand))
        });
        (operands.collect(), destinations)
    }

    /// A value as a step finds it, inside a region one slice of it.
    fn operand(&self, id: ValueId, memory: &Layout, region: Option<usize>) -> Option<Operand> {
        let fact = &self.facts[id.index()];
        let region = region.map(|index| &self.regions[index]);
        let slices = region.map_or(1, |region| region.slices);
        let shape = || {
            let shape = fact.shape()?;
            Some(region.map_or_else(|| shape.clone(), |region| with_rows(&shape, region.rows)))
        };
        Some(match self.place(id)? {
            Place::Constant(tensor) => {
                let tensor = self.target.weights.aligned(tensor);
                match fact.shape() {
                    Some(shape) => Operand::Constant(tensor.reshaped(shape).ok()?),
                    None => Operand::Constant(tensor),
                }
            }
            Place::Input(index) => Operand::Input { index: *index, shape: shape()?, slices },
            Place::Arena(i) => {
                let mut span = memory.spans[*i].clone();
                if self.inner[*i].is_none() && slices > 1 {
                    span.per_slice = span.range.len() / slices;
                    span.range.end = span.range.start + span.per_slice;
                }
                Operand::Arena { span, dtype: fact.dtype?, shape: shape()? }
            }
            Place::Heap(slot) => Operand::Heap { slot: *slot, shape: fact.shape() },
        })
    }
}

/// The shape with another leading extent.
pub(super) fn with_rows(shape: &Shape, rows: usize) -> Shape {
    let rest = shape.iter().skip(1).copied();
    std::iter::once(rows).chain(rest).collect()
}
