//! Running a plan.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use landfall_kernels::{Exec, Pool};
use landfall_tensor::{
    Arena, Data, DataMut, Reads, Shape, SharedArena, Tensor, TensorError, TensorMut, TensorView,
    Writes,
};
use smallvec::SmallVec;

use crate::evaluate::{memory_of, within};
use crate::kernel::{Inputs, Io, Outputs};
use crate::plan::{At, Destination, Operand, Plan, Region, Step, Work};
use crate::{KernelError, NodeError, RunError};

/// The working memory of one run at a time, of any plan of a program.
#[derive(Default)]
pub(crate) struct Context {
    arena: Arena,
    heap: Vec<Option<Tensor>>,
}

impl Context {
    /// Makes room for a run of this plan.
    pub(crate) fn fit(&mut self, plan: &Plan) {
        if self.arena.len() < plan.arena_bytes {
            // The old one goes before the new one comes.
            self.arena = Arena::default();
            self.arena = Arena::new(plan.arena_bytes);
        }
        self.heap.resize(plan.heap_slots, None);
    }

    fn heap_bytes(&self) -> usize {
        self.heap.iter().flatten().map(memory_of).fold(0, usize::saturating_add)
    }

    /// The same when results are copied for whoever takes them.
    fn heap_bytes_with_copies(&self, plan: &Plan) -> usize {
        let copies = plan.outputs.iter().map(|output| match output {
            Operand::Heap { slot, .. } => self.heap[*slot].as_ref().map_or(0, memory_of),
            _ => 0,
        });
        copies.fold(self.heap_bytes(), usize::saturating_add)
    }
}

/// Working memory that no run uses at present.
#[derive(Default)]
pub(crate) struct Idle {
    contexts: Vec<Context>,
    /// What recent runs needed at most: it follows a larger need at once and a smaller one slowly.
    recent_bytes: usize,
}

impl Idle {
    /// The context used last, whose memory may still be in the caches.
    pub(crate) fn take(&mut self) -> Context {
        self.contexts.pop().unwrap_or_default()
    }

    /// Keeps a context for later runs, unless it is more than twice what recent ones needed: one
    /// request far larger than the others must not hold its memory for good.
    pub(crate) fn give_back(&mut self, context: Context, needed: usize) {
        let decayed = self.recent_bytes - self.recent_bytes / 32;
        self.recent_bytes = needed.max(decayed);
        if context.arena.len() / 2 <= self.recent_bytes {
            self.contexts.push(context);
        }
    }
}

#[cfg(test)]
impl Idle {
    pub(crate) fn contexts(&self) -> usize {
        self.contexts.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.contexts.iter().map(|context| context.arena.len()).sum()
    }
}

/// Told after every step that it has finished. A step that runs for slices of the batch is told of
/// after each, where threads run slices of their own only by the first of them.
pub type Observer<'a> = &'a mut (dyn FnMut(usize) + Send);

/// Runs every step in at most about `limit` bytes, then hands every output to `emit` as a view, in
/// the signature's order.
pub(crate) fn execute(
    plan: &Plan,
    context: &mut Context,
    inputs: &[TensorView<'_>],
    limit: usize,
    exec: Exec<'_>,
    mut observer: Option<Observer<'_>>,
    emit: &mut dyn FnMut(usize, TensorView<'_>) -> Result<(), TensorError>,
) -> Result<(), RunError> {
    let heap_limit = limit.saturating_sub(plan.run_bytes);
    let mut regions = plan.regions.iter().peekable();
    let mut index = 0;
    while let Some(step) = plan.steps.get(index) {
        if let Some(region) = regions.next_if(|region| region.steps.start == index) {
            let arena = context.arena.share();
            let run = RegionRun { region, steps: &plan.steps, arena, inputs };
            run.run(exec, &mut observer)?;
            index = region.steps.end;
            continue;
        }
        let done = match &step.work {
            Work::Kernel(kernel) => {
                let limited = step.threads.map(|threads| exec.pool.limited(threads));
                let exec = Exec { cpu: exec.cpu, pool: limited.as_ref().unwrap_or(exec.pool) };
                run_kernel(step, kernel.as_ref(), context, inputs, exec)
            }
            Work::Dynamic(_) => run_dynamic(step, context, inputs, heap_limit, exec),
        };
        done.map_err(|error| failed(step, error))?;
        for &slot in &step.dead_slots {
            context.heap[slot] = None;
        }
        if let Some(observer) = observer.as_mut() {
            observer(index);
        }
        index += 1;
    }
    let needed = context.heap_bytes_with_copies(plan).saturating_add(plan.run_bytes);
    if needed > limit {
        return Err(RunError::Memory { needed, limit });
    }
    for (index, output) in plan.outputs.iter().enumerate() {
        let emitted = view(output, &context.arena, &context.heap, inputs)
            .and_then(|view| Ok(emit(index, view)?));
        emitted.map_err(|error| RunError::Input(error.to_string()))?;
    }
    context.heap.fill(None);
    Ok(())
}

fn failed(step: &Step, error: KernelError) -> RunError {
    RunError::Node(Box::new(NodeError { node: step.node.clone(), op: step.op, error }))
}

/// A region in a run.
struct RegionRun<'a> {
    region: &'a Region,
    steps: &'a [Step],
    arena: SharedArena<'a>,
    inputs: &'a [TensorView<'a>],
}

impl RegionRun<'_> {
    /// Threads take slices as long as there is one for each of them, and share the rest.
    fn run(&self, exec: Exec<'_>, observer: &mut Option<Observer<'_>>) -> Result<(), RunError> {
        let Region { slices, workers, .. } = *self.region;
        let apart = if workers > 1 { slices / workers * workers } else { 0 };
        let observer = Mutex::new(observer);
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let alone = Exec { cpu: exec.cpu, pool: Pool::inline() };
        exec.pool.run(workers.min(apart), &|worker| {
            loop {
                let slice = next.fetch_add(1, Ordering::Relaxed);
                if slice >= apart {
                    return;
                }
                let observer = if worker == 0 { Some(&observer) } else { None };
                if let Err(error) = self.slice(At { slice, worker }, alone, observer) {
                    next.store(apart, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let rest = apart..slices;
        rest.into_iter()
            .try_for_each(|slice| self.slice(At { slice, worker: 0 }, exec, Some(&observer)))
    }

    /// Runs every step for one slice.
    fn slice(
        &self,
        at: At,
        exec: Exec<'_>,
        observer: Option<&Mutex<&mut Option<Observer<'_>>>>,
    ) -> Result<(), RunError> {
        for index in self.region.steps.clone() {
            let step = &self.steps[index];
            let Work::Kernel(kernel) = &step.work else { continue };
            self.kernel(step, kernel.as_ref(), at, exec).map_err(|error| failed(step, error))?;
            if let Some(observer) = observer
                && let Some(observer) =
                    observer.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
            {
                observer(index);
            }
        }
        Ok(())
    }

    /// Runs one step for one slice, on memory that no other thread has in use.
    fn kernel(
        &self,
        step: &Step,
        kernel: &dyn crate::Kernel,
        at: At,
        exec: Exec<'_>,
    ) -> Result<(), KernelError> {
        let Some((reads, writes)) = ranges(step, at) else { return Ok(()) };
        self.arena.with_slices(&reads, &writes, |reads, writes| {
            call(step, kernel, at, (reads, writes), &[], self.inputs, exec)
        })?
    }
}

fn shaped<'a>(view: TensorView<'a>, shape: &'a Shape) -> Result<TensorView<'a>, KernelError> {
    Ok(view.reshaped(shape)?)
}

fn off_arena<'a>(
    operand: &'a Operand,
    at: At,
    heap: &'a [Option<Tensor>],
    inputs: &[TensorView<'a>],
) -> Result<TensorView<'a>, KernelError> {
    match operand {
        Operand::Constant(tensor) => Ok(tensor.view()),
        Operand::Input { index, shape, slices: 1 } => shaped(inputs[*index], shape),
        Operand::Input { index, shape, slices } => {
            let input = inputs[*index];
            let bytes = input.bytes().unwrap_or(&[]);
            let len = bytes.len() / slices;
            let bytes = bytes.get(at.slice * len..(at.slice + 1) * len).unwrap_or(&[]);
            Ok(TensorView::new(input.dtype(), shape, Data::Bytes(bytes))?)
        }
        Operand::Heap { slot, shape } => {
            let tensor = heap[*slot]
                .as_ref()
                .ok_or_else(|| KernelError::Invalid("operand was not computed".into()))?;
            match shape {
                Some(shape) => shaped(tensor.view(), shape),
                None => Ok(tensor.view()),
            }
        }
        Operand::Arena { .. } => Err(KernelError::Invalid("operand is in the arena".into())),
    }
}

fn view<'a>(
    operand: &'a Operand,
    arena: &'a Arena,
    heap: &'a [Option<Tensor>],
    inputs: &[TensorView<'a>],
) -> Result<TensorView<'a>, KernelError> {
    match operand {
        Operand::Arena { span, dtype, shape } => {
            Ok(TensorView::new(*dtype, shape, Data::Bytes(arena.slice(span.range.clone())?))?)
        }
        other => off_arena(other, At::default(), heap, inputs),
    }
}

/// Runs a kernel of known result shapes for the whole batch.
fn run_kernel(
    step: &Step,
    kernel: &dyn crate::Kernel,
    context: &mut Context,
    inputs: &[TensorView<'_>],
    exec: Exec<'_>,
) -> Result<(), KernelError> {
    let at = At::default();
    let Some((reads, writes)) = ranges(step, at) else { return Ok(()) };
    let memory = context.arena.slices(&reads, &writes)?;
    call(step, kernel, at, memory, &context.heap, inputs, exec)
}

/// Ranges of the arena that a step reads, and those that it writes, the last one its working
/// memory.
type Ranges = (SmallVec<[Range<usize>; 8]>, SmallVec<[Range<usize>; 4]>);

/// The ranges of a step; `None` if no result has elements: there is nothing to do for a batch of no
/// rows, and kernels need not know of it.
fn ranges(step: &Step, at: At) -> Option<Ranges> {
    let is_empty = |destination: &Destination| match destination {
        Destination::Arena { span, .. } => span.range.is_empty(),
        Destination::Heap(_) => false,
    };
    if step.outputs.iter().all(is_empty) {
        return None;
    }
    let mut reads = SmallVec::new();
    for operand in step.inputs.iter().flatten() {
        if let Operand::Arena { span, .. } = operand {
            reads.push(span.at(at));
        }
    }
    let mut writes: SmallVec<_> = step
        .outputs
        .iter()
        .map(|destination| match destination {
            Destination::Arena { span, .. } => span.at(at),
            Destination::Heap(_) => 0..0,
        })
        .collect();
    writes.push(step.scratch.at(at));
    Some((reads, writes))
}

/// Calls a kernel on the memory of its [`ranges`].
fn call(
    step: &Step,
    kernel: &dyn crate::Kernel,
    at: At,
    (reads, mut writes): (Reads<'_>, Writes<'_>),
    heap: &[Option<Tensor>],
    inputs: &[TensorView<'_>],
    exec: Exec<'_>,
) -> Result<(), KernelError> {
    let scratch = writes.pop().unwrap_or_default();
    let mut reads = reads.into_iter();
    let mut views = Inputs::new();
    for operand in &step.inputs {
        views.push(match operand {
            None => None,
            Some(Operand::Arena { dtype, shape, .. }) => {
                let bytes = reads.next().unwrap_or(&[]);
                Some(TensorView::new(*dtype, shape, Data::Bytes(bytes))?)
            }
            Some(other) => Some(off_arena(other, at, heap, inputs)?),
        });
    }
    let mut outputs = Outputs::new();
    for (destination, bytes) in step.outputs.iter().zip(writes) {
        if let Destination::Arena { dtype, shape, .. } = destination {
            outputs.push(TensorMut::new(*dtype, shape, DataMut::Bytes(bytes))?);
        }
    }
    kernel.run(&mut Io { inputs: views, outputs, scratch, exec })
}

fn run_dynamic(
    step: &Step,
    context: &mut Context,
    inputs: &[TensorView<'_>],
    heap_limit: usize,
    exec: Exec<'_>,
) -> Result<(), KernelError> {
    let Work::Dynamic(kernel) = &step.work else { return Ok(()) };
    let mut operands = Vec::with_capacity(step.inputs.len());
    for operand in &step.inputs {
        operands.push(match operand {
            None => None,
            Some(Operand::Heap { slot, shape: None }) => context.heap[*slot].clone(),
            Some(Operand::Constant(tensor)) => Some(tensor.clone()),
            Some(other) => Some(view(other, &context.arena, &context.heap, inputs)?.to_tensor()?),
        });
    }
    let results = kernel.run(&operands, exec)?;
    for (destination, tensor) in step.outputs.iter().zip(results) {
        if let Destination::Heap(slot) = destination {
            context.heap[*slot] = Some(tensor);
        }
    }
    within(context.heap_bytes(), heap_limit)
}
