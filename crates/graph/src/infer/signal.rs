//! Fourier transforms, windows and losses.

use landfall_tensor::DType;

use super::Fact;
use super::context::{InferError, Operands, resolve_axis};
use crate::{Dim, LossReduction, Op, ops};

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let window = |dtype: Option<DType>| Ok(vec![Fact::new(dtype, Some(vec![size(operands, 0)]))]);
    Some(match operands.op {
        Op::Dft(op) => dft(operands, op),
        Op::Stft(op) => stft(operands, op.onesided),
        Op::HannWindow(op) => window(op.output_datatype),
        Op::HammingWindow(op) => window(op.output_datatype),
        Op::BlackmanWindow(op) => window(op.output_datatype),
        Op::MelWeightMatrix(op) => {
            let bins = halved(&size(operands, 1));
            Ok(vec![Fact::new(op.output_datatype, Some(vec![bins, size(operands, 0)]))])
        }
        Op::NegativeLogLikelihoodLoss(op) => Ok(vec![loss(operands, op.reduction)]),
        Op::SoftmaxCrossEntropyLoss(op) => {
            let log_probs = operands.dims(0).map(<[Dim]>::to_vec);
            let log_probs = Fact::new(operands.dtype(0), log_probs);
            Ok(vec![loss(operands, op.reduction), log_probs])
        }
        _ => return None,
    })
}

fn scalar(operands: &Operands<'_>, index: usize) -> Option<i64> {
    operands.ints(index).filter(|ints| ints.len() == 1).map(|ints| ints[0])
}

/// The extent that integer operand `index` gives.
fn size(operands: &Operands<'_>, index: usize) -> Dim {
    let value = scalar(operands, index).and_then(|n| usize::try_from(n).ok());
    value.map_or(Dim::Unknown, Dim::Known)
}

/// Bins of a one-sided transform.
fn halved(length: &Dim) -> Dim {
    length.known().map_or(Dim::Unknown, |n| Dim::Known(n / 2 + 1))
}

fn dft(operands: &Operands<'_>, op: &ops::Dft) -> Result<Vec<Fact>, InferError> {
    let dtype = operands.dtype(0);
    let Some(dims) = operands.dims(0) else { return Ok(vec![Fact::new(dtype, None)]) };
    let mut dims = dims.to_vec();
    let last = match dims.len().checked_sub(1) {
        Some(last) if last > 0 => last,
        _ => return InferError::because("a signal needs an axis besides the complex one"),
    };
    dims[last] = Dim::Known(if op.inverse && op.onesided { 1 } else { 2 });
    let axis = match (operands.has(2), scalar(operands, 2)) {
        (false, _) => -2,
        (true, Some(axis)) => axis,
        (true, None) => {
            dims[..last].fill(Dim::Unknown);
            return Ok(vec![Fact::new(dtype, Some(dims))]);
        }
    };
    let axis = resolve_axis(axis, dims.len())?;
    if axis == last {
        return InferError::because("the complex axis cannot be transformed");
    }
    let length = match (operands.has(1), op.inverse && op.onesided) {
        (true, _) => size(operands, 1),
        (false, true) => dims[axis]
            .known()
            .map_or(Dim::Unknown, |n| Dim::Known(n.saturating_sub(1).saturating_mul(2))),
        (false, false) => dims[axis].clone(),
    };
    dims[axis] = if op.onesided && !op.inverse { halved(&length) } else { length };
    Ok(vec![Fact::new(dtype, Some(dims))])
}

/// `[batch, frames, bins, 2]`.
fn stft(operands: &Operands<'_>, onesided: bool) -> Result<Vec<Fact>, InferError> {
    let dtype = operands.dtype(0);
    let Some(dims) = operands.dims(0) else { return Ok(vec![Fact::new(dtype, None)]) };
    let [batch, samples, _] = dims else {
        return InferError::because(format!("a signal of rank {}, not 3", dims.len()));
    };
    let length = match (operands.has(3), operands.has(2)) {
        (true, _) => size(operands, 3),
        (false, true) => match operands.dims(2) {
            Some([length]) => length.clone(),
            _ => Dim::Unknown,
        },
        (false, false) => samples.clone(),
    };
    let frames = match (samples.known(), length.known(), size(operands, 1)) {
        (Some(samples), Some(length), Dim::Known(step)) if step > 0 => {
            Dim::Known(samples.checked_sub(length).map_or(0, |rest| rest / step + 1))
        }
        _ => Dim::Unknown,
    };
    let bins = if onesided { halved(&length) } else { length };
    let dims = vec![batch.clone(), frames, bins, Dim::Known(2)];
    Ok(vec![Fact::new(dtype, Some(dims))])
}

fn loss(operands: &Operands<'_>, reduction: LossReduction) -> Fact {
    let dims = match reduction {
        LossReduction::None => operands.dims(1).map(<[Dim]>::to_vec),
        _ => Some(Vec::new()),
    };
    Fact::new(operands.dtype(0), dims)
}
