//! Normalisation layers.

use landfall_graph::{Attribute, Op, ValueId, ops};

use super::draft::{Draft, Refusal};

/// Before operator set 14 more outputs than one meant training.
pub(super) fn batch(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.require_int("spatial", 1)?;
    match (1..draft.outputs.len()).any(|index| draft.gives(index)) {
        true => Err("it is in training mode (more than one output)".to_owned()),
        false => Ok(()),
    }
}

/// Before operator set 21, scale and bias had a value per group `[groups]`; now per channel `[C]`.
pub(super) fn group(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let Some(Attribute::Int(groups)) = draft.attributes.get("num_groups") else {
        return Err("attribute 'num_groups' is required".to_owned());
    };
    let groups = *groups;
    let x = draft.required(0)?;
    let channels = draft.before(Op::Shape(ops::Shape { end: Some(2), start: 1 }), [x]);
    let groups = draft.ints(&[groups])?;
    let repeats = draft.before(Op::Div, [channels, groups]);
    let target = draft.before(Op::Concat(ops::Concat { axis: 0 }), [groups, repeats]);
    for index in [1, 2] {
        let per_group = draft.required(index)?;
        let (column, flat) = (draft.ints(&[-1, 1])?, draft.ints(&[-1])?);
        let reshape = || Op::Reshape(ops::Reshape { allowzero: false });
        let per_group = draft.before(reshape(), [per_group, column]);
        let per_channel = draft.before(Op::Expand, [per_group, target]);
        let per_channel = draft.before(reshape(), [per_channel, flat]);
        draft.set_input(index, Some(per_channel));
    }
    Ok(())
}

/// `SimplifiedLayerNormalization(x, scale)` is the first name of `RMSNormalization`.
pub(super) fn simplified(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.refuse_outputs(&[1])?;
    draft.outputs.truncate(1);
    draft.become_standard("RMSNormalization");
    Ok(())
}

/// `SkipLayerNormalization(x, skip, scale, shift?, bias?)`, with the sum as output 3.
pub(super) fn skip_layer(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let sum = skip_sum(draft, 4)?;
    draft.inputs = vec![Some(sum), Some(draft.required(2)?), draft.input(3)];
    draft.set_default("epsilon", Attribute::Float(1e-12));
    draft.become_standard("LayerNormalization");
    Ok(())
}

/// `SkipSimplifiedLayerNormalization(x, skip, scale, bias?)`, with the sum as output 3.
pub(super) fn skip_simplified(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let sum = skip_sum(draft, 3)?;
    draft.inputs = vec![Some(sum), Some(draft.required(2)?)];
    draft.set_default("epsilon", Attribute::Float(1e-12));
    draft.become_standard("RMSNormalization");
    Ok(())
}

fn skip_sum(draft: &mut Draft<'_>, bias: usize) -> Result<ValueId, Refusal> {
    draft.refuse_outputs(&[1, 2])?;
    let (x, skip) = (draft.required(0)?, draft.required(1)?);
    let mut sum = draft.before(Op::Add, [x, skip]);
    if let Some(bias) = draft.input(bias) {
        sum = draft.before(Op::Add, [sum, bias]);
    }
    if draft.gives(3) {
        draft.behind.push((Op::Identity, vec![Some(sum)], draft.outputs[3]));
    }
    draft.outputs.truncate(1);
    Ok(sum)
}
