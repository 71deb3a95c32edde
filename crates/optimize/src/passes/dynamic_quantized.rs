//! Products whose left operand is quantised while running become `DynamicQuantMatMul`.

use landfall_graph::{Activation, Op, ValueId, ops};
use landfall_tensor::{DType, Shape};

use crate::Effect;
use crate::constants::{self, per_channel};
use crate::editor::Editor;
use crate::pattern::{Match, Rule, apply};
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass {
    name: "dynamic-quantization",
    effect: Effect::Reassociating,
    run: |editor| apply(editor, RULES) + apply(editor, BIAS),
};

const RULES: &[Rule] = &[
    Rule {
        patterns: &[
            "Mul(Cast(MatMulInteger(q, $w, zero, _)), unit)",
            "Mul(Cast(MatMulInteger(q, $w, zero, $z)), unit)",
            "Mul(Mul(Cast(MatMulInteger(q, $w, zero, _)), scale), $s)",
            "Mul(Mul(Cast(MatMulInteger(q, $w, zero, $z)), scale), $s)",
        ],
        replace: pieces,
    },
    Rule {
        patterns: &[
            "DynamicQuantizeMatMul(x, $w, $s, _, _)",
            "DynamicQuantizeMatMul(x, $w, $s, $z, _)",
            "DynamicQuantizeMatMul(x, $w, $s, _, $bias)",
            "DynamicQuantizeMatMul(x, $w, $s, $z, $bias)",
        ],
        replace: whole,
    },
];

const BIAS: &[Rule] =
    &[Rule { patterns: &["Add(p:DynamicQuantMatMul(x, $w, $s, $z), $bias)"], replace: bias }];

fn fused() -> Op {
    Op::DynamicQuantMatMul(ops::DynamicQuantMatMul { activation: Activation::None })
}

/// Columns of the constant right operand.
fn columns(editor: &Editor<'_>, found: &Match) -> Option<usize> {
    let weight = editor.constant(found.get("w"))?;
    match (weight.shape()[..].as_ref(), weight.dtype()) {
        (&[_, columns], DType::U8 | DType::I8) => Some(columns),
        _ => None,
    }
}

fn pieces(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let (_, quantize) = editor.producer(found.get("q"))?;
    let Op::DynamicQuantizeLinear = quantize.op else { return None };
    let &[_, own_scale, own_zero] = quantize.outputs.as_slice() else { return None };
    let (scale, weight_scale) = match found.find("unit") {
        Some(unit) => unit_of(editor, unit)?,
        None => (found.get("scale"), found.get("s")),
    };
    if (scale, found.get("zero")) != (own_scale, own_zero) {
        return None;
    }
    let x = quantize.input(0)?;
    build(editor, found, x, weight_scale, None)
}

/// The two scales whose product is the unit of the accumulator: the running one, the constant one.
/// Several products may share it.
fn unit_of(editor: &Editor<'_>, unit: ValueId) -> Option<(ValueId, ValueId)> {
    let (_, node) = editor.producer(unit)?;
    let Op::Mul = node.op else { return None };
    let (a, b) = (node.input(0)?, node.input(1)?);
    Some(if editor.constant(a).is_some() { (b, a) } else { (a, b) })
}

fn whole(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let bias = match found.find("bias") {
        Some(bias) => {
            let columns = columns(editor, found)?;
            Some(per_channel(editor.constant(bias)?, columns, 0)?)
        }
        None => None,
    };
    build(editor, found, found.get("x"), found.get("s"), bias)
}

fn build(
    editor: &mut Editor<'_>,
    found: &Match,
    x: ValueId,
    scale: ValueId,
    bias: Option<Vec<f32>>,
) -> Option<ValueId> {
    let columns = columns(editor, found)?;
    editor.rank(x).filter(|&rank| rank >= 2)?;
    let scale = editor.constant(scale)?;
    let shape: &[usize] = if scale.elements() == 1 { &[] } else { &[columns] };
    let scale = constants::tensor(shape, &constants::floats(scale)?)?;
    let zero = match found.find("z") {
        Some(zero) => {
            let zero = editor.constant(zero)?;
            let shape = if zero.elements() == 1 { Shape::scalar() } else { [columns].into() };
            zero.reshaped(shape).ok()?
        }
        None => {
            let dtype = editor.dtype(found.get("w"))?;
            landfall_tensor::Tensor::zeros(dtype, Shape::scalar()).ok()?
        }
    };
    let scale = editor.add_constant(scale);
    let zero = editor.add_constant(zero);
    let bias = match bias {
        Some(bias) => Some(editor.add_constant(constants::tensor(&[columns], &bias)?)),
        None => None,
    };
    let inputs = [Some(x), Some(found.get("w")), Some(scale), Some(zero), bias];
    Some(editor.append(&found.name(editor), fused(), inputs))
}

fn bias(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let columns = columns(editor, found)?;
    let Op::DynamicQuantMatMul(op) = found.op(editor, "p")? else { return None };
    let bias = editor.constant(found.get("bias"))?;
    if op.activation != Activation::None || bias.shape().rank() > editor.rank(found.get("x"))? {
        return None;
    }
    let bias = constants::tensor(&[columns], &per_channel(bias, columns, 0)?)?;
    let bias = editor.add_constant(bias);
    let operand = |name| Some(found.get(name));
    let inputs = [operand("x"), operand("w"), operand("s"), operand("z"), Some(bias)];
    Some(editor.append(&found.name(editor), fused(), inputs))
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check;

    #[test]
    fn two_products_of_one_quantised_operand() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,2]
              const %w: i8[2,1] = [1, -2]
              const %v: i8[2,1] = [3, -4]
              const %z: i8[] = [1]
              const %s: f32[1] = [0.5]
              const %b: f32[1] = [7.0]
              %q, %qs, %qz = DynamicQuantizeLinear(%x)
              %a = MatMulInteger(%q, %w, %qz, %z)
              %c = Cast(%a) {to="f32"}
              %d = Mul(%qs, %s)
              %e = Mul(%c, %d)
              %f = Add(%e, %b)
              %g = MatMulInteger(%q, %v, %qz)
              %h = Cast(%g) {to="f32"}
              %i = Mul(%h, %d)
              %y = Sub(%f, %i)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,2]
              const %w: i8[2,1] = [1, -2]
              const %v: i8[2,1] = [3, -4]
              const %s: f32[] = [0.5]
              const %z: i8[] = [1]
              const %b: f32[1] = [7.0]
              const %t: f32[] = [0.5]
              const %zero: i8[] = [0]
              %i = landfall.DynamicQuantMatMul(%x, %v, %t, %zero)
              %f = landfall.DynamicQuantMatMul(%x, %w, %s, %z, %b)
              %y = Sub(%f, %i)
              output %y
            }"#,
        );
    }
}
