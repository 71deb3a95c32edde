//! Losses over classes.

use landfall_graph::{LossReduction, Op};
use landfall_kernels::loss::{Classes, log_softmax, losses};
use landfall_tensor::{DType, TensorView};

use super::reals::{read_reals, write_reals};
use super::types::float_type;
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::NegativeLogLikelihoodLoss(op) => lower_loss(site, op.reduction, op.ignore_index, false),
        Op::SoftmaxCrossEntropyLoss(op) => lower_loss(site, op.reduction, op.ignore_index, true),
        _ => return None,
    })
}

struct Loss {
    shape: Classes,
    reduction: LossReduction,
    ignored: Option<i64>,
    /// Scores become the logarithms of their softmax first.
    softmax: bool,
}

fn lower_loss(
    site: &Site<'_>,
    reduction: LossReduction,
    ignored: Option<i64>,
    softmax: bool,
) -> Result<Lowered, KernelError> {
    let (scores, labels) = (site.shape(0)?, site.shape(1)?);
    let fits = scores.rank() >= 2
        && labels.rank() + 1 == scores.rank()
        && labels[0] == scores[0]
        && labels[1..] == scores[2..];
    if !fits {
        return KernelError::invalid(format!("scores {scores} and labels {labels} do not fit"));
    }
    let shape =
        Classes { batch: scores[0], classes: scores[1], positions: scores[2..].iter().product() };
    if site.has(2) && *site.shape(2)? != [shape.classes] {
        let weights = site.shape(2)?;
        return KernelError::invalid(format!("weights {weights} for {} classes", shape.classes));
    }
    Ok(Lowered::Kernel(Box::new(Loss { shape, reduction, ignored, softmax })))
}

fn read_labels(view: TensorView<'_>) -> Result<Vec<i64>, KernelError> {
    match view.dtype() {
        DType::I64 => Ok(view.as_slice::<i64>()?.to_vec()),
        DType::I32 => Ok(view.as_slice::<i32>()?.iter().map(|&x| x.into()).collect()),
        other => KernelError::unsupported(format!("labels of datatype {other}")),
    }
}

impl Kernel for Loss {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let scores = io.input(0)?;
        let logs = if self.softmax {
            let mut logs = vec![0.0; scores.elements()];
            float_type!(scores.dtype(), T => {
                log_softmax(&self.shape, scores.as_slice::<T>()?, &mut logs);
            });
            logs
        } else {
            read_reals(scores)?
        };
        let labels = read_labels(io.input(1)?)?;
        let weights = io.optional(2).map(read_reals).transpose()?;
        let each: Option<Vec<[f64; 2]>> =
            losses(&self.shape, &logs, &labels, weights.as_deref(), self.ignored).collect();
        let Some(each) = each else {
            let classes = self.shape.classes;
            return KernelError::invalid(format!("a label is not one of {classes} classes"));
        };
        let sum: f64 = each.iter().map(|[loss, _]| loss).sum();
        let weight: f64 = each.iter().map(|[_, weight]| weight).sum();
        let out = &mut io.outputs[0];
        match self.reduction {
            LossReduction::None => write_reals(each.iter().map(|[loss, _]| *loss), out)?,
            LossReduction::Sum => write_reals(std::iter::once(sum), out)?,
            LossReduction::Mean => write_reals(std::iter::once(sum / weight), out)?,
        }
        match io.outputs.get_mut(1) {
            Some(out) => write_reals(logs.into_iter(), out),
            None => Ok(()),
        }
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("loss", "f64")
    }
}
