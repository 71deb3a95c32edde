//! Transposes move down through elementwise operators, towards another that cancels them.

use landfall_graph::{Node, Op, ValueId};

use super::transpose::{inverse, permutation, transpose};
use crate::Effect;
use crate::constants;
use crate::editor::Editor;
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass { name: "transpose-sinking", effect: Effect::Exact, run };

fn run(editor: &mut Editor<'_>) -> usize {
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id) else { continue };
        let (&[output], true) = (node.outputs.as_slice(), elementwise(&node.op)) else { continue };
        let (op, name) = (node.op.clone(), node.name.clone());
        let Some((perm, operands)) = lifted(editor, node, output) else { continue };
        let inputs: Vec<Option<ValueId>> =
            operands.into_iter().map(|operand| operand.place(editor)).collect();
        let inner = editor.append(&name, op, inputs);
        let dims = editor
            .dims(output)
            .map(<[_]>::to_vec)
            .map(|dims| inverse(&perm).iter().map(|&axis| dims[axis].clone()).collect());
        editor.declare(inner, editor.dtype(output), dims);
        let outer = editor.append("", transpose(&perm), [Some(inner)]);
        editor.replace(output, outer);
        changes += 1;
    }
    changes
}

/// Whether the operator works on every element alone.
pub(super) fn elementwise(op: &Op) -> bool {
    unary(op) || binary(op)
}

/// Elementwise, with one tensor operand; any further operands are scalars.
pub(super) fn unary(op: &Op) -> bool {
    matches!(
        op,
        Op::Abs
            | Op::Cast(_)
            | Op::Ceil
            | Op::Clip
            | Op::Cos
            | Op::Elu(_)
            | Op::Erf
            | Op::Exp
            | Op::Floor
            | Op::Gelu(_)
            | Op::HardSigmoid(_)
            | Op::HardSwish
            | Op::LeakyRelu(_)
            | Op::Log
            | Op::Mish
            | Op::Neg
            | Op::Not
            | Op::Reciprocal
            | Op::Relu
            | Op::Round
            | Op::Selu(_)
            | Op::Sigmoid
            | Op::Sign
            | Op::Sin
            | Op::Softplus
            | Op::Softsign
            | Op::Sqrt
            | Op::Swish(_)
            | Op::Tanh
            | Op::ThresholdedRelu(_)
    )
}

/// Elementwise over operands that broadcast to each other.
pub(super) fn binary(op: &Op) -> bool {
    matches!(
        op,
        Op::Add
            | Op::Sub
            | Op::Mul
            | Op::Div
            | Op::Max
            | Op::Min
            | Op::Pow
            | Op::PRelu
            | Op::Sum
            | Op::Mean
            | Op::Equal
            | Op::Greater
            | Op::GreaterOrEqual
            | Op::Less
            | Op::LessOrEqual
            | Op::And
            | Op::Or
            | Op::Where
    )
}

enum Operand {
    /// This value, with the transpose before it taken off.
    Bare(Option<ValueId>),
    /// A constant to be permuted.
    Constant(landfall_tensor::Tensor),
}

impl Operand {
    fn place(self, editor: &mut Editor<'_>) -> Option<ValueId> {
        match self {
            Operand::Bare(value) => value,
            Operand::Constant(tensor) => Some(editor.add_constant(tensor)),
        }
    }
}

/// The common permutation of the operands, and the operands without it.
fn lifted(editor: &Editor<'_>, node: &Node, output: ValueId) -> Option<(Vec<usize>, Vec<Operand>)> {
    let perm = node.operands().find_map(|operand| {
        let (_, producer) = editor.producer(operand)?;
        permutation(editor, producer)
    })?;
    if editor.rank(output)? != perm.len() {
        return None;
    }
    let back = inverse(&perm);
    let single = unary(&node.op);
    let mut operands = Vec::with_capacity(node.inputs.len());
    for (index, &input) in node.inputs.iter().enumerate() {
        let Some(value) = input else {
            operands.push(Operand::Bare(None));
            continue;
        };
        if let Some(tensor) = editor.constant(value) {
            operands.push(if single && index > 0 || tensor.shape().rank() == 0 {
                Operand::Bare(input)
            } else {
                let full = constants::with_rank(tensor, perm.len())?;
                Operand::Constant(constants::permuted(&full, &back)?)
            });
            continue;
        }
        let (_, producer) = editor.producer(value)?;
        let twice = node.operands().filter(|&other| other == value).count();
        let alone = editor.uses(value).len() == twice && !editor.is_output(value);
        if !alone || permutation(editor, producer)? != perm {
            return None;
        }
        operands.push(Operand::Bare(producer.input(0)));
    }
    Some((perm, operands))
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::passes::transpose;
    use crate::testing::check;

    #[test]
    fn transposes_meet_below_elementwise_operators() {
        check(
            &[PASS, PASS, transpose::PASS],
            r#"graph "g" {
              input %x: f32[2,3]
              input %z: f32[2,3]
              const %b: f32[2] = [1.0, 2.0]
              %a: f32[3,2] = Transpose(%x)
              %c: f32[3,2] = Transpose(%z)
              %d: f32[3,2] = Add(%a, %b)
              %e: f32[3,2] = Mul(%c, %d)
              %y: f32[2,3] = Transpose(%e)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[2,3]
              input %z: f32[2,3]
              const %b: f32[2,1] = [1.0, 2.0]
              %d: f32[2,3] = Add(%x, %b)
              %y: f32[2,3] = Mul(%z, %d)
              output %y
            }"#,
        );
    }
}
