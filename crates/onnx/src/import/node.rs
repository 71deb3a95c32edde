//! One node: its attributes, its constants, and the way to the newest operator set.

use std::sync::Arc;

use landfall_graph::{Attribute, Attributes, Graph, ValueId};
use landfall_tensor::{Shape, Tensor, TensorError};

use super::Importer;
use super::scope::{Scope, domain_name};
use super::sequence::{self, Given};
use crate::error::{Malformed, NodeError, UnsupportedNode};
use crate::proto;
use crate::upgrade::{self, Draft};

impl<'m> Importer<'m> {
    /// Imports a node; one that cannot be represented is listed, and its results stay undefined.
    pub(super) fn node(
        &mut self,
        graph: &mut Graph,
        scope: &mut Scope<'m>,
        node: &'m proto::Node<'m>,
    ) -> Result<(), Malformed> {
        if let Some(function) = self.callee(node) {
            return self.inline(graph, scope, node, function);
        }
        let reason = match self.operator(graph, scope, node) {
            Ok(()) => return Ok(()),
            Err(NodeError::Fatal(error)) => return Err(error),
            Err(NodeError::Unsupported(reason)) => reason,
        };
        let domain = domain_name(node.domain);
        let first_output = node.output.first().copied().unwrap_or_default();
        let name = if node.name.is_empty() { first_output } else { node.name };
        self.unsupported.push(UnsupportedNode {
            name: format!("{}{name}", scope.prefix),
            operator: node.op_type.to_owned(),
            domain: domain.to_owned(),
            opset: scope.opsets.get(domain),
            reason,
        });
        for name in node.output.iter().copied().filter(|name| !name.is_empty()) {
            if scope.get(name).is_none() {
                scope.define(graph, name)?;
            }
        }
        Ok(())
    }

    fn operator(
        &mut self,
        graph: &mut Graph,
        scope: &mut Scope<'m>,
        node: &'m proto::Node<'m>,
    ) -> Result<(), NodeError> {
        let domain = domain_name(node.domain);
        let Some(version) = scope.opsets.get(domain) else {
            return Err(format!("the model imports no operator set of domain {domain}").into());
        };
        let attributes = self.attributes(scope, node)?;
        if (domain, node.op_type) == ("ai.onnx", "Constant") {
            return self.constant(graph, scope, node, attributes);
        }
        let mut inputs = Vec::with_capacity(node.input.len());
        for &name in &node.input {
            inputs.push(if name.is_empty() { None } else { scope.get(name).flatten() });
        }
        if domain == "ai.onnx"
            && let Some(given) = self.sequence(graph, scope, node, &inputs, &attributes)
        {
            return given;
        }
        let used = node.output.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
        if used == 0 {
            return Err("it has no outputs".to_owned().into());
        }
        let mut outputs = Vec::with_capacity(used);
        for &name in &node.output[..used] {
            outputs.push(match name {
                "" => graph.add_detached(""),
                name => scope.define(graph, name)?,
            });
        }
        let mut draft = Draft {
            name: format!("{}{}", scope.prefix, node.name),
            domain: domain.to_owned(),
            op: node.op_type.to_owned(),
            version,
            inputs,
            outputs,
            attributes,
            graph,
            behind: Vec::new(),
        };
        if domain == "ai.onnx" && ["If", "Loop", "Scan"].contains(&node.op_type) {
            self.bodies(&mut draft, scope, node)?;
        }
        upgrade::apply(&mut draft)?;
        Ok(draft.finish()?)
    }

    /// Resolves an operator on sequences; refuses sequences given to another operator.
    fn sequence(
        &mut self,
        graph: &mut Graph,
        scope: &mut Scope<'m>,
        node: &'m proto::Node<'m>,
        inputs: &[Option<ValueId>],
        attributes: &Attributes,
    ) -> Option<Result<(), NodeError>> {
        let sequences = scope.sequences.clone();
        let given = sequence::apply(graph, &sequences.borrow(), node.op_type, inputs, attributes);
        let Some(given) = given else {
            let sequences = sequences.borrow();
            let mut operands = inputs.iter().copied().flatten();
            let misused = operands.find(|id| sequences.contains_key(id))?;
            let name = &graph.value(misused).name;
            return Some(Err(format!("its input '{name}' is a sequence").into()));
        };
        let [name] = node.output[..] else {
            return Some(Err("it must have one output".to_owned().into()));
        };
        Some(given.map_err(NodeError::from).and_then(|given| match given {
            Given::Sequence(elements) => {
                let id = scope.define(graph, name)?;
                sequences.borrow_mut().insert(id, elements);
                Ok(())
            }
            Given::Constant(tensor) => {
                let id = graph.add_constant(format!("{}{name}", scope.prefix), tensor);
                Ok(scope.bind(name, Some(id))?)
            }
            Given::Tensor(op, inputs) => {
                let id = scope.define(graph, name)?;
                let inputs = inputs.into_iter().map(Some).collect();
                upgrade::insert(graph, node.name.to_owned(), *op, inputs, vec![id]);
                Ok(())
            }
        }))
    }

    /// The attributes of a node, references to a function's own resolved; sub-graphs left out.
    fn attributes(
        &mut self,
        scope: &Scope<'m>,
        node: &'m proto::Node<'m>,
    ) -> Result<Attributes, NodeError> {
        let mut attributes = Attributes::new();
        for own in &node.attribute {
            let attribute = match own.ref_attr_name {
                "" => own,
                outer => match scope.arguments.get(outer) {
                    Some(given) => given,
                    None => continue,
                },
            };
            if attribute.g.is_some() && std::ptr::eq(attribute, own) {
                continue;
            }
            let value = self.attribute(attribute).map_err(|error| match error {
                NodeError::Fatal(e) => NodeError::Fatal(e.within(own.name)),
                NodeError::Unsupported(r) => {
                    NodeError::Unsupported(format!("attribute '{}': {r}", own.name))
                }
            })?;
            if attributes.insert(own.name.to_owned(), value).is_some() {
                return Err(
                    Malformed::new(format!("attribute '{}' is given twice", own.name)).into()
                );
            }
        }
        Ok(attributes)
    }

    fn attribute(&mut self, proto: &'m proto::Attribute<'m>) -> Result<Attribute, NodeError> {
        let absent = |kind: &str| Malformed::new(format!("it is declared as {kind}, but has none"));
        Ok(match kind(proto) {
            1 => Attribute::Float(proto.f.unwrap_or_default()),
            2 => Attribute::Int(proto.i.unwrap_or_default()),
            3 => Attribute::Text(proto.s.unwrap_or_default().to_owned()),
            4 => {
                let tensor = proto.t.as_deref().ok_or_else(|| absent("a tensor"))?;
                Attribute::Tensor(self.attribute_tensor(tensor)?)
            }
            6 => Attribute::Floats(proto.floats.clone()),
            7 => Attribute::Ints(proto.ints.clone()),
            8 => Attribute::Texts(texts(&proto.strings)),
            11 => {
                let tensor = proto.sparse_tensor.as_deref();
                let tensor = tensor.ok_or_else(|| absent("a sparse tensor"))?;
                Attribute::Tensor(self.tensors.read_sparse(tensor)?)
            }
            5 | 10 => {
                return Err("sub-graphs are supported in If, Loop and Scan only".to_owned().into());
            }
            9 | 12 => return Err("lists of tensors are not supported".to_owned().into()),
            13 | 14 => return Err("types as attributes are not supported".to_owned().into()),
            other => return Err(Malformed::new(format!("{other} is no attribute type")).into()),
        })
    }

    fn attribute_tensor(&mut self, proto: &proto::Tensor<'_>) -> Result<Tensor, NodeError> {
        let place = proto.body.range().start;
        if let Some(tensor) = self.attribute_tensors.get(&place) {
            return Ok(tensor.clone());
        }
        let tensor = self.tensors.read(proto)?;
        self.attribute_tensors.insert(place, tensor.clone());
        Ok(tensor)
    }

    /// A `Constant` node in any of its forms becomes a constant.
    fn constant(
        &mut self,
        graph: &mut Graph,
        scope: &mut Scope<'m>,
        node: &'m proto::Node<'m>,
        attributes: Attributes,
    ) -> Result<(), NodeError> {
        let [name] = node.output[..] else {
            return Err(Malformed::new("a Constant has one output").into());
        };
        let mut values = attributes.into_iter();
        let (Some((form, value)), None) = (values.next(), values.next()) else {
            return Err(Malformed::new("a Constant has one attribute").into());
        };
        let tensor = constant_tensor(&form, value)?;
        let id = graph.add_constant(format!("{}{name}", scope.prefix), tensor);
        Ok(scope.bind(name, Some(id))?)
    }
}

/// Owned texts. The modes of a tree ensemble are the same few texts again and again, which then
/// share their memory.
fn texts(texts: &[&str]) -> Vec<Arc<str>> {
    const REMEMBERED_MAX: usize = 8;
    let mut remembered: Vec<Arc<str>> = Vec::new();
    let owned = |&text: &&str| {
        if let Some(known) = remembered.iter().find(|known| ***known == *text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        if remembered.len() < REMEMBERED_MAX {
            remembered.push(new.clone());
        }
        new
    };
    texts.iter().map(owned).collect()
}

/// The declared kind, or for files older than the declaration the kind of the field in use.
fn kind(proto: &proto::Attribute<'_>) -> i64 {
    if proto.kind != 0 {
        return proto.kind;
    }
    let used = [
        (proto.f.is_some(), 1),
        (proto.i.is_some(), 2),
        (proto.s.is_some(), 3),
        (proto.t.is_some(), 4),
        (proto.g.is_some(), 5),
        (!proto.floats.is_empty(), 6),
        (!proto.strings.is_empty(), 8),
        (proto.sparse_tensor.is_some(), 11),
    ];
    used.iter().find(|(used, _)| *used).map_or(7, |(_, kind)| *kind)
}

fn constant_tensor(form: &str, value: Attribute) -> Result<Tensor, NodeError> {
    let broken = |error: TensorError| Malformed::new(error.to_string());
    let tensor = match (form, value) {
        ("value" | "sparse_value", Attribute::Tensor(tensor)) => Ok(tensor),
        ("value_int", Attribute::Int(value)) => Ok(Tensor::scalar(value)),
        ("value_float", Attribute::Float(value)) => Ok(Tensor::scalar(value)),
        ("value_string", Attribute::Text(text)) => {
            Tensor::from_strings(Shape::scalar(), vec![text])
        }
        ("value_ints", Attribute::Ints(values)) => {
            Tensor::from_slice(Shape::from([values.len()]), &values)
        }
        ("value_floats", Attribute::Floats(values)) => {
            Tensor::from_slice(Shape::from([values.len()]), &values)
        }
        ("value_strings", Attribute::Texts(texts)) => {
            let texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
            Tensor::from_strings(Shape::from([texts.len()]), texts)
        }
        (form, value) => {
            return Err(format!("a constant as {form} of {} is not known", value.kind()).into());
        }
    };
    Ok(tensor.map_err(broken)?)
}
