//! Zero padding before a convolution becomes the convolution's own.

use landfall_graph::infer::resolve_axis;
use landfall_graph::{AutoPad, Op, PadMode, ValueId};

use crate::Effect;
use crate::constants;
use crate::editor::Editor;
use crate::pattern::{Match, Rule, apply};
use crate::pipeline::Pass;

pub(crate) const PASS: Pass =
    Pass { name: "pad-folding", effect: Effect::Exact, run: |editor| apply(editor, RULES) };

const RULES: &[Rule] = &[Rule {
    patterns: &[
        "c:Conv(p:Pad(x, $pads, _, _), w, _)",
        "c:Conv(p:Pad(x, $pads, $value, _), w, _)",
        "c:Conv(p:Pad(x, $pads, $value, $axes), w, _)",
        "c:Conv(p:Pad(x, $pads, _, $axes), w, _)",
        "c:Conv(p:Pad(x, $pads, _, _), w, bias)",
        "c:Conv(p:Pad(x, $pads, $value, _), w, bias)",
        "c:Conv(p:Pad(x, $pads, $value, $axes), w, bias)",
        "c:Conv(p:Pad(x, $pads, _, $axes), w, bias)",
    ],
    replace: fold,
}];

fn fold(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let Op::Pad(pad) = found.op(editor, "p")? else { return None };
    let zero = found.find("value").is_none_or(|value| {
        editor.constant(value).is_some_and(|value| constants::all_equal(value, 0.0))
    });
    if pad.mode != PadMode::Constant || !zero {
        return None;
    }
    let rank = editor.rank(found.get("x")).filter(|&rank| rank >= 3)?;
    let added = spatial(editor, found, rank)?;
    let Op::Conv(mut conv) = found.op(editor, "c")?.clone() else { return None };
    match conv.auto_pad {
        AutoPad::NotSet => (),
        AutoPad::Valid => conv.pads.clear(),
        AutoPad::SameUpper | AutoPad::SameLower => return None,
    }
    conv.auto_pad = AutoPad::NotSet;
    conv.pads.resize(added.len(), 0);
    conv.pads.iter_mut().zip(added).for_each(|(pad, added)| *pad += added);
    let inputs = [Some(found.get("x")), Some(found.get("w")), found.find("bias")];
    Some(editor.append(&found.name(editor), Op::Conv(conv), inputs))
}

/// Padding before, then after every spatial axis; `None` if any is negative or elsewhere.
fn spatial(editor: &Editor<'_>, found: &Match, rank: usize) -> Option<Vec<i64>> {
    let pads = editor.ints(found.get("pads"))?;
    let axes: Vec<usize> = match found.find("axes") {
        Some(axes) => {
            let axes = editor.ints(axes)?;
            axes.iter().map(|&axis| resolve_axis(axis, rank).ok()).collect::<Option<_>>()?
        }
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() || pads.iter().any(|&pad| pad < 0) {
        return None;
    }
    let mut added = vec![0; 2 * (rank - 2)];
    for (i, &axis) in axes.iter().enumerate() {
        let (before, after) = (pads[i], pads[i + axes.len()]);
        if axis >= 2 {
            added[axis - 2] = before;
            added[axis - 2 + rank - 2] = after;
        } else if (before, after) != (0, 0) {
            return None;
        }
    }
    Some(added)
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::{check, check_unchanged};

    #[test]
    fn spatial_zeros_fold() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,1,4,4]
              input %w: f32[2,1,3,3]
              const %pads: i64[8] = [0, 0, 1, 2, 0, 0, 3, 4]
              %p: f32[N,1,8,10] = Pad(%x, %pads)
              %y: f32[N,2,8,10] = Conv(%p, %w) {pads=[1,1,1,1]}
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,1,4,4]
              input %w: f32[2,1,3,3]
              %y: f32[N,2,8,10] = Conv(%x, %w) {pads=[2,3,4,5]}
              output %y
            }"#,
        );
    }

    #[test]
    fn padded_channels_stay() {
        check_unchanged(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,1,4,4]
              input %w: f32[2,2,3,3]
              const %pads: i64[8] = [0, 1, 0, 0, 0, 0, 0, 0]
              %p: f32[N,2,4,4] = Pad(%x, %pads)
              %y: f32[N,2,2,2] = Conv(%p, %w)
              output %y
            }"#,
        );
    }
}
