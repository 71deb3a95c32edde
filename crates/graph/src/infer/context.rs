//! What an inference rule sees.

use std::sync::Arc;

use landfall_tensor::{DType, Tensor};

use super::{Fact, Int};
use crate::{Dim, Op};

/// Operands that no model may combine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InferError(pub String);

impl InferError {
    /// An error as the answer of a rule.
    pub fn because<T>(message: impl Into<String>) -> Result<T, InferError> {
        Err(InferError(message.into()))
    }
}

/// One node's operator and what is known of its operands.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a> {
    /// The operator.
    pub op: &'a Op,
    /// How many results the node has.
    pub outputs: usize,
    facts: &'a [Option<&'a Fact>],
}

impl<'a> Operands<'a> {
    pub(super) fn new(op: &'a Op, facts: &'a [Option<&'a Fact>], outputs: usize) -> Operands<'a> {
        Operands { op, outputs, facts }
    }

    /// Number of operands, those left out included.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there are no operands.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// What is known of operand `index`, if it is present.
    pub fn get(&self, index: usize) -> Option<&'a Fact> {
        self.facts.get(index).copied().flatten()
    }

    /// Whether operand `index` is present.
    pub fn has(&self, index: usize) -> bool {
        self.get(index).is_some()
    }

    /// Datatype of operand `index`.
    pub fn dtype(&self, index: usize) -> Option<DType> {
        self.get(index)?.dtype
    }

    /// Fails if operand `index` is of another datatype than operand 0, whose elements its own join.
    pub(super) fn expect_dtype_of_first(&self, index: usize) -> Result<(), InferError> {
        match (self.dtype(0), self.dtype(index)) {
            (Some(first), Some(other)) if first != other => InferError::because(format!(
                "operand {index} has datatype {other}, operand 0 {first}"
            )),
            _ => Ok(()),
        }
    }

    /// Extents of operand `index`.
    pub fn dims(&self, index: usize) -> Option<&'a [Dim]> {
        self.get(index)?.dims.as_deref()
    }

    /// Rank of operand `index`.
    pub fn rank(&self, index: usize) -> Option<usize> {
        self.dims(index).map(<[Dim]>::len)
    }

    /// The elements of operand `index`, if they are known.
    pub fn tensor(&self, index: usize) -> Option<&'a Tensor> {
        self.get(index)?.tensor.as_ref()
    }

    /// The elements of integer operand `index`, as far as they are known.
    pub fn partial_ints(&self, index: usize) -> Option<&'a [Int]> {
        self.get(index)?.ints.as_deref()
    }

    /// The elements of integer operand `index`, if all are known.
    pub fn ints(&self, index: usize) -> Option<Vec<i64>> {
        self.partial_ints(index)?
            .iter()
            .map(|int| match int {
                Int::Known(n) => Some(*n),
                _ => None,
            })
            .collect()
    }
}

/// An axis counted from the front: `axis` may be negative. Errors if it is out of range.
pub fn resolve_axis(axis: i64, rank: usize) -> Result<usize, InferError> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let resolved = if axis < 0 { axis + signed } else { axis };
    usize::try_from(resolved)
        .ok()
        .filter(|&resolved| resolved < rank)
        .ok_or_else(|| InferError(format!("axis {axis} is out of range for rank {rank}")))
}

/// The extent that two broadcast extents give.
pub(super) fn broadcast_dim(a: &Dim, b: &Dim) -> Result<Dim, InferError> {
    Ok(match (a, b) {
        (Dim::Known(1), other) | (other, Dim::Known(1)) => other.clone(),
        (Dim::Known(x), Dim::Known(y)) if x != y => {
            return InferError::because(format!("extents {x} and {y} cannot be broadcast"));
        }
        (Dim::Known(n), _) | (_, Dim::Known(n)) => Dim::Known(*n),
        (a, b) if a.same(b) => a.clone(),
        // The smaller of n and s fits beside s only if it is s, or 1.
        (a, b) if a.is_at_most(b) => b.clone(),
        (a, b) if b.is_at_most(a) => a.clone(),
        _ => Dim::Unknown,
    })
}

/// The extents that two broadcast operands give.
pub(super) fn broadcast_dims(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, InferError> {
    let rank = a.len().max(b.len());
    let at = |dims: &[Dim], axis: usize| -> Dim {
        (axis + dims.len()).checked_sub(rank).map_or(Dim::Known(1), |k| dims[k].clone())
    };
    (0..rank).map(|axis| broadcast_dim(&at(a, axis), &at(b, axis))).collect()
}

/// Sum of two extents.
pub(super) fn add_dims(a: &Dim, b: &Dim) -> Dim {
    match (a, b) {
        (Dim::Known(x), Dim::Known(y)) => x.checked_add(*y).map_or(Dim::Unknown, Dim::Known),
        (Dim::Known(0), other) | (other, Dim::Known(0)) => other.clone(),
        _ => Dim::Unknown,
    }
}

/// Product of extents; a symbol survives a product with ones.
pub(super) fn product<'d>(dims: impl IntoIterator<Item = &'d Dim>) -> Dim {
    let mut known = 1usize;
    let mut symbol: Option<Arc<str>> = None;
    let mut unknown = false;
    for dim in dims {
        match dim {
            Dim::Known(n) => known = known.saturating_mul(*n),
            Dim::Symbol(name) if symbol.is_none() => symbol = Some(name.clone()),
            _ => unknown = true,
        }
    }
    match symbol {
        _ if known == 0 => Dim::Known(0),
        None if !unknown => Dim::Known(known),
        Some(name) if !unknown && known == 1 => Dim::Symbol(name),
        _ => Dim::Unknown,
    }
}
