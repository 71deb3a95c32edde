//! The graph under edit: who uses what is kept up to date, and what nothing uses any more goes.

use landfall_graph::{Dim, Graph, Node, NodeId, Op, ValueId};
use landfall_tensor::{DType, Tensor};

use crate::constants;
use crate::{Evaluate, Options};

/// A graph, its use lists, and what passes may ask of the world.
pub(crate) struct Editor<'a> {
    pub(crate) graph: Graph,
    pub(crate) options: &'a Options,
    pub(crate) evaluator: &'a dyn Evaluate,
    uses: Vec<Vec<NodeId>>,
}

impl<'a> Editor<'a> {
    pub(crate) fn new(
        graph: Graph,
        options: &'a Options,
        evaluator: &'a dyn Evaluate,
    ) -> Editor<'a> {
        let uses = graph.consumers();
        Editor { graph, options, evaluator, uses }
    }

    /// Every node, in an order in which operands come first. Empty if there is a cycle, which the
    /// verifier reports.
    pub(crate) fn schedule(&self) -> Vec<NodeId> {
        self.graph.schedule().unwrap_or_default()
    }

    pub(crate) fn node(&self, id: NodeId) -> Option<&Node> {
        self.graph.node(id)
    }

    /// The node that produces a value.
    pub(crate) fn producer(&self, id: ValueId) -> Option<(NodeId, &Node)> {
        self.graph.producer(id)
    }

    /// Nodes that read a value, once for each time they do.
    pub(crate) fn uses(&self, id: ValueId) -> &[NodeId] {
        self.uses.get(id.index()).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn is_output(&self, id: ValueId) -> bool {
        self.graph.outputs.contains(&id)
    }

    /// Whether exactly one operand in the whole graph is this value, and it is not an output.
    pub(crate) fn used_once(&self, id: ValueId) -> bool {
        self.uses(id).len() == 1 && !self.is_output(id)
    }

    pub(crate) fn unused(&self, id: ValueId) -> bool {
        self.uses(id).is_empty() && !self.is_output(id)
    }

    pub(crate) fn dims(&self, id: ValueId) -> Option<&[Dim]> {
        self.graph.value(id).dims.as_deref()
    }

    pub(crate) fn rank(&self, id: ValueId) -> Option<usize> {
        self.dims(id).map(<[Dim]>::len)
    }

    /// The extents, if all are known.
    pub(crate) fn extents(&self, id: ValueId) -> Option<Vec<usize>> {
        self.dims(id)?.iter().map(Dim::known).collect()
    }

    pub(crate) fn dtype(&self, id: ValueId) -> Option<DType> {
        self.graph.value(id).dtype
    }

    /// Whether two values certainly have the same shape.
    pub(crate) fn same_shape(&self, a: ValueId, b: ValueId) -> bool {
        let (Some(a), Some(b)) = (self.dims(a), self.dims(b)) else { return false };
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
    }

    pub(crate) fn constant(&self, id: ValueId) -> Option<&Tensor> {
        self.graph.constant(id)
    }

    /// The elements of a constant of `f32`.
    pub(crate) fn floats(&self, id: ValueId) -> Option<Vec<f32>> {
        constants::floats(self.constant(id)?)
    }

    /// The value of a one-element constant of a real type.
    pub(crate) fn scalar(&self, id: ValueId) -> Option<f32> {
        constants::scalar(self.constant(id)?)
    }

    /// The elements of a constant of `i64` or `i32`.
    pub(crate) fn ints(&self, id: ValueId) -> Option<Vec<i64>> {
        constants::ints(self.constant(id)?)
    }

    pub(crate) fn add_constant(&mut self, tensor: Tensor) -> ValueId {
        let id = self.graph.add_constant("", tensor);
        self.sync();
        id
    }

    /// A constant list of integers, as shapes and axes are given.
    pub(crate) fn add_ints(&mut self, ints: &[i64]) -> Option<ValueId> {
        let tensor = Tensor::from_slice([ints.len()].into(), ints).ok()?;
        Some(self.add_constant(tensor))
    }

    /// Adds a node with one result, named like the node it stands for.
    pub(crate) fn append(
        &mut self,
        name: &str,
        op: Op,
        inputs: impl Into<Vec<Option<ValueId>>>,
    ) -> ValueId {
        let output = self.graph.add_detached("");
        self.add_node(name, op, inputs.into(), vec![output]);
        output
    }

    /// Adds a node that defines detached values.
    pub(crate) fn add_node(
        &mut self,
        name: &str,
        op: Op,
        mut inputs: Vec<Option<ValueId>>,
        outputs: Vec<ValueId>,
    ) -> NodeId {
        while inputs.last() == Some(&None) {
            inputs.pop();
        }
        let id = self.graph.add_node(name, op, inputs.clone(), outputs);
        self.sync();
        for input in inputs.into_iter().flatten() {
            self.uses[input.index()].push(id);
        }
        id
    }

    /// Declares datatype and extents of a new value.
    pub(crate) fn declare(&mut self, id: ValueId, dtype: Option<DType>, dims: Option<Vec<Dim>>) {
        let value = self.graph.value_mut(id);
        value.dtype = dtype;
        value.dims = dims;
    }

    /// Replaces every use of `from` with `to`; nodes that nothing uses any more are removed.
    pub(crate) fn replace(&mut self, from: ValueId, to: ValueId) {
        if from == to {
            return;
        }
        self.inherit(from, to);
        let readers = std::mem::take(&mut self.uses[from.index()]);
        for &reader in &readers {
            let Some(node) = self.graph.node_mut(reader) else { continue };
            for input in &mut node.inputs {
                if *input == Some(from) {
                    *input = Some(to);
                }
            }
        }
        self.uses[to.index()].extend(readers);
        if self.is_output(from) {
            let nodes = self.graph.node_count();
            self.graph.replace_uses(from, to);
            self.sync();
            for new in nodes..self.graph.node_count() {
                self.uses[to.index()].push(NodeId::new(new));
            }
        }
        if let Some((producer, _)) = self.graph.producer(from) {
            self.sweep(producer);
        }
    }

    fn inherit(&mut self, from: ValueId, to: ValueId) {
        let (name, dtype, dims) = {
            let value = self.graph.value(from);
            (value.name.clone(), value.dtype, value.dims.clone())
        };
        let value = self.graph.value_mut(to);
        if value.name.is_empty() {
            value.name = name;
        }
        value.dtype = value.dtype.or(dtype);
        value.dims = value.dims.take().or(dims);
    }

    /// Removes a node if nothing uses its results, then its producers likewise.
    pub(crate) fn sweep(&mut self, id: NodeId) {
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            let Some(node) = self.graph.node(id) else { continue };
            if node.outputs.iter().any(|&output| !self.unused(output)) {
                continue;
            }
            let Some(node) = self.graph.remove_node(id) else { continue };
            for operand in node.operands() {
                self.drop_use(operand, id);
                stack.extend(self.graph.producer(operand).map(|(producer, _)| producer));
            }
        }
    }

    fn drop_use(&mut self, value: ValueId, reader: NodeId) {
        let uses = &mut self.uses[value.index()];
        if let Some(at) = uses.iter().position(|&user| user == reader) {
            uses.swap_remove(at);
        }
    }

    fn sync(&mut self) {
        self.uses.resize(self.graph.value_count(), Vec::new());
    }
}
