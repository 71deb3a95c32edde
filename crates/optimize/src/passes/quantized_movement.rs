//! `DequantizeLinear` moves down through operators that only move elements, towards the integer
//! operator or the `QuantizeLinear` that can take it up.
//!
//! Max pooling counts as moving: dequantising is monotonic.

use landfall_graph::{Node, Op, ValueId, ops};

use super::transpose::permutation;
use crate::Effect;
use crate::editor::Editor;
use crate::pipeline::Pass;

pub(crate) const PASS: Pass =
    Pass { name: "quantization-movement", effect: Effect::Exact, run: |e| cancel(e) + sink(e) };

/// `QuantizeLinear(DequantizeLinear(x, s, z), s, z)` is `x`.
fn cancel(editor: &mut Editor<'_>) -> usize {
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id) else { continue };
        let Op::QuantizeLinear(op) = &node.op else { continue };
        let (output, operand) = (node.outputs[0], node.input(0));
        let Some((_, before)) = operand.and_then(|operand| editor.producer(operand)) else {
            continue;
        };
        let Op::DequantizeLinear(back) = &before.op else { continue };
        let Some(x) = before.input(0) else { continue };
        let same = |index: usize| match (node.input(index), before.input(index)) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                a == b || editor.constant(a).is_some() && editor.constant(a) == editor.constant(b)
            }
            _ => false,
        };
        let per_tensor = editor.rank(node.input(1).unwrap_or(x)) == Some(0);
        let one_axis = per_tensor || op.axis == back.axis && op.block_size == back.block_size;
        let typed = editor.dtype(x).is_some() && editor.dtype(x) == editor.dtype(output);
        if same(1) && same(2) && one_axis && typed {
            editor.replace(output, x);
            changes += 1;
        }
    }
    changes
}

fn sink(editor: &mut Editor<'_>) -> usize {
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id).cloned() else { continue };
        let &[output] = node.outputs.as_slice() else { continue };
        let Some((inputs, parameters, op)) = lifted(editor, &node) else { continue };
        let dtype = inputs.first().copied().flatten().and_then(|x| editor.dtype(x));
        let moved = editor.append(&node.name, node.op.clone(), inputs);
        let dims = editor.dims(output).map(<[_]>::to_vec);
        editor.declare(moved, dtype, dims);
        let inputs = [Some(moved), Some(parameters.0), parameters.1];
        let new = editor.append("", Op::DequantizeLinear(op), inputs);
        editor.replace(output, new);
        changes += 1;
    }
    changes
}

type Lifted = (Vec<Option<ValueId>>, (ValueId, Option<ValueId>), ops::DequantizeLinear);

/// The operands without their dequantisation, its scale and zero point, and the operator that
/// dequantises the result.
fn lifted(editor: &Editor<'_>, node: &Node) -> Option<Lifted> {
    let moving = match &node.op {
        Op::Concat(_) => node.inputs.len(),
        Op::MaxPool(_)
        | Op::Reshape(_)
        | Op::Flatten(_)
        | Op::Squeeze
        | Op::Unsqueeze
        | Op::Slice
        | Op::Transpose(_)
        | Op::Gather(_)
        | Op::Expand => 1,
        _ => return None,
    };
    let mut inputs = node.inputs.clone();
    let mut common: Option<(ValueId, Option<ValueId>, ops::DequantizeLinear)> = None;
    for input in inputs.iter_mut().take(moving) {
        let (_, before) = editor.producer((*input)?)?;
        let Op::DequantizeLinear(op) = &before.op else { return None };
        let found = (before.input(1)?, before.input(2), op.clone());
        match &common {
            None => common = Some(found),
            Some(known) if (known.0, known.1) == (found.0, found.1) && known.2 == found.2 => (),
            Some(_) => return None,
        }
        *input = before.input(0);
    }
    let (scale, zero, mut op) = common?;
    if op.block_size != 0 {
        return None;
    }
    if editor.constant(scale)?.elements() != 1 {
        let perm = permutation(editor, node)?;
        let axis = landfall_graph::infer::resolve_axis(op.axis, perm.len()).ok()?;
        op.axis = i64::try_from(perm.iter().position(|&from| from == axis)?).ok()?;
    }
    Some((inputs, (scale, zero), op))
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check;

    #[test]
    fn integers_flow_through_movement() {
        check(
            &[PASS, PASS],
            r#"graph "g" {
              input %x: u8[N,4]
              const %s: f32[] = [0.5]
              const %z: u8[] = [3]
              const %t: i64[3] = [0, 2, 2]
              %a = DequantizeLinear(%x, %s, %z)
              %b = Reshape(%a, %t)
              %c = Concat(%b, %b) {axis=1}
              %y = QuantizeLinear(%c, %s, %z)
              output %y
            }"#,
            r#"graph "g" {
              input %x: u8[N,4]
              const %t: i64[3] = [0, 2, 2]
              %b = Reshape(%x, %t)
              %y = Concat(%b, %b) {axis=1}
              output %y
            }"#,
        );
    }

    #[test]
    fn a_channel_axis_moves_with_its_transpose() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: i8[2,3]
              const %s: f32[2] = [0.5, 1.0]
              %a = DequantizeLinear(%x, %s) {axis=0}
              %y = Transpose(%a)
              output %y
            }"#,
            r#"graph "g" {
              input %x: i8[2,3]
              const %s: f32[2] = [0.5, 1.0]
              %a = Transpose(%x)
              %y = DequantizeLinear(%a, %s) {axis=1}
              output %y
            }"#,
        );
    }
}
