//! Multiplication, division, addition and subtraction of a constant per channel go into the weights
//! and bias before them.

use landfall_graph::{Op, ValueId};

use super::host::Host;
use crate::Effect;
use crate::constants::per_channel;
use crate::editor::Editor;
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass { name: "scale-folding", effect: Effect::Reassociating, run };

fn run(editor: &mut Editor<'_>) -> usize {
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id) else { continue };
        let (&[output], Some(a), Some(b)) = (node.outputs.as_slice(), node.input(0), node.input(1))
        else {
            continue;
        };
        let Some(map) = Map::of(&node.op) else { continue };
        let (a_constant, b_constant) = (editor.constant(a).is_some(), editor.constant(b).is_some());
        let new = match (a_constant, b_constant) {
            (false, true) => fold(editor, map.right, a, b),
            (true, false) => map.left.and_then(|map| fold(editor, map, b, a)),
            _ => None,
        };
        let Some(new) = new else { continue };
        editor.replace(output, new);
        changes += 1;
    }
    changes
}

/// The factor and the shift that a constant `c` stands for.
type Affine = fn(f32) -> (f32, f32);

/// What `x op c` and `c op x` do to `x`.
struct Map {
    right: Affine,
    left: Option<Affine>,
}

impl Map {
    fn of(op: &Op) -> Option<Map> {
        Some(match op {
            Op::Mul => Map { right: |c| (c, 0.0), left: Some(|c| (c, 0.0)) },
            Op::Div => Map { right: |c| (1.0 / c, 0.0), left: None },
            Op::Add => Map { right: |c| (1.0, c), left: Some(|c| (1.0, c)) },
            Op::Sub => Map { right: |c| (1.0, -c), left: Some(|c| (-1.0, c)) },
            _ => return None,
        })
    }
}

fn fold(
    editor: &mut Editor<'_>,
    map: Affine,
    value: ValueId,
    constant: ValueId,
) -> Option<ValueId> {
    let host = Host::of(editor, value)?;
    let constant = editor.constant(constant)?;
    if constant.shape().rank() > editor.rank(value)? {
        return None;
    }
    let constant = per_channel(constant, host.channels, host.axis_from_end)?;
    let (factors, shifts): (Vec<f32>, Vec<f32>) = constant.into_iter().map(map).unzip();
    if factors.iter().chain(&shifts).any(|value| !value.is_finite()) {
        return None;
    }
    host.absorb(editor, &factors, &shifts)
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::{check, check_unchanged};

    #[test]
    fn a_scale_and_a_shift_after_a_convolution() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,1,3,3]
              const %w: f32[2,1,1,1] = [3.0, 5.0]
              const %s: f32[2,1,1] = [2.0, 4.0]
              const %t: f32[1,2,1,1] = [1.0, -1.0]
              %a: f32[N,2,3,3] = Conv(%x, %w)
              %b: f32[N,2,3,3] = Mul(%a, %s)
              %y: f32[N,2,3,3] = Sub(%t, %b)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,1,3,3]
              const %w: f32[2,1,1,1] = [-6.0, -20.0]
              const %b: f32[2] = [1.0, -1.0]
              %y: f32[N,2,3,3] = Conv(%x, %w, %b)
              output %y
            }"#,
        );
    }

    #[test]
    fn a_scale_after_a_biased_product() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,S,1]
              const %w: f32[1,2] = [3.0, 5.0]
              const %b: f32[2] = [1.0, 2.0]
              const %eight: f32[] = [8.0]
              %p: f32[N,S,2] = MatMul(%x, %w)
              %q: f32[N,S,2] = Add(%b, %p)
              %y: f32[N,S,2] = Div(%q, %eight)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,S,1]
              const %w: f32[1,2] = [0.375, 0.625]
              const %b: f32[2] = [0.125, 0.25]
              %p: f32[N,S,2] = MatMul(%x, %w)
              %y: f32[N,S,2] = Add(%p, %b)
              output %y
            }"#,
        );
    }

    #[test]
    fn a_constant_that_varies_over_space_stays() {
        check_unchanged(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,1,1,2]
              const %w: f32[2,1,1,1] = [3.0, 5.0]
              const %s: f32[2] = [2.0, 4.0]
              %a: f32[N,2,1,2] = Conv(%x, %w)
              %y: f32[N,2,1,2] = Mul(%a, %s)
              output %y
            }"#,
        );
    }
}
