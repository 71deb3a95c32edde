//! A node on its way to the newest operator set, and what rules may do to it.

use landfall_graph::infer::{Fact, infer_node};
use landfall_graph::{Attribute, Attributes, Dim, Graph, Op, Origin, ValueId, ops};
use landfall_tensor::{DType, Shape, Tensor, bf16, f16};

use super::{NEWEST, ONNX};
use crate::dtype;

/// Why a rule cannot keep a node's meaning.
pub(crate) type Refusal = String;

/// A node that is not yet part of its graph. Rules change it in place, and add nodes before it and
/// behind it.
pub(crate) struct Draft<'g> {
    pub(crate) name: String,
    pub(crate) domain: String,
    pub(crate) op: String,
    /// Operator-set version that the node is written in.
    pub(crate) version: i64,
    pub(crate) inputs: Vec<Option<ValueId>>,
    pub(crate) outputs: Vec<ValueId>,
    pub(crate) attributes: Attributes,
    pub(crate) graph: &'g mut Graph,
    /// Nodes behind this one: operator, operands, result. The last comes first.
    pub(crate) behind: Vec<(Op, Vec<Option<ValueId>>, ValueId)>,
}

impl Draft<'_> {
    /// Adds the node, and those behind it, to its graph.
    pub(crate) fn finish(mut self) -> Result<(), Refusal> {
        self.name_datatypes()?;
        let attributes = std::mem::take(&mut self.attributes);
        let op = Op::new(&self.domain, &self.op, attributes).map_err(|e| e.to_string())?;
        let behind: Vec<_> = std::mem::take(&mut self.behind).into_iter().rev().collect();
        let named =
            |(op, inputs, output): (Op, _, _)| (self.extra_name(op.name()), op, inputs, output);
        let behind: Vec<_> = behind.into_iter().map(named).collect();
        insert(self.graph, self.name, op, self.inputs, self.outputs);
        for (name, op, inputs, output) in behind {
            insert(self.graph, name, op, inputs, vec![output]);
        }
        Ok(())
    }

    /// Replaces ONNX's numbers for datatypes in attributes by names; 0 means not given.
    fn name_datatypes(&mut self) -> Result<(), Refusal> {
        let names = Op::attribute_names(&self.domain, &self.op);
        for (name, _) in names.iter().filter(|(_, is_dtype)| *is_dtype) {
            match self.attributes.get(*name) {
                Some(Attribute::Int(0)) => {
                    self.attributes.remove(*name);
                }
                Some(Attribute::Int(code)) => {
                    let dtype = dtype::from_code(*code).map_err(|e| format!("{name}: {e}"))?;
                    self.attributes.insert((*name).to_owned(), text(dtype.name()));
                }
                _ => (),
            }
        }
        Ok(())
    }

    fn extra_name(&self, op: &str) -> String {
        let own = match (self.name.as_str(), self.public_output()) {
            ("", Some(output)) => self.graph.value(output).name.as_str(),
            (name, _) => name,
        };
        format!("{own}/{op}")
    }

    /// The first value that the node gives to the rest of the model.
    fn public_output(&self) -> Option<ValueId> {
        let behind = self.behind.first().map(|(_, _, output)| *output);
        behind.or(self.outputs.first().copied())
    }

    /// Makes this a node of the newest version of a standard operator.
    pub(crate) fn become_standard(&mut self, op: &str) {
        self.domain = ONNX.to_owned();
        self.op = op.to_owned();
        self.version = NEWEST[0].1;
    }

    /// Adds a node before this one.
    pub(crate) fn before<const N: usize>(&mut self, op: Op, inputs: [ValueId; N]) -> ValueId {
        self.before_with(op, inputs.into_iter().map(Some).collect())
    }

    /// Adds a node with operands left out before this one.
    pub(crate) fn before_with(&mut self, op: Op, inputs: Vec<Option<ValueId>>) -> ValueId {
        let [output] = self.before_several(op, inputs);
        output
    }

    /// Adds a node with `N` results before this one.
    pub(crate) fn before_several<const N: usize>(
        &mut self,
        op: Op,
        inputs: Vec<Option<ValueId>>,
    ) -> [ValueId; N] {
        let name = self.extra_name(op.name());
        let outputs = std::array::from_fn(|_| self.graph.add_detached(name.clone()));
        insert(self.graph, name, op, inputs, outputs.to_vec());
        outputs
    }

    /// Passes output `index` through another operator, whose first operand it becomes.
    pub(crate) fn behind<const N: usize>(&mut self, index: usize, op: Op, others: [ValueId; N]) {
        let outer = self.outputs[index];
        let inner = self.graph.add_detached(self.extra_name("result"));
        self.outputs[index] = inner;
        let operands = std::iter::once(inner).chain(others).map(Some).collect();
        self.behind.push((op, operands, outer));
    }

    /// Adds a constant.
    pub(crate) fn constant(&mut self, tensor: Tensor) -> ValueId {
        let name = self.extra_name("constant");
        self.graph.add_constant(name, tensor)
    }

    /// Adds a vector of integers.
    pub(crate) fn ints(&mut self, values: &[i64]) -> Result<ValueId, Refusal> {
        let tensor = Tensor::from_slice(Shape::from([values.len()]), values);
        Ok(self.constant(tensor.map_err(|error| error.to_string())?))
    }

    /// Adds a scalar of the datatype that `like` has, whether or not that is known yet.
    pub(crate) fn scalar_like(&mut self, value: f32, like: ValueId) -> ValueId {
        let tensor = match self.graph.value(like).dtype {
            Some(DType::F32) => Tensor::scalar(value),
            Some(DType::F64) => Tensor::scalar(f64::from(value)),
            Some(DType::F16) => Tensor::scalar(f16::from_f32(value)),
            Some(DType::BF16) => Tensor::scalar(bf16::from_f32(value)),
            _ => {
                let constant = self.constant(Tensor::scalar(value));
                let cast = ops::CastLike { round_mode: "up".to_owned(), saturate: true };
                return self.before(Op::CastLike(cast), [constant, like]);
            }
        };
        self.constant(tensor)
    }

    /// Operand `index`, if given.
    pub(crate) fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// Operand `index`, which must be given.
    pub(crate) fn required(&self, index: usize) -> Result<ValueId, Refusal> {
        self.input(index).ok_or_else(|| format!("input {index} is required"))
    }

    pub(crate) fn set_input(&mut self, index: usize, id: Option<ValueId>) {
        if self.inputs.len() <= index {
            self.inputs.resize(index + 1, None);
        }
        self.inputs[index] = id;
    }

    /// Whether output `index` is given a name.
    pub(crate) fn gives(&self, index: usize) -> bool {
        self.outputs.get(index).is_some_and(|&id| !self.graph.value(id).name.is_empty())
    }

    /// Refuses the node if it gives an output that the rule cannot make.
    pub(crate) fn refuse_outputs(&self, unavailable: &[usize]) -> Result<(), Refusal> {
        match unavailable.iter().find(|&&index| self.gives(index)) {
            Some(index) => Err(format!("output {index} is not supported")),
            None => Ok(()),
        }
    }

    /// Refuses the node if it has an input that the rule does not know.
    pub(crate) fn refuse_inputs(&self, unknown: &[usize]) -> Result<(), Refusal> {
        match unknown.iter().find(|&&index| self.input(index).is_some()) {
            Some(index) => Err(format!("input {index} is not supported")),
            None => Ok(()),
        }
    }

    /// Extents of a value, if declared or inferred.
    pub(crate) fn dims(&self, id: ValueId) -> Option<Vec<Dim>> {
        self.graph.value(id).dims.clone()
    }

    /// Number of axes of a value, which the rule needs.
    pub(crate) fn rank(&self, id: ValueId) -> Result<usize, Refusal> {
        let value = self.graph.value(id);
        let rank = value.dims.as_ref().map(Vec::len);
        rank.ok_or_else(|| format!("the rank of '{}' is not known", value.name))
    }

    /// Removes an attribute and reads it.
    pub(crate) fn take_int(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        match self.attributes.remove(name) {
            None => Ok(None),
            Some(Attribute::Int(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_kind(name, "an int", &other)),
        }
    }

    /// Removes an attribute and reads it.
    pub(crate) fn take_float(&mut self, name: &str) -> Result<Option<f32>, Refusal> {
        match self.attributes.remove(name) {
            None => Ok(None),
            Some(Attribute::Float(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_kind(name, "a float", &other)),
        }
    }

    /// Removes an attribute and reads it.
    pub(crate) fn take_ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, Refusal> {
        match self.attributes.remove(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values)),
            Some(other) => Err(wrong_kind(name, "ints", &other)),
        }
    }

    /// Removes an attribute and reads it.
    pub(crate) fn take_floats(&mut self, name: &str) -> Result<Option<Vec<f32>>, Refusal> {
        match self.attributes.remove(name) {
            None => Ok(None),
            Some(Attribute::Floats(values)) => Ok(Some(values)),
            Some(Attribute::Ints(values)) if values.is_empty() => Ok(Some(Vec::new())),
            Some(other) => Err(wrong_kind(name, "floats", &other)),
        }
    }

    /// Removes an attribute and reads it.
    pub(crate) fn take_text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.attributes.remove(name) {
            None => Ok(None),
            Some(Attribute::Text(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_kind(name, "a string", &other)),
        }
    }

    /// Removes an attribute that must have one value, absent or not.
    pub(crate) fn require_int(&mut self, name: &str, only: i64) -> Result<(), Refusal> {
        match self.take_int(name)? {
            None => Ok(()),
            Some(value) if value == only => Ok(()),
            Some(value) => Err(format!("{name} = {value} is not supported, only {only}")),
        }
    }

    pub(crate) fn set(&mut self, name: &str, value: Attribute) {
        self.attributes.insert(name.to_owned(), value);
    }

    /// Sets an attribute unless the node has it.
    pub(crate) fn set_default(&mut self, name: &str, value: Attribute) {
        self.attributes.entry(name.to_owned()).or_insert(value);
    }
}

/// A text attribute.
pub(crate) fn text(value: &str) -> Attribute {
    Attribute::Text(value.to_owned())
}

fn wrong_kind(name: &str, expected: &str, found: &Attribute) -> Refusal {
    format!("attribute '{name}' must be {expected}, found {}", found.kind())
}

/// Adds a node and notes what is known of its results; rules ask for datatypes and ranks.
pub(crate) fn insert(
    graph: &mut Graph,
    name: String,
    op: Op,
    mut inputs: Vec<Option<ValueId>>,
    outputs: Vec<ValueId>,
) {
    while inputs.last() == Some(&None) {
        inputs.pop();
    }
    let fact = |id: ValueId| {
        let value = graph.value(id);
        match &value.origin {
            Origin::Constant(tensor) => Fact::constant(tensor),
            _ => Fact::new(value.dtype, value.dims.clone()),
        }
    };
    let facts: Vec<_> = inputs.iter().map(|id| id.map(fact)).collect();
    let facts: Vec<_> = facts.iter().map(Option::as_ref).collect();
    let results = infer_node(&op, &facts, outputs.len()).unwrap_or_default();
    for (&output, result) in outputs.iter().zip(results) {
        let value = graph.value_mut(output);
        value.dtype = value.dtype.or(result.dtype);
        value.dims = value.dims.take().or(result.dims);
    }
    graph.add_node(name, op, inputs, outputs);
}
