//! Operators that work in either layout, and how each is said channels last.

use landfall_graph::infer::Window;
use landfall_graph::{AutoPad, Node, Op, PoolKind, ValueId, ops};

use super::{Converted, Layout, TO_LAST, moved_axis};
use crate::constants;
use crate::passes::sink::{binary, unary};
use crate::passes::transpose::permutation;

/// The node for channels-last operands, or `None` if it must stay as it is.
pub(super) fn convert(layout: &mut Layout<'_, '_>, node: &Node) -> Option<Converted> {
    let x = node.input(0)?;
    match &node.op {
        op if unary(op) => first(layout, node, op.clone()),
        op if binary(op) => broadcast(layout, node),
        Op::GlobalAveragePool => {
            let op = ops::ReduceMean { keepdims: true, noop_with_empty_axes: false };
            global(layout, x, Op::ReduceMean(op))
        }
        Op::GlobalMaxPool => {
            let op = ops::ReduceMax { keepdims: true, noop_with_empty_axes: false };
            global(layout, x, Op::ReduceMax(op))
        }
        Op::ReduceMean(op) => reduce(layout, node, op.keepdims),
        Op::ReduceSum(op) => reduce(layout, node, op.keepdims),
        Op::ReduceMax(op) => reduce(layout, node, op.keepdims),
        Op::ReduceMin(op) => reduce(layout, node, op.keepdims),
        Op::ReduceL2(op) => reduce(layout, node, op.keepdims),
        Op::QuantizedAdd(op) => {
            let mut inputs = node.inputs.clone();
            for index in [0, 3] {
                inputs[index] = Some(layout.twin(node.input(index)?)?);
            }
            Some(Converted { op: Op::QuantizedAdd(op.clone()), inputs, twins: true })
        }
        Op::Pad(_) => pad(layout, node),
        Op::Slice => slice(layout, node),
        Op::Resize(op) => resize(layout, node, op),
        _ => along_axis(layout, node).or_else(|| pool(layout, node)),
    }
}

/// Operators along one axis.
fn along_axis(layout: &mut Layout<'_, '_>, node: &Node) -> Option<Converted> {
    match &node.op {
        Op::Softmax(op) => {
            axis_of(layout, node, op.axis, |axis| Op::Softmax(ops::Softmax { axis }))
        }
        Op::LogSoftmax(op) => {
            axis_of(layout, node, op.axis, |axis| Op::LogSoftmax(ops::LogSoftmax { axis }))
        }
        Op::Concat(op) => {
            let axis = moved_axis(op.axis)?;
            let inputs = all(layout, node)?;
            Some(Converted { op: Op::Concat(ops::Concat { axis }), inputs, twins: true })
        }
        Op::Split(op) => {
            let (axis, num_outputs) = (op.axis, op.num_outputs);
            axis_of(layout, node, axis, |axis| Op::Split(ops::Split { axis, num_outputs }))
        }
        Op::QuantizeLinear(op) => {
            let op = ops::QuantizeLinear { axis: moved_axis(op.axis)?, ..op.clone() };
            (op.block_size == 0).then_some(())?;
            first(layout, node, Op::QuantizeLinear(op))
        }
        Op::DequantizeLinear(op) => {
            let op = ops::DequantizeLinear { axis: moved_axis(op.axis)?, ..op.clone() };
            (op.block_size == 0).then_some(())?;
            first(layout, node, Op::DequantizeLinear(op))
        }
        _ => None,
    }
}

fn pool(layout: &mut Layout<'_, '_>, node: &Node) -> Option<Converted> {
    match &node.op {
        Op::MaxPool(op) if node.outputs.len() == 1 && !op.storage_order => {
            let pool = Pool {
                kind: PoolKind::Max,
                auto_pad: op.auto_pad,
                kernel: &op.kernel_shape,
                strides: &op.strides,
                dilations: &op.dilations,
                pads: &op.pads,
                ceil_mode: op.ceil_mode,
                count_include_pad: false,
            };
            pool.convert(layout, node)
        }
        Op::AveragePool(op) => {
            let pool = Pool {
                kind: PoolKind::Average,
                auto_pad: op.auto_pad,
                kernel: &op.kernel_shape,
                strides: &op.strides,
                dilations: &op.dilations,
                pads: &op.pads,
                ceil_mode: op.ceil_mode,
                count_include_pad: op.count_include_pad,
            };
            pool.convert(layout, node)
        }
        _ => None,
    }
}

/// The first operand moves; the others are scalars or vectors that have no layout.
fn first(layout: &mut Layout<'_, '_>, node: &Node, op: Op) -> Option<Converted> {
    let mut inputs = node.inputs.clone();
    inputs[0] = Some(layout.twin(node.input(0)?)?);
    Some(Converted { op, inputs, twins: true })
}

fn axis_of(
    layout: &mut Layout<'_, '_>,
    node: &Node,
    axis: i64,
    op: impl FnOnce(i64) -> Op,
) -> Option<Converted> {
    first(layout, node, op(moved_axis(axis)?))
}

/// Every operand, which all have rank 4.
fn all(layout: &mut Layout<'_, '_>, node: &Node) -> Option<Vec<Option<ValueId>>> {
    let four = node.operands().all(|operand| layout.editor.rank(operand) == Some(4));
    four.then_some(())?;
    node.inputs.iter().map(|input| layout.twin((*input)?).map(Some)).collect()
}

/// Elementwise over operands of rank 4, scalars, and constants that get leading axes.
fn broadcast(layout: &mut Layout<'_, '_>, node: &Node) -> Option<Converted> {
    if layout.editor.rank(node.outputs[0])? != 4 {
        return None;
    }
    let possible = node.operands().all(|operand| {
        matches!(layout.editor.rank(operand), Some(0 | 4))
            || layout.editor.constant(operand).is_some_and(|tensor| tensor.bytes().is_some())
    });
    possible.then_some(())?;
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for &input in &node.inputs {
        let operand = input?;
        let moved = match (layout.editor.rank(operand), layout.editor.constant(operand)) {
            (Some(0), _) => operand,
            (Some(rank), Some(tensor)) if rank < 4 => {
                let full = constants::with_rank(tensor, 4)?;
                let permuted = constants::permuted(&full, &TO_LAST)?;
                layout.editor.add_constant(permuted)
            }
            _ => layout.twin(operand)?,
        };
        inputs.push(Some(moved));
    }
    Some(Converted { op: node.op.clone(), inputs, twins: true })
}

struct Pool<'n> {
    kind: PoolKind,
    auto_pad: AutoPad,
    kernel: &'n [i64],
    strides: &'n [i64],
    dilations: &'n [i64],
    pads: &'n [i64],
    ceil_mode: bool,
    count_include_pad: bool,
}

impl Pool<'_> {
    fn convert(&self, layout: &mut Layout<'_, '_>, node: &Node) -> Option<Converted> {
        let x = node.input(0)?;
        if self.kernel.len() != 2 || layout.editor.rank(x)? != 4 {
            return None;
        }
        let ones = |list: &[i64]| if list.is_empty() { vec![1; 2] } else { list.to_vec() };
        let (strides, dilations) = (ones(self.strides), ones(self.dilations));
        let pads = match self.auto_pad {
            AutoPad::NotSet if !self.pads.is_empty() => self.pads.to_vec(),
            AutoPad::NotSet | AutoPad::Valid => vec![0; 4],
            AutoPad::SameUpper | AutoPad::SameLower => {
                let kernel: Option<Vec<usize>> =
                    self.kernel.iter().map(|&n| usize::try_from(n).ok()).collect();
                let window = Window {
                    auto_pad: self.auto_pad,
                    kernel: &kernel?,
                    strides: &strides,
                    dilations: &dilations,
                    pads: &[],
                    ceil_mode: false,
                };
                crate::passes::conv::same(layout.editor, x, &window)?
            }
        };
        let op = ops::ChannelsLastPool {
            // Rounding up applies to explicit padding only.
            ceil_mode: self.ceil_mode && self.auto_pad == AutoPad::NotSet,
            count_include_pad: self.count_include_pad,
            dilations,
            kernel_shape: self.kernel.to_vec(),
            kind: self.kind,
            pads,
            strides,
        };
        let inputs = vec![Some(layout.twin(x)?)];
        Some(Converted { op: Op::ChannelsLastPool(op), inputs, twins: true })
    }
}

fn global(layout: &mut Layout<'_, '_>, x: ValueId, op: Op) -> Option<Converted> {
    let x = layout.twin(x)?;
    let axes = layout.editor.add_ints(&[1, 2])?;
    Some(Converted { op, inputs: vec![Some(x), Some(axes)], twins: true })
}

/// A reduction over constant axes; if they are dropped, what is left must keep its order.
fn reduce(layout: &mut Layout<'_, '_>, node: &Node, keep: bool) -> Option<Converted> {
    let x = node.input(0)?;
    layout.editor.rank(x).filter(|&rank| rank == 4)?;
    let axes = layout.editor.ints(node.input(1)?)?;
    let axes: Vec<i64> = axes.into_iter().map(moved_axis).collect::<Option<_>>()?;
    let kept = TO_LAST.iter().enumerate().filter(|(i, _)| !axes.contains(&(*i as i64)));
    let in_order = kept.map(|(_, &axis)| axis).is_sorted();
    if axes.is_empty() || !(keep || in_order) {
        return None;
    }
    let x = layout.twin(x)?;
    let axes = layout.editor.add_ints(&axes)?;
    let inputs = vec![Some(x), Some(axes)];
    Some(Converted { op: node.op.clone(), inputs, twins: keep })
}

fn pad(layout: &mut Layout<'_, '_>, node: &Node) -> Option<Converted> {
    let pads = layout.editor.ints(node.input(1)?)?;
    let axes = match node.input(3) {
        Some(axes) => layout.editor.ints(axes)?,
        None => (0..4).collect(),
    };
    let axes: Vec<i64> = axes.into_iter().map(moved_axis).collect::<Option<_>>()?;
    if pads.len() != 2 * axes.len() {
        return None;
    }
    let x = layout.twin(node.input(0)?)?;
    let axes = layout.editor.add_ints(&axes)?;
    let inputs = vec![Some(x), node.input(1), node.input(2), Some(axes)];
    Some(Converted { op: node.op.clone(), inputs, twins: true })
}

fn slice(layout: &mut Layout<'_, '_>, node: &Node) -> Option<Converted> {
    let axes = match node.input(3) {
        Some(axes) => layout.editor.ints(axes)?,
        None => {
            let count = layout.editor.extents(node.input(1)?)?;
            (0..i64::try_from(*count.first()?).ok()?).collect()
        }
    };
    let axes: Vec<i64> = axes.into_iter().map(moved_axis).collect::<Option<_>>()?;
    let x = layout.twin(node.input(0)?)?;
    let like = node.input(1).and_then(|id| layout.editor.dtype(id));
    let axes = if like == Some(landfall_tensor::DType::I32) {
        let axes: Vec<i32> = axes.iter().map(|&axis| axis as i32).collect();
        let tensor = landfall_tensor::Tensor::from_slice([axes.len()].into(), &axes).ok()?;
        layout.editor.add_constant(tensor)
    } else {
        layout.editor.add_ints(&axes)?
    };
    let inputs = vec![Some(x), node.input(1), node.input(2), Some(axes), node.input(4)];
    Some(Converted { op: Op::Slice, inputs, twins: true })
}

/// A resize by constant scales or to constant sizes, without a region of interest.
fn resize(layout: &mut Layout<'_, '_>, node: &Node, op: &ops::Resize) -> Option<Converted> {
    let empty =
        |id: ValueId| layout.editor.constant(id).is_some_and(|tensor| tensor.elements() == 0);
    if node.input(1).is_some_and(|roi| !empty(roi))
        || op.coordinate_transformation_mode == landfall_graph::CoordinateTransform::TfCropAndResize
    {
        return None;
    }
    let mut op = op.clone();
    let mut inputs = vec![None, None, node.input(2), node.input(3)];
    if op.axes.is_empty() {
        for input in inputs[2..].iter_mut() {
            let Some(id) = *input else { continue };
            let tensor = layout.editor.constant(id)?;
            if tensor.elements() == 0 {
                continue;
            }
            let permuted = gathered(tensor)?;
            *input = Some(layout.editor.add_constant(permuted));
        }
    } else {
        op.axes = op.axes.iter().map(|&axis| moved_axis(axis)).collect::<Option<_>>()?;
    }
    inputs[0] = Some(layout.twin(node.input(0)?)?);
    Some(Converted { op: Op::Resize(op), inputs, twins: true })
}

/// A vector of one element per axis, in channels-last order.
fn gathered(tensor: &landfall_tensor::Tensor) -> Option<landfall_tensor::Tensor> {
    let bytes = tensor.bytes()?;
    let size = tensor.dtype().size();
    if bytes.len() != 4 * size {
        return None;
    }
    let out: Vec<u8> =
        TO_LAST.iter().flat_map(|&axis| bytes[axis * size..][..size].iter().copied()).collect();
    landfall_tensor::Tensor::from_bytes(tensor.dtype(), [4].into(), &out).ok()
}

/// The shuffle of channels between groups, `Reshape [N, g, C/g, H, W] → Transpose → Reshape`, said
/// channels last. Returns the new value.
pub(super) fn shuffled(layout: &mut Layout<'_, '_>, node: &Node) -> Option<ValueId> {
    let Op::Reshape(_) = &node.op else { return None };
    let editor = &layout.editor;
    let (_, swap) = editor.producer(node.input(0)?)?;
    let (_, split) = editor.producer(swap.input(0)?)?;
    let (Op::Reshape(_), Op::Transpose(_)) = (&split.op, &swap.op) else { return None };
    let (x, grouped) = (split.input(0)?, split.outputs[0]);
    let twin = *layout.twins.get(&x)?;
    let [batch, channels, height, width] = editor.dims(x)? else { return None };
    let [b, groups, per_group, h, w] = editor.dims(grouped)? else { return None };
    let holds = permutation(editor, swap)? == [0, 2, 1, 3, 4]
        && editor.same_shape(x, node.outputs[0])
        && (b.same(batch) || batch.known().is_none() && b.known().is_none())
        && h.same(height)
        && w.same(width)
        && groups.known()? * per_group.known()? == channels.known()?;
    holds.then_some(())?;
    let int = |n: &landfall_graph::Dim| i64::try_from(n.known()?).ok();
    let (g, k, c) = (int(groups)?, int(per_group)?, int(channels)?);
    let target = layout.editor.add_ints(&[0, 0, 0, g, k])?;
    let back = layout.editor.add_ints(&[0, 0, 0, c])?;
    let op = Op::Reshape(ops::Reshape { allowzero: false });
    let split = layout.editor.append("", op.clone(), [Some(twin), Some(target)]);
    let swap = crate::passes::transpose::transpose(&[0, 1, 2, 4, 3]);
    let swapped = layout.editor.append(&node.name, swap, [Some(split)]);
    Some(layout.editor.append("", op, [Some(swapped), Some(back)]))
}
