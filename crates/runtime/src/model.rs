//! A compiled model: plans by input shapes, working memory, threads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use landfall_graph::{DimSpec, Graph, NodeId, Signature, verify};
use landfall_kernels::{Cpu, Exec, Pool};
use landfall_tensor::{Shape, Tensor, TensorError, TensorView};

use crate::execute::{Context, Observer, execute};
use crate::lower::{Target, is_known};
use crate::plan::{self, Plan, node_error};
use crate::weights::WeightCache;
use crate::{CompileError, KernelError, RunError};

/// How to compile and run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The instruction sets to use.
    pub cpu: Cpu,
    /// Threads that one run uses.
    pub threads: usize,
    /// Plans kept, one for each set of input shapes; the least recently used goes first.
    pub max_plans: usize,
    /// Working memory that one run may use, in bytes.
    pub memory_limit_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { cpu: Cpu::detect(), threads: 1, max_plans: 32, memory_limit_bytes: 16 << 30 }
    }
}

/// A plan with the working memory of runs that have finished, for the next ones.
struct Entry {
    plan: Plan,
    idle: Mutex<Vec<Context>>,
}

/// A graph ready to run on any input shapes its signature allows. Shared by all threads.
pub struct Model {
    graph: Graph,
    order: Vec<NodeId>,
    signature: Signature,
    target: Target,
    options: Options,
    pool: Pool,
    /// Most recently used first.
    plans: Mutex<Vec<(Vec<Shape>, Arc<Entry>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        verify(&graph)?;
        let order = graph
            .schedule()
            .map_err(|cycle| CompileError::Graph(landfall_graph::VerifyError(cycle.to_string())))?;
        let weights = Arc::new(WeightCache::given(packed));
        let target = Target { cpu: options.cpu, threads: options.threads.max(1), weights };
        let unsupported: Vec<_> = graph
            .nodes()
            .filter(|(_, node)| !is_known(&node.op, &target))
            .map(|(_, node)| {
                let why = "there is no kernel for this operator".to_owned();
                node_error(&graph, node, KernelError::Unsupported(why))
            })
            .collect();
        if !unsupported.is_empty() {
            return Err(CompileError::Unsupported(unsupported));
        }
        let pool = Pool::new(target.threads)
            .map_err(|error| CompileError::Threads(target.threads, error.to_string()))?;
        let signature = graph.signature();
        let plans = Mutex::new(Vec::new());
        let options = options.clone();
        let model = Model { graph, order, signature, target, options, pool, plans };
        if let Some(shapes) = model.fixed_shapes() {
            model.entry(&shapes).map_err(|error| match error {
                RunError::Node(node) => CompileError::Unsupported(vec![*node]),
                other => CompileError::Graph(landfall_graph::VerifyError(other.to_string())),
            })?;
        }
        Ok(model)
    }

    /// Names, datatypes and shapes of inputs and outputs.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The graph that runs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Every constant that the plans made so far read in a kernel's own layout, by a key that is
    /// stable for equal graphs. Layouts do not depend on the instruction set unless the key says.
    pub fn packed(&self) -> BTreeMap<String, Tensor> {
        self.target.weights.export()
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
        let aligned: Vec<Tensor> = inputs.iter().map(Tensor::aligned).collect();
        let views: Vec<TensorView<'_>> = aligned.iter().map(Tensor::view).collect();
        let mut outputs = Vec::with_capacity(self.signature.outputs.len());
        self.run_views(&views, observer, &mut |_, view| {
            outputs.push(view.to_tensor()?);
            Ok(())
        })?;
        Ok(outputs)
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
        self.check(inputs)?;
        let entry = match self.cached(inputs) {
            Some(entry) => entry,
            None => {
                let shapes: Vec<Shape> = inputs.iter().map(|v| Shape::from(v.shape())).collect();
                self.entry(&shapes)?
            }
        };
        let idle = lock(&entry.idle).pop();
        let mut context = idle.unwrap_or_else(|| Context::new(&entry.plan));
        let result = execute(&entry.plan, &mut context, inputs, self.exec(), observer, emit);
        if result.is_ok() {
            lock(&entry.idle).push(context);
        }
        result
    }

    fn exec(&self) -> Exec<'_> {
        Exec { cpu: self.target.cpu, pool: &self.pool }
    }

    fn check(&self, inputs: &[TensorView<'_>]) -> Result<(), RunError> {
        let specs = &self.signature.inputs;
        if inputs.len() != specs.len() {
            let message = format!("the model has {} inputs, got {}", specs.len(), inputs.len());
            return Err(RunError::Input(message));
        }
        match specs.iter().zip(inputs).find_map(|(spec, input)| spec.mismatch(input)) {
            Some(message) => Err(RunError::Input(message)),
            None => Ok(()),
        }
    }

    fn cached(&self, inputs: &[TensorView<'_>]) -> Option<Arc<Entry>> {
        let mut plans = lock(&self.plans);
        let same = |shapes: &[Shape]| {
            shapes.len() == inputs.len()
                && shapes.iter().zip(inputs).all(|(s, v)| **s == *v.shape())
        };
        let index = plans.iter().position(|(shapes, _)| same(shapes))?;
        plans[..=index].rotate_right(1);
        Some(plans[0].1.clone())
    }

    fn entry(&self, shapes: &[Shape]) -> Result<Arc<Entry>, RunError> {
        let plan = plan::build(&self.graph, &self.order, shapes, &self.target, self.exec())?;
        if plan.arena_bytes > self.options.memory_limit_bytes {
            let limit = self.options.memory_limit_bytes;
            return Err(RunError::Memory { needed: plan.arena_bytes, limit });
        }
        let entry = Arc::new(Entry { plan, idle: Mutex::new(Vec::new()) });
        let mut plans = lock(&self.plans);
        plans.insert(0, (shapes.to_vec(), entry.clone()));
        plans.truncate(self.options.max_plans.max(1));
        Ok(entry)
    }

    /// The input shapes, if the signature fixes all of them.
    fn fixed_shapes(&self) -> Option<Vec<Shape>> {
        let shape = |dims: &Vec<DimSpec>| {
            dims.iter()
                .map(|dim| if let DimSpec::Known(n) = dim { Some(*n) } else { None })
                .collect::<Option<Shape>>()
        };
        self.signature.inputs.iter().map(|spec| shape(spec.dims.as_ref()?)).collect()
    }

    /// The lowering report for inputs of these shapes: one line for each step, in order.
    pub fn report(&self, shapes: &[Shape]) -> Result<Report, RunError> {
        let entry = self.entry(shapes)?;
        let steps = entry.plan.steps.iter().map(|step| StepReport {
            node: step.node.clone(),
            op: step.op,
            kernel: step.work.info(),
        });
        Ok(Report {
            steps: steps.collect(),
            arena_bytes: entry.plan.arena_bytes,
            lower_bound_bytes: entry.plan.lower_bound_bytes,
            packed_bytes: self.target.weights.bytes(),
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
    pub kernel: crate::KernelInfo,
}
