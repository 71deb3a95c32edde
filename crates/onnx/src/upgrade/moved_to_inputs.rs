//! Attributes that became inputs, so that they may be computed.

use landfall_graph::Attribute;
use landfall_tensor::Tensor;

use super::draft::{Draft, Refusal};

/// Makes input `index` of the integers of an attribute, if it is given.
fn ints_to_input(draft: &mut Draft<'_>, name: &str, index: usize) -> Result<bool, Refusal> {
    let Some(values) = draft.take_ints(name)? else { return Ok(false) };
    let id = draft.ints(&values)?;
    draft.set_input(index, Some(id));
    Ok(true)
}

pub(super) fn reshape(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    if ints_to_input(draft, "shape", 1)? { Ok(()) } else { Err("it has no shape".to_owned()) }
}

/// `Squeeze`, `Unsqueeze` and reductions.
pub(super) fn axes(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    ints_to_input(draft, "axes", 1).map(|_| ())
}

pub(super) fn slice(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    for (name, index) in [("starts", 1), ("ends", 2)] {
        if !ints_to_input(draft, name, index)? {
            return Err(format!("attribute '{name}' is required"));
        }
    }
    axes_at(draft, 3)
}

fn axes_at(draft: &mut Draft<'_>, index: usize) -> Result<(), Refusal> {
    ints_to_input(draft, "axes", index).map(|_| ())
}

pub(super) fn top_k(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let k = draft.take_int("k")?.ok_or("attribute 'k' is required")?;
    let k = draft.ints(&[k])?;
    draft.set_input(1, Some(k));
    Ok(())
}

/// The ratio matters in training only, which an input turns on since.
pub(super) fn dropout(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.attributes.remove("ratio");
    Ok(())
}

pub(super) fn pad(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let name = if draft.version < 2 { "paddings" } else { "pads" };
    if !ints_to_input(draft, name, 1)? {
        return Err(format!("attribute '{name}' is required"));
    }
    if let Some(value) = draft.take_float("value")?.filter(|&value| value != 0.0) {
        let data = draft.required(0)?;
        let value = draft.scalar_like(value, data);
        draft.set_input(2, Some(value));
    }
    Ok(())
}

pub(super) fn clip(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let data = draft.required(0)?;
    for (name, index) in [("min", 1), ("max", 2)] {
        if let Some(bound) = draft.take_float(name)? {
            let bound = draft.scalar_like(bound, data);
            draft.set_input(index, Some(bound));
        }
    }
    Ok(())
}

pub(super) fn split(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    ints_to_input(draft, "split", 1).map(|_| ())
}

/// Equal parts were as many as there are outputs.
pub(super) fn count_parts(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    if draft.input(1).is_none() {
        draft.set("num_outputs", Attribute::Int(draft.outputs.len() as i64));
    }
    Ok(())
}

pub(super) fn dft(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let axis = draft.take_int("axis")?.unwrap_or(1);
    let axis = draft.constant(Tensor::scalar(axis));
    draft.set_input(2, Some(axis));
    Ok(())
}
