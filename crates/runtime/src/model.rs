//! A compiled model: a program and the threads it runs on.

use std::collections::BTreeMap;
use std::sync::Arc;

use landfall_graph::{DimSpec, Graph, Signature, VerifyError};
use landfall_kernels::{Cpu, Exec, Pool};
use landfall_tensor::{Precision, Shape, Tensor, TensorError, TensorView};

use crate::execute::Observer;
use crate::lower::Target;
use crate::program::{Limits, Program, unsupported};
use crate::weights::WeightCache;
use crate::{Algorithms, CompileError, KernelInfo, RunError, StepIdentity, Tuning};

/// How to compile and run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The instruction sets to use.
    pub cpu: Cpu,
    /// Threads that one run uses.
    pub threads: usize,
    /// The precision of the operands of matrix products and convolutions with constant weights.
    pub precision: Precision,
    /// Plans kept, one for each set of input shapes; the least recently used goes first.
    pub max_plans: usize,
    /// Working memory that one run may use, in bytes.
    pub memory_limit_bytes: usize,
    /// What was measured to be fastest; a cost model decides where it says nothing.
    pub tuning: Option<Arc<Tuning>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cpu: Cpu::detect(),
            threads: 1,
            precision: Precision::F32,
            max_plans: 32,
            memory_limit_bytes: 16 << 30,
            tuning: None,
        }
    }
}

/// A graph ready to run on any input shapes its signature allows. Shared by all threads.
pub struct Model {
    program: Program,
    pool: Pool,
}

impl Model {
    /// Checks that every node has a kernel. Plans are made when shapes are known: now if they are
    /// fixed, else by the first run of each shape.
    pub fn compile(graph: Graph, options: &Options) -> Result<Model, CompileError> {
        Model::compile_with(graph, options, BTreeMap::new())
    }

    /// The same with constants that [`Model::packed`] gave earlier for an equal graph: they are
    /// used as they are, shared and not copied; what is missing is packed when it is needed.
    ///
    /// A tensor that is not what its key says makes runs fail or give wrong results: `packed` must
    /// come from whoever the graph comes from.
    pub fn compile_with(
        graph: Graph,
        options: &Options,
        packed: BTreeMap<String, Tensor>,
    ) -> Result<Model, CompileError> {
        let Options { max_plans, memory_limit_bytes, .. } = *options;
        let limits = Limits { max_plans, memory_limit_bytes };
        let target = Target {
            weights: Arc::new(WeightCache::given(packed)),
            tuning: options.tuning.clone(),
            precision: options.precision,
            ..Target::new(options.cpu, options.threads.max(1), limits)
        };
        let threads = target.threads;
        let program = Program::new(graph, target)?;
        let unsupported = unsupported(&program.graph, &program.target);
        if !unsupported.is_empty() {
            return Err(CompileError::Unsupported(unsupported));
        }
        let pool = Pool::new(threads)
            .map_err(|error| CompileError::Threads(threads, error.to_string()))?;
        let model = Model { program, pool };
        if let Some(shapes) = model.fixed_shapes() {
            model.program.plan(model.exec(), &shapes).map_err(|error| match error {
                RunError::Node(node) => CompileError::Unsupported(vec![*node]),
                other => CompileError::Graph(VerifyError(other.to_string())),
            })?;
        }
        Ok(model)
    }

    /// The same model with the same packed weights, on `threads` of its threads at most, with steps
    /// run as `tuning` says.
    pub fn tuned(&self, tuning: Arc<Tuning>, threads: usize) -> Result<Model, CompileError> {
        let Program { graph, target, .. } = &self.program;
        let pool = self.pool.limited(threads);
        let (bodies, threads) = (Arc::default(), pool.threads());
        let target = Target { tuning: Some(tuning), bodies, threads, ..target.clone() };
        let program = Program::new(graph.clone(), target)?;
        Ok(Model { program, pool })
    }

    /// Threads that one run uses.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Names, datatypes and shapes of inputs and outputs.
    pub fn signature(&self) -> &Signature {
        &self.program.signature
    }

    /// The graph that runs.
    pub fn graph(&self) -> &Graph {
        &self.program.graph
    }

    /// The precision it was compiled for.
    pub fn precision(&self) -> Precision {
        self.program.target.precision
    }

    /// Every constant that the plans made so far read in a kernel's own layout, by a key that is
    /// stable for equal graphs. Layouts do not depend on the instruction set unless the key says.
    pub fn packed(&self) -> BTreeMap<String, Tensor> {
        self.program.target.weights.export()
    }

    /// Runs once. `inputs` are in the signature's order.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        self.run_observed(inputs, None)
    }

    /// Runs once, telling `observer` after every step.
    pub fn run_observed(
        &self,
        inputs: &[Tensor],
        observer: Option<Observer<'_>>,
    ) -> Result<Vec<Tensor>, RunError> {
        self.program.run(self.exec(), inputs, observer)
    }

    /// Runs once on borrowed inputs and hands every output to `emit` as a view, in the signature's
    /// order. After the first run of a set of shapes this allocates nothing, unless result shapes
    /// depend on data.
    pub fn run_views(
        &self,
        inputs: &[TensorView<'_>],
        observer: Option<Observer<'_>>,
        emit: &mut dyn FnMut(usize, TensorView<'_>) -> Result<(), TensorError>,
    ) -> Result<(), RunError> {
        self.program.run_views(self.exec(), inputs, observer, emit)
    }

    #[cfg(test)]
    pub(crate) fn idle(&self) -> std::sync::MutexGuard<'_, crate::execute::Idle> {
        self.program.idle()
    }

    #[cfg(test)]
    pub(crate) fn weights(&self) -> &crate::weights::WeightCache {
        &self.program.target.weights
    }

    fn exec(&self) -> Exec<'_> {
        Exec { cpu: self.program.target.cpu, pool: &self.pool }
    }

    /// The input shapes, if the signature fixes all of them.
    fn fixed_shapes(&self) -> Option<Vec<Shape>> {
        let shape = |dims: &Vec<DimSpec>| {
            dims.iter()
                .map(|dim| if let DimSpec::Known(n) = dim { Some(*n) } else { None })
                .collect::<Option<Shape>>()
        };
        self.signature().inputs.iter().map(|spec| shape(spec.dims.as_ref()?)).collect()
    }

    /// Plans for inputs of these shapes now, in the signature's order, so that the first run does
    /// not have to.
    pub fn prepare(&self, shapes: &[Shape]) -> Result<(), RunError> {
        self.program.planned(self.exec(), shapes).map(|_| ())
    }

    /// Says of a kernel in f32 that says nothing itself why it is not in bf16, if that is wanted.
    fn explained(&self, mut info: KernelInfo) -> KernelInfo {
        let wants_bf16 = self.precision() == Precision::Bf16;
        if wants_bf16 && info.precision == "f32" && info.reason.is_empty() {
            info.reason = "bf16 is for products with constant weights".to_owned();
        }
        info
    }

    /// The lowering report for inputs of these shapes: one line for each step, in order.
    pub fn report(&self, shapes: &[Shape]) -> Result<Report, RunError> {
        let plan = self.program.planned(self.exec(), shapes)?;
        let slices = |step: usize| {
            let mut regions = plan.regions.iter();
            regions.find(|region| region.steps.contains(&step)).map_or(1, |region| region.slices)
        };
        let steps = plan.steps.iter().enumerate().map(|(index, step)| StepReport {
            node: step.node.clone(),
            op: step.op,
            kernel: self.explained(step.work.info()),
            identity: step.identity.clone(),
            algorithms: step.work.algorithms(),
            slices: slices(index),
        });
        Ok(Report {
            steps: steps.collect(),
            arena_bytes: plan.arena_bytes,
            lower_bound_bytes: plan.lower_bound_bytes,
            packed_bytes: self.program.target.weights.bytes(),
        })
    }
}

/// What a plan does, for people.
#[derive(Debug, Clone)]
pub struct Report {
    /// Every step in order.
    pub steps: Vec<StepReport>,
    /// Working memory of one run.
    pub arena_bytes: usize,
    /// The least working memory that any plan could need.
    pub lower_bound_bytes: usize,
    /// Memory of packed weights.
    pub packed_bytes: usize,
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// The node's name.
    pub node: String,
    /// Its operator.
    pub op: &'static str,
    /// The kernel it got, and why.
    pub kernel: KernelInfo,
    /// What it has in common with others; `None` unless the model is tuned, and where the shapes of
    /// its results depend on data.
    pub identity: Option<StepIdentity>,
    /// The ways in which it could run, if there are several.
    pub algorithms: Option<Algorithms>,
    /// In how many slices of the batch it runs: with those next to it that have as many, slice by
    /// slice; 1 for the whole batch.
    pub slices: usize,
}
