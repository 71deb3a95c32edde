//! Softmax and its kin before operator set 13 took all axes from `axis` on as one.

use landfall_graph::{Attribute, Dim, Op, ops};

use super::draft::{Draft, Refusal};

/// One inner axis that is longer than 1 (or none) makes no difference; otherwise the operand is
/// flattened to `[outer, inner]`, and the result gets its shape back.
pub(super) fn over_all_inner_axes(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let x = draft.required(0)?;
    let axis = draft.take_int("axis")?.unwrap_or(1);
    if let Some(single) = single_axis(draft.dims(x), axis) {
        draft.set("axis", Attribute::Int(single));
        return Ok(());
    }
    let shape = draft.before(Op::Shape(ops::Shape { end: None, start: 0 }), [x]);
    let flat = draft.before(Op::Flatten(ops::Flatten { axis }), [x]);
    draft.set_input(0, Some(flat));
    draft.set("axis", Attribute::Int(-1));
    draft.behind(0, Op::Reshape(ops::Reshape { allowzero: false }), [shape]);
    Ok(())
}

/// The axis that alone makes up all axes from `axis` on, if that is known.
fn single_axis(dims: Option<Vec<Dim>>, axis: i64) -> Option<i64> {
    if axis == -1 {
        return Some(axis);
    }
    let dims = dims?;
    let first = usize::try_from(if axis < 0 { axis + dims.len() as i64 } else { axis }).ok()?;
    let long = |&axis: &usize| dims[axis].known() != Some(1);
    let mut inner = (first..dims.len()).filter(long);
    match (inner.next(), inner.next()) {
        (Some(axis), None) => Some(axis as i64),
        (None, _) if first < dims.len() => Some(first as i64),
        _ => None,
    }
}
