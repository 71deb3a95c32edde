//! Chains of `Reshape`, `Flatten`, `Squeeze` and `Unsqueeze` become one `Reshape`.

use landfall_graph::{Dim, Op, ValueId, ops};

use crate::Effect;
use crate::editor::Editor;
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass { name: "reshape-merging", effect: Effect::Exact, run };

fn run(editor: &mut Editor<'_>) -> usize {
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id) else { continue };
        let (&[output], true) = (node.outputs.as_slice(), reshapes(&node.op)) else { continue };
        let Some(between) = node.input(0) else { continue };
        let Some((_, before)) = editor.producer(between) else { continue };
        if !reshapes(&before.op) {
            continue;
        }
        let (Some(source), name) = (before.input(0), node.name.clone()) else { continue };
        let Some(merged) = reshaped(editor, source, output, &name) else { continue };
        editor.replace(output, merged);
        changes += 1;
    }
    changes
}

fn reshapes(op: &Op) -> bool {
    matches!(op, Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze)
}

/// `source` under the shape that `like` has, or `None` if a constant target cannot say it.
pub(super) fn reshaped(
    editor: &mut Editor<'_>,
    source: ValueId,
    like: ValueId,
    name: &str,
) -> Option<ValueId> {
    let target = target(editor.dims(source)?, editor.dims(like)?)?;
    let target = editor.add_ints(&target)?;
    let op = Op::Reshape(ops::Reshape { allowzero: false });
    Some(editor.append(name, op, [Some(source), Some(target)]))
}

/// A `Reshape` target: known extents, 0 where the axis is copied, and at most one -1.
fn target(from: &[Dim], to: &[Dim]) -> Option<Vec<i64>> {
    let mut free = false;
    to.iter()
        .enumerate()
        .map(|(axis, dim)| match dim {
            Dim::Known(0) => None,
            Dim::Known(n) => i64::try_from(*n).ok(),
            dim if from.get(axis).is_some_and(|d| d.same(dim)) => Some(0),
            _ if !free => {
                free = true;
                Some(-1)
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::{check, check_unchanged};

    #[test]
    fn a_chain_becomes_one_reshape() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[batch,seq,4,8]
              const %two: i64[1] = [2]
              const %s: i64[3] = [0, 0, 32]
              %a: f32[batch,seq,1,4,8] = Unsqueeze(%x, %two)
              %b: f32[batch,seq,4,8] = Squeeze(%a, %two)
              %y: f32[batch,seq,32] = Reshape(%b, %s)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[batch,seq,4,8]
              const %s: i64[3] = [0, 0, 32]
              %y: f32[batch,seq,32] = Reshape(%x, %s)
              output %y
            }"#,
        );
    }

    #[test]
    fn two_free_extents_that_moved_cannot_be_said() {
        check_unchanged(
            &[PASS],
            r#"graph "g" {
              input %x: f32[a,b,6]
              const %zero: i64[1] = [0]
              const %s: i64[4] = [0, 0, 0, 6]
              %u: f32[1,a,b,6] = Unsqueeze(%x, %zero)
              %y: f32[1,a,b,6] = Reshape(%u, %s)
              output %y
            }"#,
        );
    }
}
