//! An activation after a fused product or convolution joins it.

use landfall_graph::{Activation, GeluApproximation, Node, Op};

use crate::Effect;
use crate::editor::Editor;
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass { name: "activation-epilogue", effect: Effect::Exact, run };

fn run(editor: &mut Editor<'_>) -> usize {
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id) else { continue };
        let &[output] = node.outputs.as_slice() else { continue };
        let (Some(activation), Some(x)) = (activation(editor, node), node.input(0)) else {
            continue;
        };
        let Some((_, host)) = editor.producer(x) else { continue };
        if !editor.used_once(x) {
            continue;
        }
        let (mut op, inputs, name) = (host.op.clone(), host.inputs.clone(), host.name.clone());
        let slot = match &mut op {
            Op::FusedConv(op) => &mut op.activation,
            Op::FusedMatMul(op) => &mut op.activation,
            Op::DynamicQuantMatMul(op) => &mut op.activation,
            _ => continue,
        };
        if *slot != Activation::None {
            continue;
        }
        *slot = activation;
        let new = editor.append(&name, op, inputs);
        editor.replace(output, new);
        changes += 1;
    }
    changes
}

/// The activation that a node applies to its first operand.
pub(super) fn activation(editor: &Editor<'_>, node: &Node) -> Option<Activation> {
    Some(match &node.op {
        Op::Relu => Activation::Relu,
        Op::Clip => {
            let bound = |index: usize, default: f32| match node.input(index) {
                None => Some(default),
                Some(id) => editor.scalar(id),
            };
            match (bound(1, f32::MIN)?, bound(2, f32::MAX)?) {
                (0.0, f32::MAX) => Activation::Relu,
                (lo, hi) if lo <= hi => Activation::Clip(lo, hi),
                _ => return None,
            }
        }
        Op::LeakyRelu(op) => Activation::LeakyRelu(op.alpha),
        Op::Sigmoid => Activation::Sigmoid,
        Op::Tanh => Activation::Tanh,
        Op::Swish(op) if op.alpha == 1.0 => Activation::Silu,
        Op::HardSwish => Activation::HardSwish,
        Op::HardSigmoid(op) => Activation::HardSigmoid(op.alpha, op.beta),
        Op::Gelu(op) => match op.approximate {
            GeluApproximation::None => Activation::Gelu,
            GeluApproximation::Tanh => Activation::GeluTanh,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::{check, check_unchanged};

    #[test]
    fn activations_join() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,1]
              const %w: f32[1,1] = [3.0]
              const %six: f32[] = [6.0]
              const %zero: f32[] = [0.0]
              %p: f32[N,1] = landfall.FusedMatMul(%x, %w)
              %q: f32[N,1] = Gelu(%p)
              %r: f32[N,1] = landfall.FusedMatMul(%q, %w)
              %y: f32[N,1] = Clip(%r, %zero, %six)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,1]
              const %w: f32[1,1] = [3.0]
              %q: f32[N,1] = landfall.FusedMatMul(%x, %w) {activation="gelu"}
              %y: f32[N,1] = landfall.FusedMatMul(%q, %w) {activation="clip(0.0,6.0)"}
              output %y
            }"#,
        );
    }

    #[test]
    fn a_value_used_twice_keeps_its_own_node() {
        check_unchanged(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,1]
              const %w: f32[1,1] = [3.0]
              %p: f32[N,1] = landfall.FusedMatMul(%x, %w)
              %q: f32[N,1] = Relu(%p)
              %y: f32[N,1] = Sub(%p, %q)
              output %y
            }"#,
        );
    }
}
