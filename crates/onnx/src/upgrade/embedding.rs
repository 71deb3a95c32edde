//! Embeddings of ONNX Runtime's transformer operators.

use landfall_graph::{Attribute, Op, ValueId, ops};
use landfall_tensor::DType;

use super::draft::{Draft, Refusal};

/// `EmbedLayerNormalization(input_ids [B, S], segment_ids?, word, position, segment?, scale, shift,
/// mask? [B, S], position_ids?)`: the normalised sum of the embeddings, the lengths `[B]` that the
/// mask stands for, and the sum itself.
pub(super) fn embed_layer_normalization(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.attributes.remove("mask_index_type");
    let word = gather_rows(draft, 2, 0)?;
    let position = positions(draft)?;
    let mut sum = draft.before(Op::Add, [word, position]);
    if draft.input(1).is_some() {
        let segment = gather_rows(draft, 4, 1)?;
        sum = draft.before(Op::Add, [sum, segment]);
    }
    if draft.gives(1) {
        let mask = draft.input(7).ok_or("output 1 without a mask is not supported")?;
        let cast = ops::Cast { round_mode: "up".to_owned(), saturate: true, to: DType::I32 };
        let mask = draft.before(Op::Cast(cast), [mask]);
        let axes = draft.ints(&[1])?;
        let reduce = ops::ReduceSum { keepdims: false, noop_with_empty_axes: false };
        let output = draft.outputs[1];
        draft.behind.push((Op::ReduceSum(reduce), vec![Some(mask), Some(axes)], output));
    }
    if draft.gives(2) {
        draft.behind.push((Op::Identity, vec![Some(sum)], draft.outputs[2]));
    }
    draft.outputs.truncate(1);
    draft.inputs = vec![Some(sum), Some(draft.required(5)?), draft.input(6)];
    draft.set_default("epsilon", Attribute::Float(1e-12));
    draft.become_standard("LayerNormalization");
    Ok(())
}

/// Rows of the table that is input `table`, at the ids of input `ids`.
fn gather_rows(draft: &mut Draft<'_>, table: usize, ids: usize) -> Result<ValueId, Refusal> {
    let (table, ids) = (draft.required(table)?, draft.required(ids)?);
    Ok(draft.before(Op::Gather(ops::Gather { axis: 0 }), [table, ids]))
}

fn positions(draft: &mut Draft<'_>) -> Result<ValueId, Refusal> {
    if draft.input(8).is_some() {
        return gather_rows(draft, 3, 8);
    }
    let (ids, table) = (draft.required(0)?, draft.required(3)?);
    let length = draft.before(Op::Shape(ops::Shape { end: Some(2), start: 1 }), [ids]);
    let zero = draft.ints(&[0])?;
    Ok(draft.before(Op::Slice, [table, zero, length, zero]))
}

/// `RotaryEmbedding(x, position_ids [B, S], cos, sin)`: the standard operator takes the positions
/// last.
pub(super) fn rotary(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.require_int("is_packed_batching", 0)?;
    if draft.take_float("scale")?.is_some_and(|scale| scale != 1.0) {
        return Err("a scale is not supported".to_owned());
    }
    let (x, position_ids) = (draft.required(0)?, draft.required(1)?);
    if draft.rank(position_ids)? != 2 {
        return Err("position_ids as one offset are not supported".to_owned());
    }
    let heads = matches!(draft.attributes.get("num_heads"), Some(Attribute::Int(1..)));
    if !heads {
        draft.attributes.remove("num_heads");
        if draft.rank(x)? != 4 {
            return Err("num_heads is required for an input of 3 axes".to_owned());
        }
    }
    draft.inputs = vec![Some(x), draft.input(2), draft.input(3), Some(position_ids)];
    draft.become_standard("RotaryEmbedding");
    Ok(())
}
