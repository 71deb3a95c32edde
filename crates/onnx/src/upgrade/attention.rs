//! Attention operators of ONNX Runtime in terms of the standard one.
//!
//! Their masks are integers, 0 for what is padding; the standard operator takes what is added to
//! the scores, so a mask becomes 0 or `mask_filter_value`. States from earlier steps (`past`,
//! `present`) are not supported.

use landfall_graph::{Attribute, Op, ValueId, ops};
use landfall_tensor::{DType, Tensor};

use super::draft::{Draft, Refusal};

/// Query, key and value, each `[B, S, heads * head_size]`.
type Projections = [ValueId; 3];

/// `Attention(x [B, S, D], weights [D, 3 H], bias? [3 H], mask?, past?, scores_bias?)`.
pub(super) fn packed(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.require_int("do_rotary", 0)?;
    draft.refuse_inputs(&[4, 6])?;
    let (x, weights) = (draft.required(0)?, draft.required(1)?);
    let mut projected = draft.before(Op::MatMul, [x, weights]);
    if let Some(bias) = draft.input(2) {
        projected = draft.before(Op::Add, [projected, bias]);
    }
    let sizes = draft.take_ints("qkv_hidden_sizes")?.filter(|sizes| !sizes.is_empty());
    let projections = split(draft, projected, sizes)?;
    attend(draft, projections, draft.input(3), draft.input(5))
}

/// `QAttention(x, weights, bias, x_scale, weights_scale, mask?, x_zero?, weights_zero?, past?)`.
pub(super) fn packed_quantized(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.require_int("do_rotary", 0)?;
    draft.refuse_inputs(&[8])?;
    let scales = [draft.required(3)?, draft.required(4)?];
    let scale = draft.before(Op::Mul, scales);
    let operands = vec![draft.input(0), draft.input(1), draft.input(6), draft.input(7)];
    let product = draft.before_with(Op::MatMulInteger, operands);
    let cast = ops::Cast { round_mode: "up".to_owned(), saturate: true, to: DType::F32 };
    let product = draft.before(Op::Cast(cast), [product]);
    let product = draft.before(Op::Mul, [product, scale]);
    let bias = draft.required(2)?;
    let projected = draft.before(Op::Add, [product, bias]);
    let projections = split(draft, projected, None)?;
    attend(draft, projections, draft.input(5), None)
}

/// `MultiHeadAttention(q, k, v, bias?, key_padding_mask?, scores_bias?, past...)`.
pub(super) fn multi_head(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.refuse_inputs(&[6, 7, 8, 9])?;
    let mut projections = [draft.required(0)?, draft.required(1)?, draft.required(2)?];
    for projection in projections {
        if draft.rank(projection)? != 3 {
            return Err("only separate operands [B, S, H] are supported".to_owned());
        }
    }
    if let Some(bias) = draft.input(3) {
        let extent = |draft: &Draft<'_>, id| {
            let width = draft.dims(id).and_then(|dims| dims.last()?.known());
            width.map(|n| n as i64).ok_or("the hidden size is not known")
        };
        let sizes = projections.map(|id| extent(draft, id));
        let sizes = sizes.into_iter().collect::<Result<Vec<_>, _>>()?;
        let parts = split(draft, bias, Some(sizes))?;
        for (projection, part) in projections.iter_mut().zip(parts) {
            *projection = draft.before(Op::Add, [*projection, part]);
        }
    }
    attend(draft, projections, draft.input(4), draft.input(5))
}

/// Parts of the last axis, of equal size if no sizes are given.
fn split(
    draft: &mut Draft<'_>,
    packed: ValueId,
    sizes: Option<Vec<i64>>,
) -> Result<Projections, Refusal> {
    let num_outputs = if sizes.is_some() { None } else { Some(3) };
    let op = Op::Split(ops::Split { axis: -1, num_outputs });
    let mut inputs = vec![Some(packed)];
    if let Some(sizes) = sizes {
        inputs.push(Some(draft.ints(&sizes)?));
    }
    Ok(draft.before_several(op, inputs))
}

/// Makes the node the standard operator.
fn attend(
    draft: &mut Draft<'_>,
    projections: Projections,
    mask: Option<ValueId>,
    scores_bias: Option<ValueId>,
) -> Result<(), Refusal> {
    draft.refuse_outputs(&[1, 2, 3])?;
    draft.outputs.truncate(1);
    let heads = draft.take_int("num_heads")?.ok_or("attribute 'num_heads' is required")?;
    let filter = draft.take_float("mask_filter_value")?.unwrap_or(-10_000.0);
    let causal = draft.take_int("unidirectional")?.unwrap_or(0);
    if draft.attributes.get("scale") == Some(&Attribute::Float(0.0)) {
        draft.attributes.remove("scale");
    }
    let mut added = scores_bias;
    if let Some(mask) = mask {
        let penalty = penalty(draft, mask, projections, filter)?;
        added = Some(match added {
            Some(bias) => draft.before(Op::Add, [bias, penalty]),
            None => penalty,
        });
    }
    let [query, key, value] = projections.map(Some);
    draft.inputs = vec![query, key, value, added];
    draft.become_standard("Attention");
    draft.set("q_num_heads", Attribute::Int(heads));
    draft.set("kv_num_heads", Attribute::Int(heads));
    draft.set("is_causal", Attribute::Int(causal));
    Ok(())
}

/// What a mask adds to the scores `[B, heads, S, T]`. The mask is `[B, T]`, `[B, S, T]`, or the
/// number of keys that are no padding, `[B]`. Longer vectors, which stand for padding on the left,
/// do not broadcast to the batch, so they fail when run.
fn penalty(
    draft: &mut Draft<'_>,
    mask: ValueId,
    [query, key, _]: Projections,
    filter: f32,
) -> Result<ValueId, Refusal> {
    let dims = draft.dims(mask).ok_or("the rank of the mask is not known")?;
    let keep = match dims.as_slice() {
        [_] => within_length(draft, mask, key)?,
        [_, _] | [_, _, _] => {
            let zero = draft.constant(Tensor::scalar(0i32));
            draft.before(Op::Greater, [mask, zero])
        }
        _ => return Err(format!("a mask of {} axes is not supported", dims.len())),
    };
    let axes: &[i64] = if dims.len() == 3 { &[1] } else { &[1, 2] };
    let axes = draft.ints(axes)?;
    let keep = draft.before(Op::Unsqueeze, [keep, axes]);
    let (zero, filter) = (draft.scalar_like(0.0, query), draft.scalar_like(filter, query));
    Ok(draft.before(Op::Where, [keep, zero, filter]))
}

/// Whether each key `[B, T]` comes before its row's length `[B]`.
fn within_length(
    draft: &mut Draft<'_>,
    lengths: ValueId,
    key: ValueId,
) -> Result<ValueId, Refusal> {
    let keys = draft.before(Op::Shape(ops::Shape { end: Some(2), start: 1 }), [key]);
    let axis = draft.ints(&[0])?;
    let keys = draft.before(Op::Squeeze, [keys, axis]);
    let (zero, one) = (draft.constant(Tensor::scalar(0i64)), draft.constant(Tensor::scalar(1i64)));
    let range = ops::Range { stash_type: Some(DType::F32) };
    let positions = draft.before(Op::Range(range), [zero, keys, one]);
    let axis = draft.ints(&[1])?;
    let lengths = draft.before(Op::Unsqueeze, [lengths, axis]);
    let cast = ops::Cast { round_mode: "up".to_owned(), saturate: true, to: DType::I64 };
    let lengths = draft.before(Op::Cast(cast), [lengths]);
    Ok(draft.before(Op::Less, [positions, lengths]))
}
