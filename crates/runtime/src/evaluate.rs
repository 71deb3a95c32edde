//! One operator on given tensors, without a plan: constant folding, operators whose operands have
//! shapes only known while running, and tests.

use landfall_graph::infer::{Fact, infer_node};
use landfall_graph::{Op, ValueId};
use landfall_kernels::{Cpu, Exec, Pool};
use landfall_tensor::{Arena, DType, DataMut, Shape, Tensor, TensorMut};

use crate::kernel::{Io, Outputs};
use crate::lower::{Lowered, Site, Target, lower};
use crate::program::Limits;
use crate::{DynamicKernel, Kernel, KernelError, KernelInfo};

/// Computes `outputs` results of `op`, whose first result is `result` if there is a graph.
pub(crate) fn evaluate(
    op: &Op,
    result: Option<ValueId>,
    inputs: &[Option<Tensor>],
    outputs: usize,
    target: &Target,
    exec: Exec<'_>,
) -> Result<Vec<Tensor>, KernelError> {
    let aligned: Vec<Option<Tensor>> =
        inputs.iter().map(|input| input.as_ref().map(Tensor::aligned)).collect();
    let facts: Vec<Option<Fact>> =
        aligned.iter().map(|input| input.as_ref().map(Fact::constant)).collect();
    let operands: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let results = infer_node(op, &operands, outputs)?;
    check_results(&results, target.limits.memory_limit_bytes)?;
    let (inputs, outputs) = (operands.as_slice(), results.as_slice());
    let site = Site { op, inputs, outputs, ids: &[], result, target };
    match lower(&site)? {
        Lowered::Alias => {
            let first = aligned.first().cloned().flatten();
            let first = first.ok_or_else(|| KernelError::Invalid("operand 0 is missing".into()))?;
            Ok(vec![first.reshaped(site.output_shape(0)?)?])
        }
        Lowered::Dynamic(kernel) => kernel.run(&aligned, exec),
        Lowered::Kernel(kernel) => {
            let (specs, limit) = (specs(&results)?, target.limits.memory_limit_bytes);
            run_on_heap(kernel.as_ref(), &aligned, &specs, limit, exec)
        }
    }
}

/// Working memory that a body evaluated while folding constants may use.
const EVALUATION_BYTES: usize = 1 << 30;

/// Computes single operators on the calling thread, for constant folding.
pub struct Evaluator {
    target: Target,
}

impl Evaluator {
    /// An evaluator that uses these instruction sets.
    pub fn new(cpu: Cpu) -> Evaluator {
        let limits = Limits { max_plans: 8, memory_limit_bytes: EVALUATION_BYTES };
        Evaluator { target: Target::new(cpu, 1, limits) }
    }

    /// The first `outputs` results of `op`.
    pub fn evaluate(
        &self,
        op: &Op,
        inputs: &[Option<Tensor>],
        outputs: usize,
    ) -> Result<Vec<Tensor>, KernelError> {
        let exec = Exec { cpu: self.target.cpu, pool: Pool::inline() };
        evaluate(op, None, inputs, outputs, &self.target, exec)
    }
}

/// Type and shape of every result.
pub(crate) fn specs(results: &[Fact]) -> Result<Vec<(DType, Shape)>, KernelError> {
    let spec = |fact: &Fact| Some((fact.dtype?, fact.shape()?));
    results
        .iter()
        .map(|fact| {
            spec(fact).ok_or_else(|| KernelError::Unsupported("a result's shape is unknown".into()))
        })
        .collect()
}

/// Refuses results that data asks for and that would need more than `limit` bytes.
fn check_results(results: &[Fact], limit: usize) -> Result<(), KernelError> {
    within(results.iter().map(bytes_of_fact).fold(0, usize::saturating_add), limit)
}

/// Memory of a value, at least; 0 if its type or shape is not known.
pub(crate) fn bytes_of_fact(fact: &Fact) -> usize {
    match (fact.dtype, fact.shape()) {
        (Some(dtype), Some(shape)) => bytes_of(dtype, &shape),
        _ => 0,
    }
}

/// Memory of a tensor, at least.
fn bytes_of(dtype: DType, shape: &[usize]) -> usize {
    match shape.contains(&0) {
        true => 0,
        false => {
            shape.iter().fold(dtype.least_bytes(), |bytes, &extent| bytes.saturating_mul(extent))
        }
    }
}

/// Memory of a tensor, at least.
pub(crate) fn memory_of(tensor: &Tensor) -> usize {
    bytes_of(tensor.dtype(), tensor.shape())
}

/// Refuses more than `limit` bytes.
pub(crate) fn within(needed: usize, limit: usize) -> Result<(), KernelError> {
    if needed > limit { Err(KernelError::Memory { needed, limit }) } else { Ok(()) }
}

/// Runs a kernel with results allocated for this one call, in all at most `limit` bytes.
fn run_on_heap(
    kernel: &dyn Kernel,
    inputs: &[Option<Tensor>],
    specs: &[(DType, Shape)],
    limit: usize,
    exec: Exec<'_>,
) -> Result<Vec<Tensor>, KernelError> {
    let bytes = kernel.scratch_bytes();
    let results = specs.iter().map(|(dtype, shape)| bytes_of(*dtype, shape));
    within(results.fold(bytes, usize::saturating_add), limit)?;
    let mut scratch = Arena::new(bytes);
    let mut memory: Vec<Memory> =
        specs.iter().map(|(dtype, shape)| Memory::new(*dtype, shape)).collect::<Result<_, _>>()?;
    // As in the executor, there is nothing to do where no result has elements.
    if specs.iter().any(|(_, shape)| shape.elements() > 0) {
        let mut outputs = Outputs::new();
        for ((dtype, shape), memory) in specs.iter().zip(&mut memory) {
            outputs.push(TensorMut::new(*dtype, shape, memory.borrow()?)?);
        }
        let views = inputs.iter().map(|input| input.as_ref().map(Tensor::view)).collect();
        let scratch = scratch.slice_mut(0..bytes)?;
        kernel.run(&mut Io { inputs: views, outputs, scratch, exec })?;
    }
    specs.iter().zip(memory).map(|((dtype, shape), memory)| memory.finish(*dtype, shape)).collect()
}

/// Memory for one result.
enum Memory {
    Bytes(Arena, usize),
    Strings(Vec<String>),
}

impl Memory {
    fn new(dtype: DType, shape: &Shape) -> Result<Memory, KernelError> {
        let elements = shape.checked_elements()?;
        match dtype {
            DType::String => Ok(Memory::Strings(vec![String::new(); elements])),
            DType::Bytes => KernelError::unsupported("results of byte strings are not supported"),
            _ => {
                let bytes = elements.saturating_mul(dtype.size());
                Ok(Memory::Bytes(Arena::new(bytes), bytes))
            }
        }
    }

    fn borrow(&mut self) -> Result<DataMut<'_>, KernelError> {
        Ok(match self {
            Memory::Bytes(arena, len) => DataMut::Bytes(arena.slice_mut(0..*len)?),
            Memory::Strings(strings) => DataMut::Strings(strings),
        })
    }

    fn finish(self, dtype: DType, shape: &Shape) -> Result<Tensor, KernelError> {
        Ok(match self {
            Memory::Bytes(arena, len) => {
                Tensor::from_buffer(dtype, shape.clone(), arena.into_buffer(len))?
            }
            Memory::Strings(strings) => Tensor::from_strings(shape.clone(), strings)?,
        })
    }
}

/// A kernel of known result shapes whose results live on the heap: text.
pub(crate) struct OnHeap {
    pub(crate) kernel: Box<dyn Kernel>,
    pub(crate) specs: Vec<(DType, Shape)>,
    /// Bytes that a run may use.
    pub(crate) limit: usize,
}

impl DynamicKernel for OnHeap {
    fn run(&self, inputs: &[Option<Tensor>], exec: Exec<'_>) -> Result<Vec<Tensor>, KernelError> {
        run_on_heap(self.kernel.as_ref(), inputs, &self.specs, self.limit, exec)
    }

    fn info(&self) -> KernelInfo {
        self.kernel.info()
    }
}

/// An operator lowered anew for every run, because its operands' shapes depend on data.
pub(crate) struct Late {
    pub(crate) op: Op,
    pub(crate) result: Option<ValueId>,
    pub(crate) outputs: usize,
    pub(crate) target: Target,
}

impl DynamicKernel for Late {
    fn run(&self, inputs: &[Option<Tensor>], exec: Exec<'_>) -> Result<Vec<Tensor>, KernelError> {
        evaluate(&self.op, self.result, inputs, self.outputs, &self.target, exec)
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("late", "").because("operand shapes depend on data")
    }
}
