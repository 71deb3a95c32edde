//! Constant folding: nodes whose operands are all constants are computed once.
//!
//! A result is kept if it is small (`Options::fold_bytes_max`) or no larger than its operands, so
//! that folding an `Expand` or a `ConstantOfShape` cannot blow the model up.

use landfall_graph::{Node, Op, ValueId};
use landfall_tensor::Tensor;

use crate::Effect;
use crate::editor::Editor;
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass {
    name: "constant-folding",
    effect: Effect::Exact,
    run: |editor| run(editor, |op| !matches!(op, Op::DequantizeLinear(_))),
};

pub(crate) const PASS_ALL: Pass =
    Pass { name: "constant-folding", effect: Effect::Exact, run: |editor| run(editor, |_| true) };

fn run(editor: &mut Editor<'_>, wanted: fn(&Op) -> bool) -> usize {
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id) else { continue };
        if !wanted(&node.op) || !pure(&node.op) || !affordable(editor, node) {
            continue;
        }
        let Some(inputs) = constants(editor, node) else { continue };
        let (op, outputs) = (node.op.clone(), node.outputs.clone());
        let read: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        let Some(results) = editor.evaluator.evaluate(&op, &inputs, outputs.len()) else {
            continue;
        };
        let budget = editor.options.fold_bytes_max.max(bytes(inputs.iter().flatten()));
        if results.len() < outputs.len() || bytes(&results) > budget {
            continue;
        }
        read.iter().filter_map(|&id| editor.constant(id)).for_each(Tensor::release);
        for (output, result) in outputs.into_iter().zip(results) {
            if !editor.unused(output) {
                let constant = editor.add_constant(result);
                editor.replace(output, constant);
            }
        }
        changes += 1;
    }
    changes
}

/// The operands, if all are constants, in whatever memory they are.
fn constants(editor: &Editor<'_>, node: &Node) -> Option<Vec<Option<Tensor>>> {
    let tensor = |input: &Option<ValueId>| match input {
        None => Some(None),
        Some(id) => editor.constant(*id).map(|tensor| Some(tensor.clone())),
    };
    node.inputs.iter().map(tensor).collect()
}

/// Whether the same operands always give the same results. `Identity` stays where an output must
/// be a copy; sub-graphs are optimised on their own.
fn pure(op: &Op) -> bool {
    !matches!(
        op,
        Op::Identity
            | Op::If(_)
            | Op::Loop(_)
            | Op::Scan(_)
            | Op::Bernoulli(_)
            | Op::Dropout(_)
            | Op::Multinomial(_)
            | Op::RandomNormal(_)
            | Op::RandomNormalLike(_)
            | Op::RandomUniform(_)
            | Op::RandomUniformLike(_)
    )
}

/// Whether the results fit the budget, as far as their shapes tell before computing them.
fn affordable(editor: &Editor<'_>, node: &Node) -> bool {
    let operands: usize =
        node.operands().filter_map(|id| editor.constant(id)).map(|t| bytes([t])).sum();
    let budget = editor.options.fold_bytes_max.max(operands);
    node.outputs.iter().all(|&output| match editor.extents(output) {
        Some(extents) => {
            let size = editor.dtype(output).map_or(8, |dtype| dtype.size());
            extents.iter().try_fold(size, |n, &dim| n.checked_mul(dim)).is_some_and(|n| n <= budget)
        }
        None => !matches!(node.op, Op::Expand | Op::Tile | Op::ConstantOfShape(_) | Op::Range(_)),
    })
}

fn bytes<'t>(tensors: impl IntoIterator<Item = &'t Tensor>) -> usize {
    tensors.into_iter().map(|t| t.elements().saturating_mul(t.dtype().size())).sum()
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::{check, check_unchanged};

    #[test]
    fn constants_compute() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[2]
              const %a: f32[2] = [1.0, 2.0]
              const %b: f32[] = [3.0]
              %c = Mul(%a, %b)
              %d = Add(%c, %a)
              %y = Add(%x, %d)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[2]
              const %d: f32[2] = [4.0, 8.0]
              %y: f32[2] = Add(%x, %d)
              output %y
            }"#,
        );
    }

    #[test]
    fn a_result_that_would_blow_up_stays_unfolded() {
        check_unchanged(
            &[PASS],
            r#"graph "g" {
              const %shape: i64[2] = [100000, 100000]
              %y: f32[100000,100000] = ConstantOfShape(%shape)
              output %y
            }"#,
        );
    }
}
