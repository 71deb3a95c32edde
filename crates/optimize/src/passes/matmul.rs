//! Products with a constant matrix become `FusedMatMul`, their bias with them.

use landfall_graph::{Activation, Op, ValueId, ops};
use landfall_tensor::{DType, Tensor};

use crate::Effect;
use crate::constants::{self, per_channel};
use crate::editor::Editor;
use crate::pattern::{Match, Rule, apply};
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass {
    name: "matmul-fusion",
    effect: Effect::Reassociating,
    run: |editor| apply(editor, PRODUCTS) + apply(editor, BIAS),
};

const PRODUCTS: &[Rule] = &[
    Rule { patterns: &["MatMul(a, $b)"], replace: product },
    Rule {
        patterns: &["g:Gemm(a, $b, _)", "g:Gemm(a, $b, $c)", "g:Gemm(a, $b, addend)"],
        replace: gemm,
    },
];

const BIAS: &[Rule] = &[Rule { patterns: &["Add(p:FusedMatMul(a, $b), $bias)"], replace: bias }];

fn fused(trans_b: bool) -> Op {
    Op::FusedMatMul(ops::FusedMatMul { activation: Activation::None, trans_b })
}

/// A constant matrix of `f32`.
fn matrix<'e>(editor: &'e Editor<'_>, value: ValueId) -> Option<&'e Tensor> {
    let tensor = editor.constant(value)?;
    (tensor.dtype() == DType::F32 && tensor.shape().rank() == 2).then_some(tensor)
}

fn product(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let (a, b) = (found.get("a"), found.get("b"));
    matrix(editor, b)?;
    editor.rank(a).filter(|&rank| rank >= 2)?;
    Some(editor.append(&found.name(editor), fused(false), [Some(a), Some(b)]))
}

fn gemm(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let Op::Gemm(op) = found.op(editor, "g")?.clone() else { return None };
    if op.trans_a {
        return None;
    }
    let given = found.get("b");
    let b = matrix(editor, given)?.clone();
    let columns = b.shape()[usize::from(!op.trans_b)];
    let residual = found.find("addend");
    if residual.is_some_and(|c| op.beta != 1.0 || !editor.same_shape(c, found.root)) {
        return None;
    }
    let bias = match found.find("c") {
        Some(c) => {
            let c = per_channel(editor.constant(c)?, columns, 0)?;
            let c: Vec<f32> = c.iter().map(|&value| value * op.beta).collect();
            Some(editor.add_constant(constants::tensor(&[columns], &c)?))
        }
        None => None,
    };
    let b = match op.alpha {
        1.0 => given,
        alpha => editor.add_constant(scaled(&b, alpha)?),
    };
    let inputs = [Some(found.get("a")), Some(b), bias, residual];
    Some(editor.append(&found.name(editor), fused(op.trans_b), inputs))
}

fn scaled(tensor: &Tensor, factor: f32) -> Option<Tensor> {
    let elements = constants::floats(tensor)?;
    let elements: Vec<f32> = elements.iter().map(|&value| value * factor).collect();
    constants::tensor(tensor.shape(), &elements)
}

fn bias(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let Op::FusedMatMul(op) = found.op(editor, "p")? else { return None };
    if op.activation != Activation::None {
        return None;
    }
    let (a, b, trans_b) = (found.get("a"), found.get("b"), op.trans_b);
    let columns = matrix(editor, b)?.shape()[usize::from(!trans_b)];
    let bias = editor.constant(found.get("bias"))?;
    if bias.shape().rank() > editor.rank(a)? {
        return None;
    }
    let bias = constants::tensor(&[columns], &per_channel(bias, columns, 0)?)?;
    let bias = editor.add_constant(bias);
    Some(editor.append(&found.name(editor), fused(trans_b), [Some(a), Some(b), Some(bias)]))
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::{check, check_unchanged};

    #[test]
    fn a_product_takes_its_bias() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,S,1]
              const %w: f32[1,2] = [3.0, 5.0]
              const %b: f32[1,1,2] = [1.0, 2.0]
              %p: f32[N,S,2] = MatMul(%x, %w) "dense"
              %y: f32[N,S,2] = Add(%b, %p) "bias"
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,S,1]
              const %w: f32[1,2] = [3.0, 5.0]
              const %b: f32[2] = [1.0, 2.0]
              %y: f32[N,S,2] = landfall.FusedMatMul(%x, %w, %b) "bias"
              output %y
            }"#,
        );
    }

    #[test]
    fn gemm_transposes_and_scales_its_constants() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,2]
              const %w: f32[2,2] = [1.0, 2.0, 3.0, 4.0]
              const %c: f32[] = [3.0]
              %y: f32[N,2] = Gemm(%x, %w, %c) {alpha=2.0, beta=0.5, transB=1}
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,2]
              const %b: f32[2] = [1.5, 1.5]
              const %w: f32[2,2] = [2.0, 4.0, 6.0, 8.0]
              %y: f32[N,2] = landfall.FusedMatMul(%x, %w, %b) {transB=1}
              output %y
            }"#,
        );
    }

    #[test]
    fn a_vector_times_a_matrix_stays() {
        check_unchanged(
            &[PASS],
            r#"graph "g" {
              input %x: f32[1]
              const %w: f32[1,2] = [3.0, 5.0]
              %y: f32[2] = MatMul(%x, %w)
              output %y
            }"#,
        );
    }
}
