//! The integer operators of ONNX become those that carry a layout and a clamp, so that everything
//! after treats models of either quantised format alike.

use landfall_graph::infer::Window;
use landfall_graph::{AutoPad, Node, Op, ops};

use crate::Effect;
use crate::editor::Editor;
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass { name: "quantized-operators", effect: Effect::Exact, run };

fn run(editor: &mut Editor<'_>) -> usize {
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id).cloned() else { continue };
        let Some(op) = replacement(editor, &node) else { continue };
        let new = editor.append(&node.name, op, node.inputs.clone());
        editor.replace(node.outputs[0], new);
        changes += 1;
    }
    changes
}

fn replacement(editor: &Editor<'_>, node: &Node) -> Option<Op> {
    // Scales and zero points of the left operand and the result must be scalars.
    let scalar = |index: usize| {
        let tensor = editor.constant(node.input(index)?)?;
        (tensor.elements() == 1).then_some(())
    };
    let weight = match &node.op {
        Op::QLinearConv(_) | Op::QLinearMatMul => editor.constant(node.input(3)?)?,
        _ => return None,
    };
    [1, 2, 6, 7].into_iter().try_for_each(scalar)?;
    [4, 5].into_iter().try_for_each(|index| editor.constant(node.input(index)?).map(|_| ()))?;
    let Op::QLinearConv(op) = &node.op else {
        let plain = weight.shape().rank() == 2 && editor.rank(node.input(0)?)? >= 2;
        let op = ops::QuantizedMatMul { high: None, low: None };
        return plain.then_some(Op::QuantizedMatMul(op));
    };
    let kernel = weight.shape().get(2..)?.to_vec();
    let spatial = kernel.len();
    let ones = |list: &[i64]| if list.is_empty() { vec![1; spatial] } else { list.to_vec() };
    let (strides, dilations) = (ones(&op.strides), ones(&op.dilations));
    let pads = match op.auto_pad {
        AutoPad::NotSet if !op.pads.is_empty() => op.pads.clone(),
        AutoPad::NotSet | AutoPad::Valid => vec![0; 2 * spatial],
        AutoPad::SameUpper | AutoPad::SameLower => {
            let window = Window {
                auto_pad: op.auto_pad,
                kernel: &kernel,
                strides: &strides,
                dilations: &dilations,
                pads: &[],
                ceil_mode: false,
            };
            super::conv::same(editor, node.input(0)?, &window)?
        }
    };
    Some(Op::QuantizedConv(ops::QuantizedConv {
        channels_last: false,
        dilations,
        group: op.group,
        high: None,
        low: None,
        pads,
        strides,
    }))
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check;

    #[test]
    fn a_convolution_and_a_product() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: u8[N,1,2,2]
              input %a: u8[N,2]
              const %s: f32[] = [0.5]
              const %z: u8[] = [3]
              const %w: i8[2,1,1,1] = [1, -2]
              const %m: i8[2,1] = [1, -2]
              const %ws: f32[2] = [0.25, 0.5]
              const %wz: i8[2] = [0, 0]
              const %mz: i8[] = [0]
              %y = QLinearConv(%x, %s, %z, %w, %ws, %wz, %s, %z) {strides=[2,2]}
              %p = QLinearMatMul(%a, %s, %z, %m, %s, %mz, %s, %z)
              output %y
              output %p
            }"#,
            r#"graph "g" {
              input %x: u8[N,1,2,2]
              input %a: u8[N,2]
              const %s: f32[] = [0.5]
              const %z: u8[] = [3]
              const %w: i8[2,1,1,1] = [1, -2]
              const %m: i8[2,1] = [1, -2]
              const %ws: f32[2] = [0.25, 0.5]
              const %wz: i8[2] = [0, 0]
              const %mz: i8[] = [0]
              %y = landfall.QuantizedConv(%x, %s, %z, %w, %ws, %wz, %s, %z)
                {pads=[0,0,0,0], strides=[2,2], dilations=[1,1]}
              %p = landfall.QuantizedMatMul(%a, %s, %z, %m, %s, %mz, %s, %z)
              output %y
              output %p
            }"#,
        );
    }
}
