//! Activations spelt out in simpler operators become the one operator that they are.
//!
//! Sources: GELU, D. Hendrycks and K. Gimpel (2016); hard swish, A. Howard et al. (2019),
//! MobileNetV3; Mish, D. Misra (2019).

use landfall_graph::{GeluApproximation, Op, ValueId, ops};
use landfall_tensor::{DType, Tensor};

use crate::Effect;
use crate::editor::Editor;
use crate::pattern::{Match, Rule, apply};
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass {
    name: "activation-fusion",
    effect: Effect::Reassociating,
    run: |editor| apply(editor, RULES),
};

/// The ways to multiply `x`, one half and `1 + f`.
macro_rules! halves {
    ($($f:literal),*) => {
        &[$(
            concat!("Mul(Mul(x, Add(", $f, ", 1)), 0.5)"),
            concat!("Mul(x, Mul(Add(", $f, ", 1), 0.5))"),
            concat!("Mul(Mul(x, 0.5), Add(", $f, ", 1))"),
            concat!("Mul(x, Add(Mul(", $f, ", 0.5), 0.5))"),
        )*]
    };
}

const RULES: &[Rule] = &[
    Rule { patterns: halves!("Erf(Div(x, 1.4142135))", "Erf(Mul(x, 0.70710677))"), replace: gelu },
    Rule {
        patterns: halves!(
            "Tanh(Mul(Add(x, Mul(Pow(x, 3), 0.044715)), 0.7978846))",
            "Tanh(Mul(Add(x, Mul(Mul(Mul(x, x), x), 0.044715)), 0.7978846))",
            "Tanh(Mul(Add(x, Mul(Mul(x, x), Mul(x, 0.044715))), 0.7978846))",
            "Tanh(Mul(Add(x, Mul(Mul(Mul(x, 0.044715), x), x)), 0.7978846))",
            "Tanh(Mul(Mul(x, 0.7978846), Add(Mul(Mul(x, 0.044715), x), 1)))"
        ),
        replace: gelu_tanh,
    },
    Rule { patterns: &["Mul(x, Sigmoid(x))"], replace: silu },
    Rule { patterns: &["Mul(x, Sigmoid(Mul(x, #alpha)))"], replace: swish },
    Rule { patterns: &["Mul(x, Tanh(Softplus(x)))"], replace: mish },
    Rule { patterns: &["Log(Add(Exp(x), 1))"], replace: softplus },
    Rule {
        patterns: &[
            "Div(Mul(x, Clip(Add(x, 3), 0, 6)), 6)",
            "Mul(Mul(x, Clip(Add(x, 3), 0, 6)), 0.16666667)",
            "Mul(x, Div(Clip(Add(x, 3), 0, 6), 6))",
            "Mul(x, Mul(Clip(Add(x, 3), 0, 6), 0.16666667))",
            "Mul(Div(x, 6), Clip(Add(x, 3), 0, 6))",
        ],
        replace: hard_swish,
    },
    Rule { patterns: &["Mul(x, s:HardSigmoid(x))"], replace: hard_swish_of_sigmoid },
    Rule {
        patterns: &["Div(Clip(Add(x, 3), 0, 6), 6)", "Mul(Clip(Add(x, 3), 0, 6), 0.16666667)"],
        replace: hard_sigmoid,
    },
    Rule { patterns: &["Min(Max(x, #lo), #hi)", "Max(Min(x, #hi), #lo)"], replace: clip },
    Rule { patterns: &["Max(x, 0)"], replace: relu },
];

fn plain(editor: &mut Editor<'_>, found: &Match, op: Op) -> Option<ValueId> {
    let floating = matches!(
        editor.dtype(found.get("x")),
        Some(DType::F32 | DType::F64 | DType::F16 | DType::BF16)
    );
    floating.then(|| editor.append(&found.name(editor), op, [Some(found.get("x"))]))
}

fn gelu(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    plain(editor, found, Op::Gelu(ops::Gelu { approximate: GeluApproximation::None }))
}

fn gelu_tanh(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    plain(editor, found, Op::Gelu(ops::Gelu { approximate: GeluApproximation::Tanh }))
}

fn silu(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    plain(editor, found, Op::Swish(ops::Swish { alpha: 1.0 }))
}

fn swish(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let alpha = editor.scalar(found.get("alpha"))?;
    plain(editor, found, Op::Swish(ops::Swish { alpha }))
}

fn mish(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    plain(editor, found, Op::Mish)
}

fn softplus(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    plain(editor, found, Op::Softplus)
}

fn hard_swish(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    plain(editor, found, Op::HardSwish)
}

fn hard_swish_of_sigmoid(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let Op::HardSigmoid(op) = found.op(editor, "s")? else { return None };
    let sixth = (op.alpha - 1.0 / 6.0).abs() < 1e-6 && op.beta == 0.5;
    if sixth { plain(editor, found, Op::HardSwish) } else { None }
}

fn hard_sigmoid(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    plain(editor, found, Op::HardSigmoid(ops::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }))
}

fn relu(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    plain(editor, found, Op::Relu)
}

fn clip(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let (lo, hi) = (editor.scalar(found.get("lo"))?, editor.scalar(found.get("hi"))?);
    if lo > hi || editor.dtype(found.get("x")) != Some(DType::F32) {
        return None;
    }
    let lo = editor.add_constant(Tensor::scalar(lo));
    let hi = editor.add_constant(Tensor::scalar(hi));
    let inputs = [Some(found.get("x")), Some(lo), Some(hi)];
    Some(editor.append(&found.name(editor), Op::Clip, inputs))
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::passes::canonical;
    use crate::testing::{after, check, check_unchanged};

    /// The one operator left after the pass, given statements that compute `%y` from `%x`.
    fn becomes(body: &str) -> String {
        let text = format!(
            r#"graph "g" {{
              input %x: f32[N,4]
              const %half: f32[] = [0.5]
              const %one: f32[] = [1.0]
              const %three: f32[] = [3.0]
              const %six: f32[] = [6.0]
              const %zero: f32[] = [0.0]
              const %r2: f32[1] = [1.4142135]
              const %ir2: f32[] = [0.70710677]
              const %c: f32[] = [0.044715]
              const %p: f32[] = [0.7978846]
              {body}
              output %y
            }}"#
        );
        let text = after(&[canonical::PASS, PASS], &text);
        let nodes: Vec<&str> = text.lines().filter(|line| line.contains('(')).collect();
        assert_eq!(nodes.len(), 1, "{text}");
        nodes[0].trim().to_owned()
    }

    #[test]
    fn spellings_of_gelu() {
        for body in [
            "%a = Div(%x, %r2) %b = Erf(%a)
             %c1 = Add(%b, %one) %d = Mul(%x, %c1) %y = Mul(%d, %half)",
            "%a = Mul(%ir2, %x) %b = Erf(%a)
             %c1 = Add(%one, %b) %d = Mul(%c1, %half) %y = Mul(%d, %x)",
            "%a = Mul(%x, %ir2) %b = Erf(%a)
             %c1 = Add(%b, %one) %d = Mul(%x, %half) %y = Mul(%d, %c1)",
        ] {
            assert_eq!(becomes(body), "%y: f32[N,4] = Gelu(%x)");
        }
        let tanh = "%a = Pow(%x, %three) %b = Mul(%a, %c) %d = Add(%x, %b) %e = Mul(%d, %p)
                    %f = Tanh(%e) %g = Add(%f, %one) %h = Mul(%half, %x) %y = Mul(%h, %g)";
        assert_eq!(becomes(tanh), "%y: f32[N,4] = Gelu(%x) {approximate=\"tanh\"}");
    }

    #[test]
    fn gated_activations() {
        let silu = "%a = Sigmoid(%x) %y = Mul(%a, %x)";
        assert_eq!(becomes(silu), "%y: f32[N,4] = Swish(%x)");
        let hard =
            "%a = Add(%x, %three) %b = Clip(%a, %zero, %six) %d = Mul(%x, %b) %y = Div(%d, %six)";
        assert_eq!(becomes(hard), "%y: f32[N,4] = HardSwish(%x)");
        let mish = "%a = Softplus(%x) %b = Tanh(%a) %y = Mul(%x, %b)";
        assert_eq!(becomes(mish), "%y: f32[N,4] = Mish(%x)");
    }

    #[test]
    fn min_and_max_are_a_clip() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[4]
              const %lo: f32[1] = [-1.0]
              const %hi: f32[1] = [6.0]
              %a = Max(%x, %lo)
              %y = Min(%hi, %a)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[4]
              const %lo: f32[] = [-1.0]
              const %hi: f32[] = [6.0]
              %y: f32[4] = Clip(%x, %lo, %hi)
              output %y
            }"#,
        );
    }

    #[test]
    fn an_intermediate_used_elsewhere_keeps_the_pieces() {
        check_unchanged(
            &[PASS],
            r#"graph "g" {
              input %x: f32[4]
              %a: f32[4] = Sigmoid(%x)
              %y: f32[4] = Mul(%x, %a)
              output %y
              output %a
            }"#,
        );
    }
}
