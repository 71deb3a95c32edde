//! Batch normalisation with constant statistics is an affine map per channel: it goes into the
//! weights before it, or, where there are none, becomes a `Mul` and an `Add`.
//!
//! `y = (x - mean) scale / √(variance + ε) + shift`. Source: S. Ioffe and C. Szegedy (2015).

use landfall_graph::{Node, Op, ValueId};

use super::host::Host;
use crate::Effect;
use crate::constants;
use crate::editor::Editor;
use crate::pipeline::Pass;

pub(crate) const PASS: Pass =
    Pass { name: "batch-norm-folding", effect: Effect::Reassociating, run: |e| run(e, fold) };

pub(crate) const DECOMPOSE: Pass = Pass {
    name: "batch-norm-decomposition",
    effect: Effect::Reassociating,
    run: |editor| run(editor, decompose),
};

type Replace = fn(&mut Editor<'_>, &Node, &[f32], &[f32]) -> Option<ValueId>;

fn run(editor: &mut Editor<'_>, replace: Replace) -> usize {
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id).cloned() else { continue };
        let (Op::BatchNormalization(op), &[output]) = (&node.op, node.outputs.as_slice()) else {
            continue;
        };
        if op.training_mode {
            continue;
        }
        let Some((factors, shifts)) = affine(editor, &node, op.epsilon) else { continue };
        let Some(new) = replace(editor, &node, &factors, &shifts) else { continue };
        editor.replace(output, new);
        changes += 1;
    }
    changes
}

/// Factor and shift per channel.
fn affine(editor: &Editor<'_>, node: &Node, epsilon: f32) -> Option<(Vec<f32>, Vec<f32>)> {
    let operand = |index| node.input(index).and_then(|id| editor.floats(id));
    let (scale, shift, mean, variance) = (operand(1)?, operand(2)?, operand(3)?, operand(4)?);
    let channels = scale.len();
    if [&shift, &mean, &variance].iter().any(|list| list.len() != channels) {
        return None;
    }
    let factor =
        |i: usize| f64::from(scale[i]) / (f64::from(variance[i]) + f64::from(epsilon)).sqrt();
    let factors = (0..channels).map(|i| factor(i) as f32).collect();
    let shifts = (0..channels)
        .map(|i| (f64::from(shift[i]) - f64::from(mean[i]) * factor(i)) as f32)
        .collect();
    Some((factors, shifts))
}

fn fold(editor: &mut Editor<'_>, node: &Node, factors: &[f32], shifts: &[f32]) -> Option<ValueId> {
    let x = node.input(0)?;
    let host = Host::of(editor, x)?;
    let rank = editor.rank(x)?;
    if host.channels != factors.len() || host.axis_from_end + 2 != rank {
        return None;
    }
    host.absorb(editor, factors, shifts)
}

fn decompose(
    editor: &mut Editor<'_>,
    node: &Node,
    factors: &[f32],
    shifts: &[f32],
) -> Option<ValueId> {
    let x = node.input(0)?;
    let spatial = editor.rank(x)?.checked_sub(2)?;
    let dims: Vec<usize> =
        std::iter::once(factors.len()).chain(std::iter::repeat_n(1, spatial)).collect();
    let factors = editor.add_constant(constants::tensor(&dims, factors)?);
    let shifts = editor.add_constant(constants::tensor(&dims, shifts)?);
    let scaled = editor.append(&node.name, Op::Mul, [Some(x), Some(factors)]);
    let (dtype, like) = (editor.dtype(x), editor.dims(x).map(<[_]>::to_vec));
    editor.declare(scaled, dtype, like);
    Some(editor.append(&node.name, Op::Add, [Some(scaled), Some(shifts)]))
}

#[cfg(test)]
mod tests {
    use super::{DECOMPOSE, PASS};
    use crate::testing::check;

    const NORM: &str = "const %g: f32[2] = [2.0, 4.0]
              const %b: f32[2] = [1.0, 1.0]
              const %m: f32[2] = [0.5, 1.0]
              const %v: f32[2] = [3.0, 15.0]";

    #[test]
    fn into_a_convolution() {
        check(
            &[PASS],
            &format!(
                r#"graph "g" {{
              input %x: f32[N,1,3,3]
              const %w: f32[2,1,1,1] = [3.0, 5.0]
              {NORM}
              %c: f32[N,2,3,3] = Conv(%x, %w) "conv"
              %y: f32[N,2,3,3] = BatchNormalization(%c, %g, %b, %m, %v) {{epsilon=1.0}}
              output %y
            }}"#
            ),
            r#"graph "g" {
              input %x: f32[N,1,3,3]
              const %w: f32[2,1,1,1] = [3.0, 5.0]
              const %b: f32[2] = [0.5, 0.0]
              %y: f32[N,2,3,3] = Conv(%x, %w, %b) "conv"
              output %y
            }"#,
        );
    }

    #[test]
    fn into_a_grouped_transposed_convolution() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,2,3,3]
              const %w: f32[2,1,1,1] = [3.0, 5.0]
              const %bias: f32[2] = [1.0, 1.0]
              const %g: f32[2] = [2.0, 8.0]
              const %b: f32[2] = [1.0, 1.0]
              const %m: f32[2] = [0.5, 1.0]
              const %v: f32[2] = [3.0, 15.0]
              %c: f32[N,2,3,3] = ConvTranspose(%x, %w, %bias) {group=2}
              %y: f32[N,2,3,3] = BatchNormalization(%c, %g, %b, %m, %v) {epsilon=1.0}
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,2,3,3]
              const %w: f32[2,1,1,1] = [3.0, 10.0]
              const %b: f32[2] = [1.5, 1.0]
              %y: f32[N,2,3,3] = ConvTranspose(%x, %w, %b) {group=2}
              output %y
            }"#,
        );
    }

    #[test]
    fn into_the_batch_norm_before() {
        check(
            &[PASS],
            &format!(
                r#"graph "g" {{
              input %x: f32[N,2]
              {NORM}
              %c: f32[N,2] = BatchNormalization(%x, %g, %b, %m, %v) {{epsilon=1.0}}
              %y: f32[N,2] = BatchNormalization(%c, %g, %b, %m, %v) {{epsilon=1.0}}
              output %y
            }}"#
            ),
            r#"graph "g" {
              input %x: f32[N,2]
              const %s: f32[2] = [2.0, 4.0]
              const %t: f32[2] = [1.5, 1.0]
              const %m: f32[2] = [0.5, 1.0]
              const %v: f32[2] = [3.0, 15.0]
              %y: f32[N,2] = BatchNormalization(%x, %s, %t, %m, %v) {epsilon=1.0}
              output %y
            }"#,
        );
    }

    #[test]
    fn alone_it_is_a_product_and_a_sum() {
        check(
            &[DECOMPOSE],
            &format!(
                r#"graph "g" {{
              input %x: f32[N,2,3,3]
              {NORM}
              %y: f32[N,2,3,3] = BatchNormalization(%x, %g, %b, %m, %v) {{epsilon=1.0}}
              output %y
            }}"#
            ),
            r#"graph "g" {
              input %x: f32[N,2,3,3]
              const %s: f32[2,1,1] = [1.0, 1.0]
              const %t: f32[2,1,1] = [0.5, 0.0]
              %a: f32[N,2,3,3] = Mul(%x, %s)
              %y: f32[N,2,3,3] = Add(%a, %t)
              output %y
            }"#,
        );
    }
}
