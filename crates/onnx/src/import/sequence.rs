//! Sequences of tensors whose lengths and positions are constants: they vanish on import.
//!
//! The importer keeps the elements of such a sequence beside the value that stands for it, which
//! nothing defines. Sequences that depend on data are not supported.

use std::collections::HashMap;

use landfall_graph::{Attribute, Attributes, Graph, Op, ValueId, ops};
use landfall_tensor::{Shape, Tensor};

/// Elements by the value that stands for the sequence.
pub(super) type Sequences = HashMap<ValueId, Vec<ValueId>>;

/// Elements that `SplitToSequence` may make.
const MAX_PARTS: i64 = 4096;

/// What an operator on sequences gives.
pub(super) enum Given {
    Sequence(Vec<ValueId>),
    /// The result of an operator.
    Tensor(Box<Op>, Vec<ValueId>),
    Constant(Tensor),
}

/// What a node gives, if its operator is about sequences; the error is a reason.
pub(super) fn apply(
    graph: &mut Graph,
    sequences: &Sequences,
    op: &str,
    inputs: &[Option<ValueId>],
    attributes: &Attributes,
) -> Option<Result<Given, String>> {
    let mut node = Node { graph, sequences, inputs, attributes };
    Some(match op {
        "SequenceConstruct" => Ok(Given::Sequence(inputs.iter().copied().flatten().collect())),
        "SequenceEmpty" => Ok(Given::Sequence(Vec::new())),
        "SequenceAt" => node.at(),
        "SequenceInsert" => node.insert(),
        "SequenceErase" => node.erase(),
        "SequenceLength" => {
            node.elements().map(|elements| Given::Constant(Tensor::scalar(elements.len() as i64)))
        }
        "ConcatFromSequence" => node.concat(),
        "SplitToSequence" => node.split(),
        _ => return None,
    })
}

struct Node<'a> {
    graph: &'a mut Graph,
    sequences: &'a Sequences,
    inputs: &'a [Option<ValueId>],
    attributes: &'a Attributes,
}

impl Node<'_> {
    fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        match self.attributes.get(name) {
            Some(Attribute::Int(value)) => *value,
            _ => default,
        }
    }

    fn elements(&self) -> Result<Vec<ValueId>, String> {
        let elements = self.input(0).and_then(|id| self.sequences.get(&id));
        elements.cloned().ok_or_else(|| "its sequence's elements depend on data".to_owned())
    }

    /// The integers of a constant operand.
    fn ints(&self, id: ValueId) -> Result<Vec<i64>, String> {
        let tensor = self.graph.constant(id).map(Tensor::aligned);
        let tensor = tensor.ok_or("its positions or sizes depend on data")?;
        if let Ok(values) = tensor.as_slice::<i32>() {
            return Ok(values.iter().map(|&value| i64::from(value)).collect());
        }
        tensor.as_slice::<i64>().map(<[i64]>::to_vec).map_err(|error| error.to_string())
    }

    /// A position below `limit`, counted from the end if negative.
    fn position(&self, index: usize, limit: usize) -> Result<Option<usize>, String> {
        let Some(id) = self.input(index) else { return Ok(None) };
        let [position] = self.ints(id)?[..] else {
            return Err("its position is not a single number".to_owned());
        };
        let length = self.elements()?.len() as i64;
        let from_start = if position < 0 { position.saturating_add(length) } else { position };
        let inside = usize::try_from(from_start).ok().filter(|&n| n < limit);
        inside.map(Some).ok_or_else(|| format!("position {position} is outside of {length}"))
    }

    fn at(&self) -> Result<Given, String> {
        let elements = self.elements()?;
        let position = self.position(1, elements.len())?.ok_or("input 1 is required")?;
        Ok(Given::Tensor(Box::new(Op::Identity), vec![elements[position]]))
    }

    fn insert(&self) -> Result<Given, String> {
        let mut elements = self.elements()?;
        let element = self.input(1).ok_or("input 1 is required")?;
        let position = self.position(2, elements.len() + 1)?.unwrap_or(elements.len());
        elements.insert(position, element);
        Ok(Given::Sequence(elements))
    }

    fn erase(&self) -> Result<Given, String> {
        let mut elements = self.elements()?;
        let last = elements.len().checked_sub(1).ok_or("its sequence is empty")?;
        elements.remove(self.position(1, elements.len())?.unwrap_or(last));
        Ok(Given::Sequence(elements))
    }

    fn concat(&mut self) -> Result<Given, String> {
        let mut elements = self.elements()?;
        let axis = self.int("axis", 0);
        if self.int("new_axis", 0) == 1 {
            let axes = self.vector(vec![axis])?;
            for element in &mut elements {
                *element = self.append(Op::Unsqueeze, vec![*element, axes]);
            }
        }
        Ok(Given::Tensor(Box::new(Op::Concat(ops::Concat { axis })), elements))
    }

    fn split(&mut self) -> Result<Given, String> {
        let x = self.input(0).ok_or("input 0 is required")?;
        let axis = self.int("axis", 0);
        let sizes = self.sizes(x, axis)?;
        let squeeze = self.input(1).is_none() && self.int("keepdims", 1) == 0;
        let count = sizes.len();
        let sizes = self.vector(sizes)?;
        let names = (0..count).map(|i| format!("{}/{i}", self.graph.value(x).name));
        let names: Vec<String> = names.collect();
        let mut parts: Vec<_> = names.into_iter().map(|n| self.graph.add_detached(n)).collect();
        let op = Op::Split(ops::Split { axis, num_outputs: None });
        self.graph.add_node("", op, vec![Some(x), Some(sizes)], parts.clone());
        if squeeze {
            let axes = self.vector(vec![axis])?;
            for part in &mut parts {
                *part = self.append(Op::Squeeze, vec![*part, axes]);
            }
        }
        Ok(Given::Sequence(parts))
    }

    /// Sizes of the parts of `x`: as given, or as many equal ones as the axis holds.
    fn sizes(&self, x: ValueId, axis: i64) -> Result<Vec<i64>, String> {
        let size = match self.input(1) {
            None => 1,
            Some(id) => {
                let sizes = self.ints(id)?;
                let scalar = self.graph.constant(id).is_some_and(|t| t.shape().rank() == 0);
                match sizes[..] {
                    [size] if scalar => size,
                    _ => return Ok(sizes),
                }
            }
        };
        let dims = self.graph.value(x).dims.as_deref().unwrap_or_default();
        let axis = if axis < 0 { axis.saturating_add(dims.len() as i64) } else { axis };
        let dim = usize::try_from(axis).ok().and_then(|axis| dims.get(axis)?.known());
        let extent = dim.ok_or("the number of its parts depends on data")? as i64;
        if size < 1 || extent / size > MAX_PARTS {
            return Err(format!("parts of {size} of {extent} are not supported"));
        }
        let starts = (0..extent).step_by(size as usize);
        Ok(starts.map(|start| size.min(extent - start)).collect())
    }

    fn vector(&mut self, values: Vec<i64>) -> Result<ValueId, String> {
        let tensor = Tensor::from_slice(Shape::from([values.len()]), &values);
        Ok(self.graph.add_constant("", tensor.map_err(|error| error.to_string())?))
    }

    fn append(&mut self, op: Op, inputs: Vec<ValueId>) -> ValueId {
        self.graph.append("", op, inputs.into_iter().map(Some).collect())
    }
}
