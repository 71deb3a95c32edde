//! Convolutions with constant weights become `FusedConv`, their padding explicit.

use landfall_graph::infer::Window;
use landfall_graph::{Activation, AutoPad, Op, ValueId, ops};
use landfall_tensor::DType;

use crate::Effect;
use crate::editor::Editor;
use crate::pattern::{Match, Rule, apply};
use crate::pipeline::Pass;

pub(crate) const PASS: Pass =
    Pass { name: "conv-fusion", effect: Effect::Exact, run: |editor| apply(editor, RULES) };

const RULES: &[Rule] =
    &[Rule { patterns: &["c:Conv(x, $w, _)", "c:Conv(x, $w, bias)"], replace: fuse }];

fn fuse(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let Op::Conv(op) = found.op(editor, "c")?.clone() else { return None };
    let weight = editor.constant(found.get("w"))?;
    if weight.dtype() != DType::F32 || weight.shape().rank() < 3 {
        return None;
    }
    let kernel = weight.shape()[2..].to_vec();
    let spatial = kernel.len();
    let ones_if_empty = |list: &[i64]| {
        if list.is_empty() { vec![1; spatial] } else { list.to_vec() }
    };
    let (strides, dilations) = (ones_if_empty(&op.strides), ones_if_empty(&op.dilations));
    let pads = match op.auto_pad {
        AutoPad::NotSet if op.pads.is_empty() => vec![0; 2 * spatial],
        AutoPad::NotSet => op.pads.clone(),
        AutoPad::Valid => vec![0; 2 * spatial],
        AutoPad::SameUpper | AutoPad::SameLower => {
            let window = Window {
                auto_pad: op.auto_pad,
                kernel: &kernel,
                strides: &strides,
                dilations: &dilations,
                pads: &[],
                ceil_mode: false,
            };
            same(editor, found.get("x"), &window)?
        }
    };
    if [strides.len(), dilations.len(), pads.len()] != [spatial, spatial, 2 * spatial] {
        return None;
    }
    let op = ops::FusedConv {
        activation: Activation::None,
        channels_last: false,
        dilations,
        group: op.group,
        pads,
        strides,
    };
    let inputs = [Some(found.get("x")), Some(found.get("w")), found.find("bias")];
    Some(editor.append(&found.name(editor), Op::FusedConv(op), inputs))
}

/// The explicit padding of `SAME_*`, if the spatial extents are known.
pub(super) fn same(editor: &Editor<'_>, x: ValueId, window: &Window<'_>) -> Option<Vec<i64>> {
    let extents: Vec<usize> =
        editor.dims(x)?.get(2..)?.iter().map(|dim| dim.known()).collect::<Option<_>>()?;
    if extents.len() != window.kernel.len() {
        return None;
    }
    let axes = extents
        .iter()
        .enumerate()
        .map(|(axis, &extent)| window.resolve(axis, extent).ok())
        .collect::<Option<Vec<_>>>()?;
    let pads = axes.iter().map(|a| a.pad_begin).chain(axes.iter().map(|a| a.pad_end));
    pads.map(|pad| i64::try_from(pad).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check;

    #[test]
    fn same_padding_becomes_explicit() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,1,4,4]
              const %w: f32[1,1,2,2] = [1.0, 2.0, 3.0, 4.0]
              %y: f32[N,1,4,4] = Conv(%x, %w) {auto_pad="SAME_LOWER"}
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,1,4,4]
              const %w: f32[1,1,2,2] = [1.0, 2.0, 3.0, 4.0]
              %y: f32[N,1,4,4] = landfall.FusedConv(%x, %w)
                {pads=[1,1,0,0], strides=[1,1], dilations=[1,1]}
              output %y
            }"#,
        );
    }
}
