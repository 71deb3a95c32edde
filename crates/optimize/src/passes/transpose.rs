//! Transposes of transposes compose; identities and moves of extents of 1 are no transposes.

use landfall_graph::{Dim, Node, Op, ValueId, ops};

use super::reshape::reshaped;
use crate::Effect;
use crate::editor::Editor;
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass { name: "transpose-composition", effect: Effect::Exact, run };

fn run(editor: &mut Editor<'_>) -> usize {
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id) else { continue };
        let (Some(perm), Some(source)) = (permutation(editor, node), node.input(0)) else {
            continue;
        };
        let (output, name) = (node.outputs[0], node.name.clone());
        let replacement = if perm.iter().enumerate().all(|(i, &axis)| i == axis) {
            Some(source)
        } else if keeps_order(editor, source, &perm) {
            reshaped(editor, source, output, &name)
        } else {
            composed(editor, source, &perm, &name)
        };
        let Some(replacement) = replacement else { continue };
        editor.replace(output, replacement);
        changes += 1;
    }
    changes
}

/// The axes of a `Transpose`: axis `i` of the result is axis `perm[i]` of the operand.
pub(super) fn permutation(editor: &Editor<'_>, node: &Node) -> Option<Vec<usize>> {
    let Op::Transpose(op) = &node.op else { return None };
    if op.perm.is_empty() {
        return editor.rank(node.input(0)?).map(|rank| (0..rank).rev().collect());
    }
    op.perm.iter().map(|&axis| usize::try_from(axis).ok()).collect()
}

/// A `Transpose` operator.
pub(super) fn transpose(perm: &[usize]) -> Op {
    Op::Transpose(ops::Transpose { perm: perm.iter().map(|&axis| axis as i64).collect() })
}

/// The permutation that undoes another.
pub(super) fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; perm.len()];
    for (i, &axis) in perm.iter().enumerate() {
        inverse[axis] = i;
    }
    inverse
}

/// Whether only axes of extent 1 change places.
fn keeps_order(editor: &Editor<'_>, source: ValueId, perm: &[usize]) -> bool {
    let Some(dims) = editor.dims(source) else { return false };
    let moving: Vec<usize> =
        perm.iter().copied().filter(|&axis| dims.get(axis) != Some(&Dim::Known(1))).collect();
    moving.is_sorted()
}

fn composed(
    editor: &mut Editor<'_>,
    between: ValueId,
    perm: &[usize],
    name: &str,
) -> Option<ValueId> {
    let (_, before) = editor.producer(between)?;
    let first = permutation(editor, before)?;
    let source = before.input(0)?;
    let both: Vec<usize> =
        perm.iter().map(|&axis| first.get(axis).copied()).collect::<Option<_>>()?;
    if both.iter().enumerate().all(|(i, &axis)| i == axis) {
        return Some(source);
    }
    Some(editor.append(name, transpose(&both), [Some(source)]))
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check;

    #[test]
    fn transposes_compose_and_cancel() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[2,3,4]
              %a = Transpose(%x) {perm=[1,2,0]}
              %b = Transpose(%a) {perm=[2,0,1]}
              %c = Relu(%b)
              %d = Transpose(%c) {perm=[1,0,2]}
              %y = Transpose(%d) {perm=[2,0,1]}
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[2,3,4]
              %c: f32[2,3,4] = Relu(%x)
              %y: f32[4,3,2] = Transpose(%c) {perm=[2,1,0]}
              output %y
            }"#,
        );
    }

    #[test]
    fn moving_an_extent_of_one_is_a_reshape() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,1,1,8]
              %y: f32[N,8,1,1] = Transpose(%x) {perm=[0,3,1,2]}
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,1,1,8]
              const %s: i64[4] = [0, 8, 1, 1]
              %y: f32[N,8,1,1] = Reshape(%x, %s)
              output %y
            }"#,
        );
    }
}
