//! Small differences of the oldest operator sets.

use landfall_graph::{Attribute, Op, ops};
use landfall_tensor::DType;

use super::draft::{Draft, Refusal};
use crate::dtype;

/// An execution hint of the first operator sets.
pub(super) fn drop_consumed_inputs(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.attributes.remove("consumed_inputs");
    Ok(())
}

/// `p` was a float.
pub(super) fn make_p_whole(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    if let Some(p) = draft.take_float("p")? {
        if p.fract() != 0.0 || !(1.0..=1e6).contains(&p) {
            return Err(format!("p = {p} is not supported, only whole numbers"));
        }
        draft.set("p", Attribute::Int(p as i64));
    }
    Ok(())
}

/// The axis had a default.
pub(super) fn concat_along_channels(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.set_default("axis", Attribute::Int(1));
    Ok(())
}

/// The type was given by name.
pub(super) fn number_cast_type(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let Some(name) = draft.take_text("to")? else { return Ok(()) };
    let dtype = match name.as_str() {
        "FLOAT" => DType::F32,
        "DOUBLE" => DType::F64,
        "FLOAT16" => DType::F16,
        "INT8" => DType::I8,
        "UINT8" => DType::U8,
        "INT16" => DType::I16,
        "UINT16" => DType::U16,
        "INT32" => DType::I32,
        "UINT32" => DType::U32,
        "INT64" => DType::I64,
        "UINT64" => DType::U64,
        "BOOL" => DType::Bool,
        other => return Err(format!("datatype {other} is not supported")),
    };
    draft.set("to", Attribute::Int(dtype::to_code(dtype)));
    Ok(())
}

/// The constants had fewer digits.
pub(super) fn round_selu_constants(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.set_default("alpha", Attribute::Float(1.6732));
    draft.set_default("gamma", Attribute::Float(1.0507));
    Ok(())
}

/// Training and inference were told apart by an attribute whose default is training.
pub(super) fn require_test_mode(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    match draft.take_int("is_test")? {
        Some(1) => Ok(()),
        _ => Err("it is in training mode (is_test is not 1)".to_owned()),
    }
}

/// A hint which outputs are wanted.
pub(super) fn drop_output_sequence(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.attributes.remove("output_sequence");
    Ok(())
}

/// The mask had the datatype of the data.
pub(super) fn cast_mask(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    if draft.gives(1) {
        let data = draft.required(0)?;
        let cast = ops::CastLike { round_mode: "up".to_owned(), saturate: true };
        draft.behind(1, Op::CastLike(cast), [data]);
    }
    Ok(())
}

/// The first name of `ScatterElements`.
pub(super) fn scatter(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.become_standard("ScatterElements");
    Ok(())
}

/// An early form of another shape.
pub(super) fn refuse(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    Err(format!("its form in opset {} is not supported: export with a newer opset", draft.version))
}
