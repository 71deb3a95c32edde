//! Sums of two dequantised tensors that are quantised again, such as residuals, stay integers.
//!
//! Both terms have the shape of the sum and one scale each; an activation between the sum and its
//! quantisation becomes the clamp.

use landfall_graph::{Node, Op, ValueId, ops};
use landfall_tensor::{SumScales, Tensor};

use super::quantized::{Ending, Quantized};
use crate::Effect;
use crate::editor::Editor;
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass { name: "integer-sums", effect: Effect::Reassociating, run };

fn run(editor: &mut Editor<'_>) -> usize {
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id).cloned() else { continue };
        if let Some((replaced, new)) = lowered(editor, &node) {
            editor.replace(replaced, new);
            changes += 1;
        }
    }
    changes
}

/// The value that the whole pattern computes, and the integer operator's result.
fn lowered(editor: &mut Editor<'_>, node: &Node) -> Option<(ValueId, ValueId)> {
    let Op::Add = node.op else { return None };
    let terms = [node.input(0)?, node.input(1)?];
    let shapes = terms.map(|term| editor.dims(term).map(<[_]>::to_vec));
    (shapes[0].is_some() && shapes[0] == shapes[1]).then_some(())?;
    let [a, b] = [Quantized::of(editor, terms[0])?, Quantized::of(editor, terms[1])?];
    let ([a_scale], [b_scale]) = (a.scale.as_slice(), b.scale.as_slice()) else { return None };
    let ending = Ending::of(editor, node.outputs[0]);
    let output = ending.output.as_ref()?;
    let ratio = |scale: &f32| f64::from(*scale) / f64::from(output.scale);
    SumScales::new([ratio(a_scale), ratio(b_scale)])?;
    let (y_scale, y_zero) = (Tensor::scalar(output.scale), output.zero.clone());
    let (a_scale, a_zero) = a.parameters(editor)?;
    let (b_scale, b_zero) = b.parameters(editor)?;
    let (y_scale, y_zero) = (editor.add_constant(y_scale), editor.add_constant(y_zero));
    let inputs = [a.value, a_scale, a_zero, b.value, b_scale, b_zero, y_scale, y_zero].map(Some);
    let op = Op::QuantizedAdd(ops::QuantizedAdd { high: ending.high, low: ending.low });
    Some((ending.value, editor.append(&node.name, op, inputs.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::{check, check_unchanged};

    #[test]
    fn a_residual_and_its_activation_stay_integers() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: u8[N,2]
              input %y: i8[N,2]
              const %xs: f32[] = [0.5]
              const %xz: u8[] = [3]
              const %ys: f32[] = [0.25]
              const %rs: f32[] = [1.0]
              const %rz: u8[] = [10]
              %xf = DequantizeLinear(%x, %xs, %xz)
              %yf = DequantizeLinear(%y, %ys)
              %s = Add(%xf, %yf)
              %a = Relu(%s)
              %r = QuantizeLinear(%a, %rs, %rz)
              output %r
            }"#,
            r#"graph "g" {
              input %x: u8[N,2]
              input %y: i8[N,2]
              const %xs: f32[] = [0.5]
              const %xz: u8[] = [3]
              const %ys: f32[] = [0.25]
              const %yz: i8[] = [0]
              const %rs: f32[] = [1.0]
              const %rz: u8[] = [10]
              %r = landfall.QuantizedAdd(%x, %xs, %xz, %y, %ys, %yz, %rs, %rz) {low=10}
              output %r
            }"#,
        );
    }

    #[test]
    fn a_sum_that_broadcasts_or_stays_real_is_left() {
        check_unchanged(
            &[PASS],
            r#"graph "g" {
              input %x: u8[N,2]
              input %y: u8[2]
              const %s: f32[] = [0.5]
              %xf = DequantizeLinear(%x, %s)
              %yf = DequantizeLinear(%y, %s)
              %a = Add(%xf, %yf)
              %r = QuantizeLinear(%a, %s)
              %b = Add(%xf, %xf)
              output %r
              output %b
            }"#,
        );
    }
}
