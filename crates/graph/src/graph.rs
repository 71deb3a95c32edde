//! The graph: values, nodes, and the edits that passes make.
//!
//! Every value has one origin: an input, a constant or a node's output. Ids stay valid for the life
//! of the graph; removed nodes leave a gap. Nodes are stored in no particular order:
//! [`Graph::schedule`] gives a topological one, stable in the order of insertion.

use landfall_tensor::{DType, Tensor};

use crate::{Dim, DimSpec, NodeId, Op, Signature, TensorSpec, ValueId};

/// Where a value comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The caller.
    Input,
    /// The model file.
    Constant(Tensor),
    /// Output number `.1` of a node.
    Node(NodeId, usize),
    /// Nowhere: its node was removed or it was never defined. Nothing may use it.
    Detached,
}

/// A tensor flowing through the graph.
#[derive(Debug, Clone)]
pub struct Value {
    /// The model author's name, unique among inputs and outputs.
    pub name: String,
    /// Element type, once declared or inferred.
    pub dtype: Option<DType>,
    /// Axes, once declared or inferred; `None` if the rank is not known.
    pub dims: Option<Vec<Dim>>,
    /// Where it comes from.
    pub origin: Origin,
}

/// One application of an operator.
#[derive(Debug, Clone)]
pub struct Node {
    /// The model author's name, possibly empty.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Operands in the operator's order; `None` for an optional one left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Results in the operator's order; trailing unused ones may be missing.
    pub outputs: Vec<ValueId>,
}

impl Node {
    /// Operand `index`, if present.
    pub fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// Every operand present.
    pub fn operands(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.inputs.iter().copied().flatten()
    }
}

/// A graph of operators. See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The model author's name.
    pub name: String,
    /// What callers give, in order.
    pub inputs: Vec<ValueId>,
    /// What callers get, in order.
    pub outputs: Vec<ValueId>,
    values: Vec<Value>,
    nodes: Vec<Option<Node>>,
}

/// Nodes that depend on one another in a circle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the graph has a cycle through node {0}")]
pub struct CycleError(pub String);

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Graph {
        Graph { name: name.into(), ..Graph::default() }
    }

    /// The value of an id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The value of an id, to change.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.index()]
    }

    /// The node of an id, unless it was removed.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())?.as_ref()
    }

    /// The node of an id, to change, unless it was removed.
    pub fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id.index())?.as_mut()
    }

    /// Every node left, in the order of insertion.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        let numbered = self.nodes.iter().enumerate();
        numbered.filter_map(|(i, node)| Some((NodeId::new(i), node.as_ref()?)))
    }

    /// Every value, used or not.
    pub fn values(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        self.values.iter().enumerate().map(|(i, value)| (ValueId::new(i), value))
    }

    /// Number of value ids given out.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// Number of node ids given out, removed ones included.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Adds an input.
    pub fn add_input(
        &mut self,
        name: impl Into<String>,
        dtype: Option<DType>,
        dims: Option<Vec<Dim>>,
    ) -> ValueId {
        let id = self.add_value(Value { name: name.into(), dtype, dims, origin: Origin::Input });
        self.inputs.push(id);
        id
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        self.add_value(Value {
            name: name.into(),
            dtype: Some(tensor.dtype()),
            dims: Some(tensor.shape().iter().map(|&n| Dim::Known(n)).collect()),
            origin: Origin::Constant(tensor),
        })
    }

    /// Adds a value that a node will define later.
    pub fn add_detached(&mut self, name: impl Into<String>) -> ValueId {
        let name = name.into();
        self.add_value(Value { name, dtype: None, dims: None, origin: Origin::Detached })
    }

    fn add_value(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        ValueId::new(self.values.len() - 1)
    }

    /// Adds a node that defines existing, so far detached values.
    pub fn add_node(
        &mut self,
        name: impl Into<String>,
        op: Op,
        inputs: Vec<Option<ValueId>>,
        outputs: Vec<ValueId>,
    ) -> NodeId {
        let id = NodeId::new(self.nodes.len());
        for (i, &output) in outputs.iter().enumerate() {
            self.values[output.index()].origin = Origin::Node(id, i);
        }
        self.nodes.push(Some(Node { name: name.into(), op, inputs, outputs }));
        id
    }

    /// Adds a node with one new result, named after the node.
    pub fn append(
        &mut self,
        name: impl Into<String>,
        op: Op,
        inputs: Vec<Option<ValueId>>,
    ) -> ValueId {
        let name = name.into();
        let output = self.add_detached(name.clone());
        self.add_node(name, op, inputs, vec![output]);
        output
    }

    /// Removes a node; its results become detached.
    pub fn remove_node(&mut self, id: NodeId) -> Option<Node> {
        let node = self.nodes.get_mut(id.index())?.take()?;
        for &output in &node.outputs {
            if matches!(self.values[output.index()].origin, Origin::Node(n, _) if n == id) {
                self.values[output.index()].origin = Origin::Detached;
            }
        }
        Some(node)
    }

    /// Replaces every use of `from`, by nodes and as an output, with `to`.
    ///
    /// Output names are part of the model's signature: if `from` is an output, `to` takes over its
    /// name, unless it is itself an input or another output; then a copying node is inserted.
    pub fn replace_uses(&mut self, from: ValueId, to: ValueId) {
        if from == to {
            return;
        }
        for node in self.nodes.iter_mut().flatten() {
            for input in &mut node.inputs {
                if *input == Some(from) {
                    *input = Some(to);
                }
            }
        }
        if !self.outputs.contains(&from) {
            return;
        }
        let name = self.values[from.index()].name.clone();
        let taken = matches!(self.values[to.index()].origin, Origin::Input | Origin::Constant(_))
            || self.outputs.contains(&to);
        let target = if taken {
            self.append(name, Op::Identity, vec![Some(to)])
        } else {
            self.values[to.index()].name = name;
            to
        };
        let (dtype, dims) = (self.value(from).dtype, self.value(from).dims.clone());
        let value = self.value_mut(target);
        value.dtype = value.dtype.or(dtype);
        value.dims = value.dims.take().or(dims);
        for output in &mut self.outputs {
            if *output == from {
                *output = target;
            }
        }
    }

    /// The tensor of a constant value.
    pub fn constant(&self, id: ValueId) -> Option<&Tensor> {
        match &self.value(id).origin {
            Origin::Constant(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The node that produces a value.
    pub fn producer(&self, id: ValueId) -> Option<(NodeId, &Node)> {
        match self.value(id).origin {
            Origin::Node(node, _) => Some((node, self.node(node)?)),
            _ => None,
        }
    }

    /// For every value, the nodes that read it, once for each time they do.
    pub fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut consumers = vec![Vec::new(); self.values.len()];
        for (id, node) in self.nodes() {
            for operand in node.operands() {
                consumers[operand.index()].push(id);
            }
        }
        consumers
    }

    /// Nodes in an order in which every operand is computed before it is used.
    pub fn schedule(&self) -> Result<Vec<NodeId>, CycleError> {
        let mut waiting = vec![0usize; self.nodes.len()];
        let mut consumers: Vec<Vec<NodeId>> = vec![Vec::new(); self.nodes.len()];
        let mut ready = std::collections::BinaryHeap::new();
        for (id, node) in self.nodes() {
            for operand in node.operands() {
                if let Origin::Node(producer, _) = self.value(operand).origin {
                    consumers[producer.index()].push(id);
                    waiting[id.index()] += 1;
                }
            }
            if waiting[id.index()] == 0 {
                ready.push(std::cmp::Reverse(id));
            }
        }
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(std::cmp::Reverse(id)) = ready.pop() {
            order.push(id);
            for &consumer in &consumers[id.index()] {
                waiting[consumer.index()] -= 1;
                if waiting[consumer.index()] == 0 {
                    ready.push(std::cmp::Reverse(consumer));
                }
            }
        }
        match self.nodes().find(|(id, _)| waiting[id.index()] > 0) {
            Some((id, node)) => Err(CycleError(format!("{id:?} '{}'", node.name))),
            None => Ok(order),
        }
    }

    /// Names, datatypes and shapes of inputs and outputs. A value without a known datatype is left
    /// out of nothing: it is reported as `f32`, which the importer guarantees not to happen for
    /// models that declare their outputs.
    pub fn signature(&self) -> Signature {
        let spec = |id: &ValueId| {
            let value = self.value(*id);
            let dims = value.dims.as_ref().map(|dims| dims.iter().map(DimSpec::from).collect());
            TensorSpec { name: value.name.clone(), dtype: value.dtype.unwrap_or(DType::F32), dims }
        };
        Signature {
            inputs: self.inputs.iter().map(spec).collect(),
            outputs: self.outputs.iter().map(spec).collect(),
        }
    }

    /// The same without removed nodes, detached values and unused constants; ids change.
    pub fn compacted(mut self) -> Result<Graph, CycleError> {
        let order = self.schedule()?;
        let mut nodes = std::mem::take(&mut self.nodes);
        let mut graph = Graph::new(std::mem::take(&mut self.name));
        let mut map: Vec<Option<ValueId>> = vec![None; self.values.len()];
        let copy = |graph: &mut Graph, map: &mut Vec<Option<ValueId>>, id: ValueId| {
            *map[id.index()].get_or_insert_with(|| {
                let mut value = self.value(id).clone();
                if matches!(value.origin, Origin::Node(..)) {
                    value.origin = Origin::Detached;
                }
                graph.add_value(value)
            })
        };
        for &input in &self.inputs {
            let id = copy(&mut graph, &mut map, input);
            graph.inputs.push(id);
        }
        for id in order {
            let Some(node) = nodes[id.index()].take() else { continue };
            let mapped = |id: &Option<ValueId>, graph: &mut Graph, map: &mut Vec<_>| {
                id.map(|id| copy(graph, map, id))
            };
            let inputs = node.inputs.iter().map(|i| mapped(i, &mut graph, &mut map)).collect();
            let outputs = node.outputs.iter().map(|&o| copy(&mut graph, &mut map, o)).collect();
            graph.add_node(node.name, node.op, inputs, outputs);
        }
        for &output in &self.outputs {
            let id = copy(&mut graph, &mut map, output);
            graph.outputs.push(id);
        }
        Ok(graph)
    }
}

impl From<&Dim> for DimSpec {
    fn from(dim: &Dim) -> DimSpec {
        match dim {
            Dim::Known(n) => DimSpec::Known(*n),
            Dim::Symbol(name) if !dim.is_given() => DimSpec::Symbol(name.to_string()),
            Dim::Symbol(_) | Dim::Unknown => DimSpec::Symbol(String::new()),
        }
    }
}

/// Graphs are equal if their text forms are, constants included.
impl PartialEq for Graph {
    fn eq(&self, other: &Graph) -> bool {
        let (a, b) = (crate::text::print(self), crate::text::print(other));
        a.text == b.text && a.constants == b.constants
    }
}
