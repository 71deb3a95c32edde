//! Layer and RMS normalisation spelt out become the operators.
//!
//! Sources: J. Ba et al. (2016), Layer normalization; B. Zhang and R. Sennrich (2019), RMSNorm.

use landfall_graph::infer::resolve_axis;
use landfall_graph::{Op, ValueId, ops};
use landfall_tensor::{DType, Shape};

use crate::Effect;
use crate::constants;
use crate::editor::Editor;
use crate::pattern::{Match, Rule, apply};
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass {
    name: "normalization-fusion",
    effect: Effect::Reassociating,
    run: |editor| apply(editor, RULES) + apply(editor, AFFINE),
};

const RULES: &[Rule] = &[
    Rule {
        patterns: &[
            "Div(d:Sub(x, m:ReduceMean(x, $over)), \
             Sqrt(Add(v:ReduceMean(Mul(d, d), $axes), #epsilon)))",
            "Mul(d:Sub(x, m:ReduceMean(x, $over)), \
             Reciprocal(Sqrt(Add(v:ReduceMean(Mul(d, d), $axes), #epsilon))))",
        ],
        replace: layer_norm,
    },
    Rule {
        patterns: &["Add(Mul(x, s:Mul(Reciprocal(Sqrt(Add(v:ReduceMean(Mul(d:Sub(x, \
             m:ReduceMean(x, $over)), d), $axes), #epsilon))), $scale)), Sub($shift, Mul(m, s)))"],
        replace: layer_norm,
    },
    Rule {
        patterns: &[
            "Div(x, Sqrt(Add(v:ReduceMean(Mul(x, x), $axes), #epsilon)))",
            "Mul(x, Reciprocal(Sqrt(Add(v:ReduceMean(Mul(x, x), $axes), #epsilon))))",
        ],
        replace: rms_norm,
    },
];

/// A scale and a shift after a norm that has none yet: its scale is all ones, its shift absent.
const AFFINE: &[Rule] = &[
    Rule { patterns: &["Mul(n:LayerNormalization(x, $ones), $scale)"], replace: with_scale },
    Rule { patterns: &["Mul(n:RMSNormalization(x, $ones), $scale)"], replace: with_scale },
    Rule { patterns: &["Add(n:LayerNormalization(x, $ones), $shift)"], replace: with_shift },
];

/// Whether every reduction runs over the last axis and keeps it.
fn over_last_axis(editor: &Editor<'_>, found: &Match) -> bool {
    let Some(rank) = editor.rank(found.get("x")) else { return false };
    let last = |name| {
        let axes = found.find(name).and_then(|axes| editor.ints(axes));
        axes.is_some_and(|axes| axes.len() == 1 && resolve_axis(axes[0], rank) == Ok(rank - 1))
    };
    let kept = |name| match found.op(editor, name) {
        Some(Op::ReduceMean(op)) => op.keepdims,
        _ => false,
    };
    let mean = found.find("m").is_none() || (kept("m") && last("over"));
    rank > 0 && mean && kept("v") && last("axes")
}

/// Extent of the last axis of the norm's operand.
fn width(editor: &Editor<'_>, found: &Match) -> Option<usize> {
    editor.dims(found.get("x"))?.last()?.known()
}

/// A constant of one row of the last axis, as a vector.
fn row(editor: &mut Editor<'_>, value: ValueId, width: usize) -> Option<ValueId> {
    let row = constants::per_channel(editor.constant(value)?, width, 0)?;
    let tensor = constants::tensor(&[width], &row)?;
    Some(editor.add_constant(tensor))
}

fn ones(editor: &mut Editor<'_>, width: usize) -> Option<ValueId> {
    let tensor = constants::tensor(&[width], &vec![1.0; width])?;
    Some(editor.add_constant(tensor))
}

fn layer_norm(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    if !over_last_axis(editor, found) || editor.dtype(found.get("x")) != Some(DType::F32) {
        return None;
    }
    let width = width(editor, found)?;
    let epsilon = editor.scalar(found.get("epsilon"))?;
    let scale = match found.find("scale") {
        Some(scale) => row(editor, scale, width)?,
        None => ones(editor, width)?,
    };
    let shift = match found.find("shift") {
        Some(shift) => Some(row(editor, shift, width)?),
        None => None,
    };
    let op = ops::LayerNormalization { axis: -1, epsilon, stash_type: Some(DType::F32) };
    let inputs = [Some(found.get("x")), Some(scale), shift];
    Some(editor.append(&found.name(editor), Op::LayerNormalization(op), inputs))
}

fn rms_norm(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    if !over_last_axis(editor, found) || editor.dtype(found.get("x")) != Some(DType::F32) {
        return None;
    }
    let width = width(editor, found)?;
    let epsilon = editor.scalar(found.get("epsilon"))?;
    let scale = ones(editor, width)?;
    let op = ops::RmsNormalization { axis: -1, epsilon, stash_type: Some(DType::F32) };
    let inputs = [Some(found.get("x")), Some(scale)];
    Some(editor.append(&found.name(editor), Op::RmsNormalization(op), inputs))
}

/// Whether the match's norm runs over the last axis and its scale is all ones.
fn bare(editor: &Editor<'_>, found: &Match) -> bool {
    let axis = match found.op(editor, "n") {
        Some(Op::LayerNormalization(op)) => op.axis,
        Some(Op::RmsNormalization(op)) => op.axis,
        _ => return false,
    };
    let scale = editor.constant(found.get("ones"));
    axis == -1 && scale.is_some_and(|t| constants::all_equal(t, 1.0) && t.shape().rank() == 1)
}

fn with_scale(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let room = editor.rank(found.get("x"))?;
    let fits = editor.constant(found.get("scale"))?.shape().rank() <= room;
    if !fits || !bare(editor, found) {
        return None;
    }
    let op = found.op(editor, "n")?.clone();
    let width = width(editor, found)?;
    let scale = row(editor, found.get("scale"), width)?;
    Some(editor.append(&found.name(editor), op, [Some(found.get("x")), Some(scale)]))
}

fn with_shift(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let room = editor.rank(found.get("x"))?;
    let Op::LayerNormalization(op) = found.op(editor, "n")?.clone() else { return None };
    let scale = editor.constant(found.get("ones"))?;
    let fits = editor.constant(found.get("shift"))?.shape().rank() <= room;
    let width = width(editor, found)?;
    if !fits || op.axis != -1 || *scale.shape() != Shape::from([width]) {
        return None;
    }
    let shift = row(editor, found.get("shift"), width)?;
    let inputs = [Some(found.get("x")), Some(found.get("ones")), Some(shift)];
    Some(editor.append(&found.name(editor), Op::LayerNormalization(op), inputs))
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::passes::canonical;
    use crate::testing::{check, check_unchanged};

    #[test]
    fn layer_norm_in_nine_pieces() {
        check(
            &[canonical::PASS, PASS],
            r#"graph "g" {
              input %x: f32[N,S,2]
              const %axes: i64[1] = [-1]
              const %two: f32[] = [2.0]
              const %eps: f32[] = [1e-5]
              const %g: f32[2] = [2.0, 3.0]
              const %b: f32[2] = [0.5, -0.5]
              %m = ReduceMean(%x, %axes)
              %d = Sub(%x, %m)
              %q = Pow(%d, %two)
              %v = ReduceMean(%q, %axes)
              %e = Add(%v, %eps)
              %r = Sqrt(%e)
              %n = Div(%d, %r)
              %s = Mul(%n, %g)
              %y = Add(%s, %b)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,S,2]
              const %g: f32[2] = [2.0, 3.0]
              const %b: f32[2] = [0.5, -0.5]
              %y: f32[N,S,2] = LayerNormalization(%x, %g, %b)
              output %y
            }"#,
        );
    }

    #[test]
    fn rms_norm_by_reciprocal_root() {
        check(
            &[canonical::PASS, PASS],
            r#"graph "g" {
              input %x: f32[N,2]
              const %axes: i64[1] = [-1]
              const %one: f32[] = [1.0]
              const %eps: f32[] = [1e-6]
              const %g: f32[2] = [2.0, 3.0]
              %q = Mul(%x, %x)
              %v = ReduceMean(%q, %axes)
              %e = Add(%v, %eps)
              %r = Sqrt(%e)
              %i = Div(%one, %r)
              %n = Mul(%x, %i)
              %y = Mul(%g, %n)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,2]
              const %g: f32[2] = [2.0, 3.0]
              %y: f32[N,2] = RMSNormalization(%x, %g) {epsilon=1e-6}
              output %y
            }"#,
        );
    }

    #[test]
    fn another_axis_is_another_norm() {
        check_unchanged(
            &[PASS],
            r#"graph "g" {
              input %x: f32[3,2]
              const %axes: i64[1] = [0]
              const %eps: f32[] = [1e-6]
              %q: f32[3,2] = Mul(%x, %x)
              %v: f32[1,2] = ReduceMean(%q, %axes)
              %e: f32[1,2] = Add(%v, %eps)
              %r: f32[1,2] = Sqrt(%e)
              %y: f32[3,2] = Div(%x, %r)
              output %y
            }"#,
        );
    }
}
