//! One spelling for what exporters spell in several ways, so that patterns need only one.

use landfall_graph::{Op, ValueId};
use landfall_tensor::DType;

use crate::Effect;
use crate::editor::Editor;
use crate::pattern::{Match, Rule, apply};
use crate::pipeline::Pass;

pub(crate) const PASS: Pass =
    Pass { name: "canonical-form", effect: Effect::Reassociating, run: |e| apply(e, RULES) };

const RULES: &[Rule] = &[
    Rule { patterns: &["Sum(x, y)"], replace: sum },
    Rule { patterns: &["Add(x, Neg(y))"], replace: difference },
    Rule { patterns: &["Div(1, x)"], replace: reciprocal },
    Rule { patterns: &["Pow(x, 2)"], replace: square },
    Rule { patterns: &["Pow(x, 0.5)"], replace: root },
];

fn sum(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let inputs = [Some(found.get("x")), Some(found.get("y"))];
    Some(editor.append(&found.name(editor), Op::Add, inputs))
}

fn difference(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let inputs = [Some(found.get("x")), Some(found.get("y"))];
    Some(editor.append(&found.name(editor), Op::Sub, inputs))
}

fn reciprocal(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    Some(editor.append(&found.name(editor), Op::Reciprocal, [Some(found.get("x"))]))
}

fn square(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let x = Some(found.get("x"));
    Some(editor.append(&found.name(editor), Op::Mul, [x, x]))
}

/// `x ^ 0.5` differs from `√x` only at negative infinity and the sign of zero.
fn root(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    if editor.dtype(found.get("x")) != Some(DType::F32) {
        return None;
    }
    Some(editor.append(&found.name(editor), Op::Sqrt, [Some(found.get("x"))]))
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check;

    #[test]
    fn sums_and_squares_are_spelt_one_way() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[2]
              input %z: f32[2]
              const %two: f32[] = [2.0]
              %a = Sum(%x, %z)
              %y = Pow(%a, %two)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[2]
              input %z: f32[2]
              %a: f32[2] = Add(%x, %z)
              %y: f32[2] = Mul(%a, %a)
              output %y
            }"#,
        );
    }
}
