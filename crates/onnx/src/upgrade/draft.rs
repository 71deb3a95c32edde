//! A node on its way to the newest operator set, and what rules may do to it.

use landfall_graph::{Attribute, Attributes, Dim, Graph, Op, ValueId};
use landfall_tensor::{DType, Element, Shape, Tensor};

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
}

impl Draft<'_> {
    /// Adds the node to its graph.
    pub(crate) fn finish(mut self) -> Result<(), Refusal> {
        self.name_datatypes()?;
        let op = Op::new(&self.domain, &self.op, self.attributes).map_err(|e| e.to_string())?;
        while self.inputs.last() == Some(&None) {
            self.inputs.pop();
        }
        self.graph.add_node(self.name, op, self.inputs, self.outputs);
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
                    let text = Attribute::Text(dtype.name().to_owned());
                    self.attributes.insert((*name).to_owned(), text);
                }
                _ => (),
            }
        }
        Ok(())
    }
}
