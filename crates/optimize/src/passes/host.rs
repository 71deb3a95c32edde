//! Nodes with constant weights that can take up a scale and a shift of their result's channels.

use landfall_graph::{Node, Op, ValueId};
use landfall_tensor::{DType, Tensor};

use crate::constants::{self, per_channel, scaled_along};
use crate::editor::Editor;

/// A node `y = W x + b` whose `W` and `b` are constants of `f32`, used by one other node.
pub(super) struct Host {
    /// Number of channels of the result.
    pub(super) channels: usize,
    /// The channel axis of the result, counted from the innermost (0 for the last axis).
    pub(super) axis_from_end: usize,
    kind: Kind,
}

enum Kind {
    /// Weights at operand 1, bias at operand 2, both along the channel axis of the weights.
    Weighted { node: Node, weight_axis: usize, groups: usize },
    /// A plain matrix product: it can take a scale, but has no place for a shift.
    Product { node: Node },
    /// A matrix product and its bias.
    Biased { product: Node, bias: Vec<f32> },
    /// An affine map per channel of its own.
    Norm { node: Node },
}

impl Host {
    /// The host that computes a value.
    pub(super) fn of(editor: &Editor<'_>, value: ValueId) -> Option<Host> {
        if !editor.used_once(value) {
            return None;
        }
        let (_, node) = editor.producer(value)?;
        match &node.op {
            Op::Conv(_) => Host::weighted(editor, node, 0, 1),
            Op::ConvTranspose(op) => {
                Host::weighted(editor, node, 1, usize::try_from(op.group).ok()?)
            }
            Op::Gemm(op) => Host::weighted(editor, node, usize::from(!op.trans_b), 1),
            Op::MatMul => {
                let channels = columns(editor, node)?;
                let kind = Kind::Product { node: node.clone() };
                Some(Host { channels, axis_from_end: 0, kind })
            }
            Op::Add => Host::biased(editor, node),
            Op::BatchNormalization(op) if !op.training_mode && node.outputs.len() == 1 => {
                let rank = editor.rank(value).filter(|&rank| rank >= 2)?;
                let channels = editor.constant(node.input(1)?)?.elements();
                let constant =
                    (1..5).all(|i| node.input(i).is_some_and(|id| editor.floats(id).is_some()));
                let kind = Kind::Norm { node: node.clone() };
                constant.then_some(Host { channels, axis_from_end: rank - 2, kind })
            }
            _ => None,
        }
    }

    fn weighted(
        editor: &Editor<'_>,
        node: &Node,
        weight_axis: usize,
        groups: usize,
    ) -> Option<Host> {
        let weight = editor.constant(node.input(1)?)?;
        let bias = node.input(2).map(|id| editor.constant(id));
        if weight.dtype() != DType::F32 || bias.is_some_and(|bias| bias.is_none()) {
            return None;
        }
        let rank = weight.shape().rank();
        let channels = weight.shape().get(weight_axis)?.checked_mul(groups)?;
        let axis_from_end = if matches!(node.op, Op::Gemm(_)) { 0 } else { rank.checked_sub(2)? };
        let kind = Kind::Weighted { node: node.clone(), weight_axis, groups };
        Some(Host { channels, axis_from_end, kind })
    }

    fn biased(editor: &Editor<'_>, add: &Node) -> Option<Host> {
        let (a, b) = (add.input(0)?, add.input(1)?);
        let (value, bias) = if editor.constant(b).is_some() { (a, b) } else { (b, a) };
        let (_, product) = editor.producer(value)?;
        if !matches!(product.op, Op::MatMul) || !editor.used_once(value) {
            return None;
        }
        let channels = columns(editor, product)?;
        let bias = editor.constant(bias)?;
        if bias.shape().rank() > editor.rank(value)? {
            return None;
        }
        let bias = per_channel(bias, channels, 0)?;
        let kind = Kind::Biased { product: product.clone(), bias };
        Some(Host { channels, axis_from_end: 0, kind })
    }

    /// A new value: this host's result times `factors` plus `shifts`, both per channel.
    pub(super) fn absorb(
        &self,
        editor: &mut Editor<'_>,
        factors: &[f32],
        shifts: &[f32],
    ) -> Option<ValueId> {
        match &self.kind {
            Kind::Weighted { node, weight_axis, groups } => {
                self.absorb_weighted(editor, node, (*weight_axis, *groups), factors, shifts)
            }
            Kind::Product { node } => {
                if shifts.iter().any(|&shift| shift != 0.0) {
                    return None;
                }
                let weight = scaled_along(editor.constant(node.input(1)?)?, 1, factors)?;
                let inputs = [node.input(0), Some(editor.add_constant(weight))];
                Some(editor.append(&node.name, Op::MatMul, inputs))
            }
            Kind::Biased { product, bias } => {
                let weight = scaled_along(editor.constant(product.input(1)?)?, 1, factors)?;
                let bias = vector(&affine(bias, factors, shifts))?;
                let inputs = [product.input(0), Some(editor.add_constant(weight))];
                let value = editor.append(&product.name, Op::MatMul, inputs);
                let bias = editor.add_constant(bias);
                Some(editor.append(&product.name, Op::Add, [Some(value), Some(bias)]))
            }
            Kind::Norm { node } => {
                let scale = editor.floats(node.input(1)?)?;
                let shift = editor.floats(node.input(2)?)?;
                let scale = vector(&affine(&scale, factors, &vec![0.0; scale.len()]))?;
                let shift = vector(&affine(&shift, factors, shifts))?;
                let mut inputs = node.inputs.clone();
                inputs[1] = Some(editor.add_constant(scale));
                inputs[2] = Some(editor.add_constant(shift));
                Some(editor.append(&node.name, node.op.clone(), inputs))
            }
        }
    }

    fn absorb_weighted(
        &self,
        editor: &mut Editor<'_>,
        node: &Node,
        (weight_axis, groups): (usize, usize),
        factors: &[f32],
        shifts: &[f32],
    ) -> Option<ValueId> {
        let weight = editor.constant(node.input(1)?)?;
        let weight = if groups == 1 {
            scaled_along(weight, weight_axis, factors)?
        } else {
            scaled_in_groups(weight, groups, factors)?
        };
        let mut op = node.op.clone();
        let mut old = match node.input(2) {
            Some(bias) => per_channel(editor.constant(bias)?, self.channels, 0)?,
            None => vec![0.0; self.channels],
        };
        if let Op::Gemm(gemm) = &mut op {
            old.iter_mut().for_each(|bias| *bias *= gemm.beta);
            gemm.beta = 1.0;
        }
        let bias = vector(&affine(&old, factors, shifts))?;
        let weight = editor.add_constant(weight);
        let bias = editor.add_constant(bias);
        Some(editor.append(&node.name, op, [node.input(0), Some(weight), Some(bias)]))
    }
}

/// Columns of a constant matrix of `f32` at operand 1.
fn columns(editor: &Editor<'_>, node: &Node) -> Option<usize> {
    let weight = editor.constant(node.input(1)?)?;
    match weight.shape()[..] {
        [_, columns] if weight.dtype() == DType::F32 => Some(columns),
        _ => None,
    }
}

fn affine(values: &[f32], factors: &[f32], shifts: &[f32]) -> Vec<f32> {
    let all = values.iter().zip(factors).zip(shifts);
    all.map(|((value, factor), shift)| value * factor + shift).collect()
}

fn vector(elements: &[f32]) -> Option<Tensor> {
    constants::tensor(&[elements.len()], elements)
}

/// Weights `[C, M / groups, kernel...]` of a transposed convolution with every output channel
/// multiplied by its factor; output channels of group `g` start at `g M / groups`.
fn scaled_in_groups(weight: &Tensor, groups: usize, factors: &[f32]) -> Option<Tensor> {
    let mut elements = constants::floats(weight)?;
    let dims = weight.shape();
    let (inputs, per_group) = (*dims.first()?, *dims.get(1)?);
    let kernel: usize = dims[2..].iter().product();
    let inputs_per_group = inputs.checked_div(groups)?.max(1);
    for (i, element) in elements.iter_mut().enumerate() {
        let (row, rest) = (i / (per_group * kernel), i / kernel % per_group);
        *element *= factors.get(row / inputs_per_group * per_group + rest)?;
    }
    constants::tensor(dims, &elements)
}
