//! A graph with its plans: what a model is, and what the body of a loop or branch is.
//!
//! A program owns no threads: whoever runs it lends them, so that the bodies of a model run on the
//! model's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use landfall_graph::{Graph, NodeId, Signature, ValueId, VerifyError, verify};
use landfall_kernels::Exec;
use landfall_tensor::{Shape, Tensor, TensorError, TensorView};

use crate::execute::{Idle, Observer, execute};
use crate::lower::{Target, is_known};
use crate::plan::{self, Plan, node_error};
use crate::{CompileError, KernelError, NodeError, RunError};

/// Bounds on a graph's plans.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Plans kept, one for each set of input shapes; the least recently used goes first.
    pub(crate) max_plans: usize,
    /// Working memory that one run may use, in bytes.
    pub(crate) memory_limit_bytes: usize,
}

/// A graph ready to run on any input shapes its signature allows.
pub(crate) struct Program {
    pub(crate) graph: Graph,
    pub(crate) signature: Signature,
    pub(crate) target: Target,
    order: Vec<NodeId>,
    /// Most recently used first.
    plans: Mutex<Vec<(Vec<Shape>, Arc<Plan>)>>,
    /// Working memory of runs that have finished, for the next ones of whatever shape.
    idle: Mutex<Idle>,
}

/// The bodies of one graph's nodes, compiled, by the node's first result and the body's name.
#[derive(Default)]
pub(crate) struct BodyCache {
    programs: Mutex<HashMap<(ValueId, &'static str), Arc<Program>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BodyCache {
    /// The body of that name, compiled now if no plan has yet.
    pub(crate) fn get(
        &self,
        key: (ValueId, &'static str),
        compile: impl FnOnce() -> Result<Arc<Program>, KernelError>,
    ) -> Result<Arc<Program>, KernelError> {
        let mut programs = lock(&self.programs);
        if let Some(program) = programs.get(&key) {
            return Ok(program.clone());
        }
        let program = compile()?;
        programs.insert(key, program.clone());
        Ok(program)
    }
}

impl Program {
    /// Checks the graph. Plans are made by the first run of each set of shapes.
    pub(crate) fn new(graph: Graph, target: Target) -> Result<Program, CompileError> {
        verify(&graph)?;
        let cyclic = |cycle: landfall_graph::CycleError| VerifyError(cycle.to_string());
        let order = graph.schedule().map_err(cyclic)?;
        let signature = graph.signature();
        let (plans, idle) = (Mutex::default(), Mutex::default());
        Ok(Program { graph, signature, target, order, plans, idle })
    }

    /// Runs once on tensors in the signature's order.
    pub(crate) fn run(
        &self,
        exec: Exec<'_>,
        inputs: &[Tensor],
        observer: Option<Observer<'_>>,
    ) -> Result<Vec<Tensor>, RunError> {
        let aligned: Vec<Tensor> = inputs.iter().map(Tensor::aligned).collect();
        let views: Vec<TensorView<'_>> = aligned.iter().map(Tensor::view).collect();
        let mut outputs = Vec::with_capacity(self.signature.outputs.len());
        self.run_views(exec, &views, observer, &mut |_, view| {
            outputs.push(view.to_tensor()?);
            Ok(())
        })?;
        Ok(outputs)
    }

    /// Runs once on borrowed inputs and hands every output to `emit` as a view.
    pub(crate) fn run_views(
        &self,
        exec: Exec<'_>,
        inputs: &[TensorView<'_>],
        observer: Option<Observer<'_>>,
        emit: &mut dyn FnMut(usize, TensorView<'_>) -> Result<(), TensorError>,
    ) -> Result<(), RunError> {
        self.check(inputs)?;
        let plan = match self.cached(inputs) {
            Some(plan) => plan,
            None => {
                let shapes: Vec<Shape> = inputs.iter().map(|v| Shape::from(v.shape())).collect();
                self.plan(exec, &shapes)?
            }
        };
        let mut context = lock(&self.idle).take();
        context.fit(&plan);
        let limit = self.target.limits.memory_limit_bytes;
        let result = execute(&plan, &mut context, inputs, limit, exec, observer, emit);
        if result.is_ok() {
            lock(&self.idle).give_back(context, plan.arena_bytes);
        }
        result
    }

    /// Working memory that no run uses at present.
    #[cfg(test)]
    pub(crate) fn idle(&self) -> MutexGuard<'_, Idle> {
        lock(&self.idle)
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

    fn cached(&self, inputs: &[TensorView<'_>]) -> Option<Arc<Plan>> {
        self.find(|shapes| {
            shapes.len() == inputs.len()
                && shapes.iter().zip(inputs).all(|(s, v)| **s == *v.shape())
        })
    }

    fn find(&self, same: impl Fn(&[Shape]) -> bool) -> Option<Arc<Plan>> {
        let mut plans = lock(&self.plans);
        let index = plans.iter().position(|(shapes, _)| same(shapes))?;
        plans[..=index].rotate_right(1);
        Some(plans[0].1.clone())
    }

    /// The plan for inputs of these shapes.
    pub(crate) fn planned(&self, exec: Exec<'_>, shapes: &[Shape]) -> Result<Arc<Plan>, RunError> {
        match self.find(|known| known == shapes) {
            Some(plan) => Ok(plan),
            None => self.plan(exec, shapes),
        }
    }

    /// The plan for inputs of these shapes, made anew.
    pub(crate) fn plan(&self, exec: Exec<'_>, shapes: &[Shape]) -> Result<Arc<Plan>, RunError> {
        let plan = plan::build(&self.graph, &self.order, shapes, &self.target, exec)?;
        let limits = self.target.limits;
        if plan.run_bytes > limits.memory_limit_bytes {
            let (needed, limit) = (plan.run_bytes, limits.memory_limit_bytes);
            return Err(RunError::Memory { needed, limit });
        }
        let plan = Arc::new(plan);
        let mut plans = lock(&self.plans);
        plans.insert(0, (shapes.to_vec(), plan.clone()));
        plans.truncate(limits.max_plans.max(1));
        Ok(plan)
    }
}

/// Every node without a kernel, in the graph and its bodies.
pub(crate) fn unsupported(graph: &Graph, target: &Target) -> Vec<NodeError> {
    let mut found = Vec::new();
    for (_, node) in graph.nodes() {
        if !is_known(&node.op, target) {
            let why = "there is no kernel for this operator".to_owned();
            found.push(node_error(graph, node, KernelError::Unsupported(why)));
        }
        for (body, inner) in node.op.bodies() {
            found.extend(unsupported(inner, target).into_iter().map(|error| {
                let error = Box::new(RunError::Node(Box::new(error)));
                node_error(graph, node, KernelError::Body { body, error })
            }));
        }
    }
    found
}
