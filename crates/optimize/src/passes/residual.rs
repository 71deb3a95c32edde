//! An addition of equal shapes after a fused product or convolution becomes its residual.

use landfall_graph::{Activation, Node, Op, ValueId};

use crate::Effect;
use crate::editor::Editor;
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass { name: "residual-fusion", effect: Effect::Reassociating, run };

fn run(editor: &mut Editor<'_>) -> usize {
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id) else { continue };
        let (Op::Add, &[output]) = (&node.op, node.outputs.as_slice()) else { continue };
        let (Some(a), Some(b)) = (node.input(0), node.input(1)) else { continue };
        let name = node.name.clone();
        // The later of two candidates has the other's result at hand.
        let mut sides = [(a, b), (b, a)];
        sides.sort_by_key(|(host, _)| {
            std::cmp::Reverse(editor.producer(*host).map(|(producer, _)| producer))
        });
        let found = sides.into_iter().find(|&(host, other)| fits(editor, host, other));
        let Some((host, other)) = found else { continue };
        let Some(host) = editor.producer(host).map(|(_, node)| node.clone()) else { continue };
        let new = with_residual(editor, &host, other, &name);
        editor.replace(output, new);
        changes += 1;
    }
    changes
}

/// Whether `host` is a fused node, free of residual and activation, that nothing else reads, and
/// `other` has its shape.
fn fits(editor: &Editor<'_>, host: ValueId, other: ValueId) -> bool {
    let Some((_, node)) = editor.producer(host) else { return false };
    let activation = match &node.op {
        Op::FusedConv(op) => op.activation,
        Op::FusedMatMul(op) => op.activation,
        _ => return false,
    };
    activation == Activation::None
        && node.input(3).is_none()
        && editor.used_once(host)
        && editor.same_shape(host, other)
}

fn with_residual(editor: &mut Editor<'_>, host: &Node, other: ValueId, name: &str) -> ValueId {
    let inputs = [host.input(0), host.input(1), host.input(2), Some(other)];
    let name = if host.name.is_empty() { name } else { &host.name };
    editor.append(name, host.op.clone(), inputs)
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::{check, check_unchanged};

    #[test]
    fn a_skip_connection_joins_its_product() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,1]
              const %w: f32[1,1] = [3.0]
              %p: f32[N,1] = landfall.FusedMatMul(%x, %w)
              %y: f32[N,1] = Add(%x, %p)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,1]
              const %w: f32[1,1] = [3.0]
              %y: f32[N,1] = landfall.FusedMatMul(%x, %w, _, %x)
              output %y
            }"#,
        );
    }

    #[test]
    fn a_broadcast_is_no_residual() {
        check_unchanged(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,1]
              input %r: f32[1,1]
              const %w: f32[1,1] = [3.0]
              %p: f32[N,1] = landfall.FusedMatMul(%x, %w)
              %y: f32[N,1] = Add(%p, %r)
              output %y
            }"#,
        );
    }
}
