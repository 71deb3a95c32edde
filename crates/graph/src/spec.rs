//! A model's signature: the names, datatypes and shapes that callers see.

use std::fmt;

use landfall_tensor::{DType, Shape, TensorView};

/// The extent of one axis as callers see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DimSpec {
    /// Fixed.
    Known(usize),
    /// Free, with the name that the model's author gave it; equal names must have equal extents
    /// within one request. An anonymous free axis has the empty name.
    Symbol(String),
}

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name callers use.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Axes, outermost first; `None` if even the rank is unknown.
    pub dims: Option<Vec<DimSpec>>,
}

/// What goes into a model and what comes out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    /// Required inputs, in the model's order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs, in the model's order.
    pub outputs: Vec<TensorSpec>,
}

impl TensorSpec {
    /// Why `tensor` does not fit this specification of an input, if it does not.
    pub fn mismatch(&self, tensor: &TensorView<'_>) -> Option<String> {
        self.difference(tensor).map(|difference| format!("input '{}' {difference}", self.name))
    }

    /// What is different about `tensor`, as the end of a sentence, if something is.
    pub fn difference(&self, tensor: &TensorView<'_>) -> Option<String> {
        if tensor.dtype() != self.dtype {
            let (found, expected) = (tensor.dtype().protocol_name(), self.dtype.protocol_name());
            return Some(format!("has datatype {found}, expected {expected}"));
        }
        let dims = self.dims.as_ref()?;
        let fits = dims.len() == tensor.shape().len()
            && dims.iter().zip(tensor.shape().iter()).all(|(dim, &extent)| match dim {
                DimSpec::Known(known) => *known == extent,
                DimSpec::Symbol(_) => true,
            });
        (!fits).then(|| {
            let shape = Shape::from(tensor.shape());
            format!("has shape {shape}, expected {}", Dims(dims))
        })
    }
}

/// Prints axes as `[batch,3,224,224]`, anonymous ones as `?`.
pub struct Dims<'a>(pub &'a [DimSpec]);

impl fmt::Display for Dims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match dim {
                DimSpec::Known(n) => write!(f, "{comma}{n}")?,
                DimSpec::Symbol(name) if name.is_empty() => write!(f, "{comma}?")?,
                DimSpec::Symbol(name) => write!(f, "{comma}{name}")?,
            }
        }
        f.write_str("]")
    }
}
