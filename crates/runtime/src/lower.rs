//! Operators to kernels: one file for each family, the first that knows the operator answers.

mod activation;
pub(crate) mod alike;
mod attention;
mod bf16;
pub(crate) mod chain;
mod classical;
mod control;
mod convolution;
mod einsum;
mod elementwise;
mod encoders;
mod generation;
mod indexing;
mod loss;
mod matmul;
mod movement;
mod nbits;
mod normalization;
mod quantization;
mod quantized;
mod random;
mod reals;
mod recurrent;
mod reduction;
mod resize;
mod rowwise;
mod sampling;
mod selection;
mod signal;
mod stack;
mod text;
mod text_cast;
mod tokens;
mod transposed;
mod tree_names;
mod trees;
pub(crate) mod types;

use std::sync::Arc;

use landfall_graph::infer::Fact;
use landfall_graph::text::print_op;
use landfall_graph::{Op, ValueId};
use landfall_kernels::Cpu;
use landfall_tensor::{Buffer, DType, Precision, Shape, Tensor};

use crate::program::{BodyCache, Limits};
use crate::weights::WeightCache;
use crate::{DynamicKernel, Kernel, KernelError, StepIdentity, Tuning};

/// A lowered operator.
pub(crate) enum Lowered {
    /// Results have known shapes and are written into memory given.
    Kernel(Box<dyn Kernel>),
    /// The first result is the first operand's elements under another shape.
    Alias,
    /// Results are allocated by the operator.
    Dynamic(Box<dyn DynamicKernel>),
}

/// What lowering is done for.
#[derive(Clone)]
pub(crate) struct Target {
    /// The instruction sets to use.
    pub(crate) cpu: Cpu,
    /// Threads that a run may use.
    pub(crate) threads: usize,
    /// The precision of products' operands.
    pub(crate) precision: Precision,
    /// Packed weights, shared by every plan of a model.
    pub(crate) weights: Arc<WeightCache>,
    /// Compiled bodies, shared by every plan of a model.
    pub(crate) bodies: Arc<BodyCache>,
    /// What was measured to be fastest.
    pub(crate) tuning: Option<Arc<Tuning>>,
    /// Bounds on each graph's plans.
    pub(crate) limits: Limits,
    /// How many bodies the graph is nested in.
    pub(crate) depth: usize,
}

impl Target {
    /// A target for a graph that is nobody's body, in f32.
    pub(crate) fn new(cpu: Cpu, threads: usize, limits: Limits) -> Target {
        let (weights, bodies, precision) = (Arc::default(), Arc::default(), Precision::F32);
        Target { cpu, threads, precision, weights, bodies, tuning: None, limits, depth: 0 }
    }

    /// The same for a body: its constants are its own.
    pub(crate) fn nested(&self) -> Target {
        let (depth, precision) = (self.depth + 1, self.precision);
        Target { depth, precision, ..Target::new(self.cpu, self.threads, self.limits) }
    }
}

/// One node to lower: its operator, what is known of its operands and results, and the target.
pub(crate) struct Site<'a> {
    /// The operator.
    pub(crate) op: &'a Op,
    /// What is known of the operands.
    pub(crate) inputs: &'a [Option<&'a Fact>],
    /// What is known of the results.
    pub(crate) outputs: &'a [Fact],
    /// The operands' ids, which key packed weights; `None` where there is no graph.
    pub(crate) ids: &'a [Option<ValueId>],
    /// The first result's id, which keys compiled bodies; `None` where there is no graph.
    pub(crate) result: Option<ValueId>,
    /// What to lower for.
    pub(crate) target: &'a Target,
}

type Rule = fn(&Site<'_>) -> Option<Result<Lowered, KernelError>>;

const RULES: &[Rule] = &[
    elementwise::lower,
    movement::lower,
    matmul::lower,
    convolution::lower,
    rowwise::lower,
    quantization::lower,
    quantized::lower,
    nbits::lower,
    reduction::lower,
    indexing::lower,
    selection::lower,
    generation::lower,
    random::lower,
    normalization::lower,
    transposed::lower,
    attention::lower,
    control::lower,
    recurrent::lower,
    trees::lower,
    classical::lower,
    encoders::lower,
    text::lower,
    resize::lower,
    einsum::lower,
    tokens::lower,
    signal::lower,
    loss::lower,
    sampling::lower,
];

/// The kernel for a node, or why there is none.
pub(crate) fn lower(site: &Site<'_>) -> Result<Lowered, KernelError> {
    RULES.iter().find_map(|rule| rule(site)).unwrap_or_else(|| {
        KernelError::unsupported(format!("there is no kernel for {}", site.op.name()))
    })
}

/// Whether any family knows the operator, whatever its operands, not asking about its bodies.
pub(crate) fn is_known(op: &Op, target: &Target) -> bool {
    let site = Site { op, inputs: &[], outputs: &[], ids: &[], result: None, target };
    RULES.iter().any(|rule| rule(&site).is_some())
}

impl Site<'_> {
    /// What it has in common with other steps.
    pub(crate) fn identity(&self) -> StepIdentity {
        StepIdentity { signature: self.described(false), kind: self.described(true) }
    }

    /// The operator, its attributes, and the types and shapes of operands; for any number of rows,
    /// or as many as there are.
    fn described(&self, any_rows: bool) -> String {
        let operand = |fact: &Option<&Fact>| {
            let Some(fact) = fact else { return "_".to_owned() };
            match (fact.dtype, fact.shape()) {
                (Some(dtype), Some(shape)) => {
                    let mut extents: Vec<String> =
                        shape.iter().map(|extent| extent.to_string()).collect();
                    if let (true, None, Some(rows)) = (any_rows, &fact.tensor, extents.first_mut())
                    {
                        "n".clone_into(rows);
                    }
                    format!("{dtype}[{}]", extents.join(","))
                }
                _ => "_".to_owned(),
            }
        };
        let operands: Vec<String> = self.inputs.iter().map(operand).collect();
        let (name, attributes) = (self.op.name(), print_op(self.op));
        let attributes = attributes.strip_prefix(name).unwrap_or_default();
        format!("{name}({}){attributes}", operands.join(", "))
    }

    /// The algorithm to take: the one measured to be fastest, if it is among `names`, or else the
    /// default, an index of `names`.
    pub(crate) fn algorithm(&self, names: &[&str], default: usize) -> usize {
        let tuning = self.target.tuning.as_ref();
        let chosen = tuning.and_then(|tuning| tuning.algorithms.get(&self.described(true)));
        chosen.and_then(|chosen| names.iter().position(|name| name == chosen)).unwrap_or(default)
    }

    /// What is known of operand `index`, which must be present.
    pub(crate) fn input(&self, index: usize) -> Result<&Fact, KernelError> {
        self.inputs
            .get(index)
            .copied()
            .flatten()
            .ok_or_else(|| KernelError::Invalid(format!("operand {index} is missing")))
    }

    /// Whether operand `index` is present.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.inputs.get(index).is_some_and(Option::is_some)
    }

    /// Datatype of operand `index`.
    pub(crate) fn dtype(&self, index: usize) -> Result<DType, KernelError> {
        self.input(index)?
            .dtype
            .ok_or_else(|| KernelError::Invalid(format!("operand {index} has no known datatype")))
    }

    /// Shape of operand `index`.
    pub(crate) fn shape(&self, index: usize) -> Result<Shape, KernelError> {
        self.input(index)?
            .shape()
            .ok_or_else(|| KernelError::Invalid(format!("operand {index} has no known shape")))
    }

    /// Whether the elements of operand `index` are known.
    pub(crate) fn is_constant(&self, index: usize) -> bool {
        self.known(index).is_some()
    }

    /// Elements of operand `index`, if they are known, in aligned memory.
    pub(crate) fn tensor(&self, index: usize) -> Option<Tensor> {
        self.known(index).map(Tensor::aligned)
    }

    /// The same in whatever memory they are, such as a file's.
    fn known(&self, index: usize) -> Option<&Tensor> {
        self.inputs.get(index).copied().flatten()?.tensor.as_ref()
    }

    /// Shape of result `index`.
    pub(crate) fn output_shape(&self, index: usize) -> Result<Shape, KernelError> {
        self.outputs
            .get(index)
            .and_then(Fact::shape)
            .ok_or_else(|| KernelError::Invalid(format!("result {index} has no known shape")))
    }

    /// Datatype of result `index`.
    pub(crate) fn output_dtype(&self, index: usize) -> Result<DType, KernelError> {
        self.outputs
            .get(index)
            .and_then(|fact| fact.dtype)
            .ok_or_else(|| KernelError::Invalid(format!("result {index} has no known datatype")))
    }

    /// What the node's attributes become: made on first use, then shared by every plan. `make`
    /// gives its size in bytes too.
    pub(crate) fn compiled<T: Send + Sync + 'static>(
        &self,
        make: impl FnOnce() -> Result<(T, usize), KernelError>,
    ) -> Result<Arc<T>, KernelError> {
        match self.result {
            Some(result) => self.target.weights.compiled(result, make),
            None => make().map(|(made, _)| Arc::new(made)),
        }
    }

    /// What the node's attributes become, as memory that packages keep: made on first use, then
    /// shared by every plan. `layout` names the form; it and the node identify the result.
    pub(crate) fn stored(
        &self,
        layout: &'static str,
        make: impl FnOnce() -> Result<Buffer, KernelError>,
    ) -> Result<Buffer, KernelError> {
        let make = || {
            let bytes = make()?;
            Ok(Tensor::from_buffer(DType::U8, Shape::from([bytes.len()]), bytes)?)
        };
        let tensor = match self.result {
            Some(result) => self.target.weights.get(result, layout, make),
            None => make(),
        };
        let bytes = tensor?.buffer().cloned();
        bytes.ok_or_else(|| KernelError::Invalid(format!("the stored {layout} are not bytes")))
    }

    /// The constant operand `index` in a kernel's own layout: packed on first use, then shared by
    /// every plan. `layout` names the layout; it and the operand identify the result. `pack` gets
    /// the operand in whatever memory it is, aligned or not.
    pub(crate) fn packed(
        &self,
        index: usize,
        layout: &'static str,
        pack: impl FnOnce(&Tensor) -> Result<Tensor, KernelError>,
    ) -> Result<Tensor, KernelError> {
        let tensor = self
            .known(index)
            .ok_or_else(|| KernelError::Invalid(format!("operand {index} is not constant")))?;
        let pack = || {
            let packed = pack(tensor);
            tensor.release();
            packed
        };
        match self.ids.get(index).copied().flatten() {
            Some(id) => self.target.weights.get(id, layout, pack),
            None => pack(),
        }
    }
}
