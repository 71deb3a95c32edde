//! Graphs: initialisers, inputs, nodes in the order of their dependencies, outputs.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::rc::Rc;

use landfall_graph::{Graph, Op, Origin, ValueId};

use super::scope::{Opsets, Scope, annotate, domain_name, tensor_type};
use super::{Importer, body};
use crate::error::{Malformed, NodeError, UnsupportedNode};
use crate::proto;

impl<'m> Importer<'m> {
    /// The model's own graph. Inputs with an initialiser are constants: what callers could
    /// override in old models is fixed here.
    pub(super) fn model_graph(
        &mut self,
        proto: &'m proto::Graph<'m>,
        opsets: Rc<Opsets>,
    ) -> Result<Graph, Malformed> {
        let mut graph = Graph::new(proto.name);
        let mut scope = Scope::root(opsets);
        let in_graph = |error: Malformed| error.within("graph");
        self.initialisers(&mut graph, &mut scope, proto).map_err(in_graph)?;
        for input in &proto.input {
            if scope.get(input.name).is_none() {
                self.model_input(&mut graph, &mut scope, input).map_err(in_graph)?;
            }
        }
        self.contents(&mut graph, &mut scope, proto).map_err(in_graph)?;
        for output in &proto.output {
            self.check_output(&graph, output);
        }
        self.resolve_zip_maps(&mut graph);
        Ok(graph)
    }

    fn model_input(
        &mut self,
        graph: &mut Graph,
        scope: &mut Scope<'m>,
        input: &'m proto::ValueInfo<'m>,
    ) -> Result<(), Malformed> {
        let declared = input.r#type.as_deref().map(tensor_type);
        let (dtype, dims) = match declared.unwrap_or(Ok((None, None))) {
            Ok((Some(dtype), dims)) => (Some(dtype), dims),
            Ok((None, _)) => return self.refuse_value(graph, scope, input, "its type is missing"),
            Err(reason) => return self.refuse_value(graph, scope, input, &reason),
        };
        let id = graph.add_input(input.name, dtype, dims);
        scope.bind(input.name, Some(id))
    }

    fn refuse_value(
        &mut self,
        graph: &mut Graph,
        scope: &mut Scope<'m>,
        input: &'m proto::ValueInfo<'m>,
        reason: &str,
    ) -> Result<(), Malformed> {
        self.unsupported.push(unsupported_value(input.name, "graph input", reason.to_owned()));
        let id = graph.add_input(input.name, None, None);
        scope.bind(input.name, Some(id))
    }

    /// Lists an output whose declared type is not a tensor's, unless a `ZipMap` gives it.
    fn check_output(&mut self, graph: &Graph, output: &proto::ValueInfo<'_>) {
        let Some(Err(reason)) = output.r#type.as_deref().map(tensor_type) else { return };
        let zip_map = graph.outputs.iter().any(|&id| {
            let made_by = graph.producer(id).map(|(_, node)| &node.op);
            graph.value(id).name == output.name && matches!(made_by, Some(Op::ZipMap(_)))
        });
        if !zip_map {
            self.unsupported.push(unsupported_value(output.name, "graph output", reason));
        }
    }

    pub(super) fn initialisers(
        &mut self,
        graph: &mut Graph,
        scope: &mut Scope<'m>,
        proto: &'m proto::Graph<'m>,
    ) -> Result<(), Malformed> {
        let sparse_name = |s: &'m proto::SparseTensor<'m>| s.values.as_ref().map_or("", |v| v.name);
        let dense = proto.initializer.iter().map(|t| (t.name, self.tensors.read(t)));
        let mut tensors: Vec<_> = dense.collect();
        for sparse in &proto.sparse_initializer {
            tensors.push((sparse_name(sparse), self.tensors.read_sparse(sparse)));
        }
        for (name, tensor) in tensors {
            let id = match tensor {
                Ok(tensor) => graph.add_constant(format!("{}{name}", scope.prefix), tensor),
                Err(NodeError::Fatal(error)) => return Err(error.within("initializer")),
                Err(NodeError::Unsupported(reason)) => {
                    self.unsupported.push(unsupported_value(name, "initializer", reason));
                    graph.add_detached(name)
                }
            };
            scope.bind(name, Some(id))?;
        }
        Ok(())
    }

    /// Nodes and outputs of a graph whose initialisers and inputs are bound.
    pub(super) fn contents(
        &mut self,
        graph: &mut Graph,
        scope: &mut Scope<'m>,
        proto: &'m proto::Graph<'m>,
    ) -> Result<(), Malformed> {
        scope.declare(&proto.value_info);
        scope.declare(&proto.output);
        self.nodes(graph, scope, &proto.node)?;
        for output in &proto.output {
            let Some(Some(id)) = scope.get(output.name) else {
                let problem = format!("output '{}' is defined by no node", output.name);
                return Err(Malformed::new(problem));
            };
            let id = output_value(graph, id, output.name);
            if let Some(declared) = output.r#type.as_deref() {
                annotate(graph, id, declared);
            }
            graph.outputs.push(id);
        }
        Ok(())
    }

    /// Imports nodes in the order of their dependencies, whatever their order in the file.
    pub(super) fn nodes(
        &mut self,
        graph: &mut Graph,
        scope: &mut Scope<'m>,
        nodes: &'m [proto::Node<'m>],
    ) -> Result<(), Malformed> {
        for index in order(nodes, scope)? {
            let node = &nodes[index];
            self.charge(node)?;
            self.node(graph, scope, node).map_err(|error| error.within(title(node, index)))?;
        }
        Ok(())
    }
}

fn unsupported_value(name: &str, what: &str, reason: String) -> UnsupportedNode {
    UnsupportedNode {
        name: name.to_owned(),
        operator: what.to_owned(),
        domain: domain_name("").to_owned(),
        opset: None,
        reason,
    }
}

/// How messages name a node.
fn title(node: &proto::Node<'_>, index: usize) -> String {
    match node.name {
        "" => format!("node[{index}] ({})", node.op_type),
        name => format!("node '{name}' ({})", node.op_type),
    }
}

/// The value to list as an output: a copy if `id` already has another public name.
fn output_value(graph: &mut Graph, id: ValueId, name: &str) -> ValueId {
    let own = graph.value(id).name == name && !graph.outputs.contains(&id);
    if own {
        return id;
    }
    let public = matches!(graph.value(id).origin, Origin::Input | Origin::Constant(_));
    if !public && !graph.outputs.contains(&id) {
        graph.value_mut(id).name = name.to_owned();
        return id;
    }
    graph.append(name, Op::Identity, vec![Some(id)])
}

/// Positions of the nodes, each after those that it depends on, otherwise as in the file.
fn order<'m>(nodes: &'m [proto::Node<'m>], scope: &Scope<'m>) -> Result<Vec<usize>, Malformed> {
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if scope.get(name).is_some() || producers.insert(name, index).is_some() {
                let problem = format!("value '{name}' is defined twice");
                return Err(Malformed::new(problem).within(title(node, index)));
            }
        }
    }
    let mut consumers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut waiting = vec![0usize; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        let mut seen = HashSet::new();
        for name in body::names_read(node) {
            match producers.get(name) {
                Some(&producer) if seen.insert(producer) => {
                    consumers[producer].push(index);
                    waiting[index] += 1;
                }
                Some(_) => (),
                None if scope.get(name).is_some() => (),
                None => {
                    let problem = format!("input '{name}' is not defined anywhere");
                    return Err(Malformed::new(problem).within(title(node, index)));
                }
            }
        }
    }
    let ready = (0..nodes.len()).filter(|&i| waiting[i] == 0).map(Reverse);
    let mut ready: BinaryHeap<_> = ready.collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for &consumer in &consumers[index] {
            waiting[consumer] -= 1;
            if waiting[consumer] == 0 {
                ready.push(Reverse(consumer));
            }
        }
    }
    match waiting.iter().position(|&count| count > 0) {
        None => Ok(order),
        Some(index) => {
            let error = Malformed::new("it depends on its own result: the graph has a cycle");
            Err(error.within(title(&nodes[index], index)))
        }
    }
}
