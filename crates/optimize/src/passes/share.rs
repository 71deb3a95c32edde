//! Common sub-expressions and equal constants are computed and kept once.

use std::collections::HashMap;

use landfall_graph::{NodeId, Op, Origin, ValueId};
use landfall_tensor::{DType, Tensor};

use crate::Effect;
use crate::editor::Editor;
use crate::pipeline::Pass;

/// Constants up to this many bytes are compared by content, larger ones by address.
const CONTENT_BYTES_MAX: usize = 4096;

pub(crate) const PASS: Pass = Pass { name: "sharing", effect: Effect::Exact, run };

fn run(editor: &mut Editor<'_>) -> usize {
    share_constants(editor) + share_nodes(editor)
}

#[derive(PartialEq, Eq, Hash)]
enum Identity {
    Content(Vec<u8>),
    Address(usize, usize),
}

fn identity(tensor: &Tensor) -> Option<(DType, Vec<usize>, Identity)> {
    let bytes = tensor.bytes()?;
    let identity = if bytes.len() <= CONTENT_BYTES_MAX {
        Identity::Content(bytes.to_vec())
    } else {
        Identity::Address(bytes.as_ptr() as usize, bytes.len())
    };
    Some((tensor.dtype(), tensor.shape().to_vec(), identity))
}

fn share_constants(editor: &mut Editor<'_>) -> usize {
    let mut first: HashMap<_, ValueId> = HashMap::new();
    let mut pairs = Vec::new();
    for (id, value) in editor.graph.values() {
        let Origin::Constant(tensor) = &value.origin else { continue };
        if editor.uses(id).is_empty() || editor.is_output(id) {
            continue;
        }
        let Some(key) = identity(tensor) else { continue };
        let kept = *first.entry(key).or_insert(id);
        if kept != id {
            pairs.push((id, kept));
        }
    }
    for &(from, to) in &pairs {
        editor.replace(from, to);
    }
    pairs.len()
}

/// Whether two nodes with the same operator and operands give the same results.
fn repeatable(op: &Op) -> bool {
    !matches!(
        op,
        Op::If(_)
            | Op::Loop(_)
            | Op::Scan(_)
            | Op::Bernoulli(_)
            | Op::Dropout(_)
            | Op::Multinomial(_)
            | Op::RandomNormal(_)
            | Op::RandomNormalLike(_)
            | Op::RandomUniform(_)
            | Op::RandomUniformLike(_)
            | Op::Identity
    )
}

fn share_nodes(editor: &mut Editor<'_>) -> usize {
    type Key = (&'static str, Vec<Option<ValueId>>);
    let mut known: HashMap<Key, Vec<NodeId>> = HashMap::new();
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id) else { continue };
        if !repeatable(&node.op) {
            continue;
        }
        let candidates = known.entry((node.op.name(), node.inputs.clone())).or_default();
        let twin = candidates.iter().copied().find(|&other| {
            editor.node(other).is_some_and(|other| {
                other.op == node.op && other.outputs.len() == node.outputs.len()
            })
        });
        let Some(twin) = twin else {
            candidates.push(id);
            continue;
        };
        let from = node.outputs.clone();
        let to = editor.node(twin).map(|node| node.outputs.clone()).unwrap_or_default();
        if from.iter().any(|&value| editor.is_output(value)) {
            continue;
        }
        for (from, to) in from.into_iter().zip(to) {
            editor.replace(from, to);
        }
        changes += 1;
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::{check, check_unchanged};

    #[test]
    fn equal_constants_then_equal_nodes_merge() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[2]
              const %a: f32[] = [1.0]
              const %b: f32[] = [1.0]
              %p = Add(%x, %a)
              %q = Add(%x, %b)
              %y = Mul(%p, %q)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[2]
              const %a: f32[] = [1.0]
              %p: f32[2] = Add(%x, %a)
              %y: f32[2] = Mul(%p, %p)
              output %y
            }"#,
        );
    }

    #[test]
    fn random_numbers_are_not_shared() {
        check_unchanged(
            &[PASS],
            r#"graph "g" {
              %a: f32[2] = RandomNormal() {shape=[2]}
              %b: f32[2] = RandomNormal() {shape=[2]}
              %y: f32[2] = Sub(%a, %b)
              output %y
            }"#,
        );
    }
}
