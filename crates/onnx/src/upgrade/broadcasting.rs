//! Operator sets before 7 broadcast on request only, and could name the axis to begin at.

use landfall_graph::Op;

use super::draft::{Draft, Refusal};

/// `b`'s axes stood at `axis` of `a`; now they stand last.
pub(super) fn align_to_axis(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let broadcast = draft.take_int("broadcast")?.unwrap_or(0);
    let Some(axis) = draft.take_int("axis")? else { return Ok(()) };
    if broadcast == 0 {
        return Ok(());
    }
    let (a, b) = (draft.required(0)?, draft.required(1)?);
    let (rank_a, rank_b) = (draft.rank(a)? as i64, draft.rank(b)? as i64);
    let axis = if axis < 0 { axis.saturating_add(rank_a) } else { axis };
    if axis < 0 || axis > rank_a - rank_b {
        return Err(format!("axis {axis} does not leave room for {rank_b} axes of {rank_a}"));
    }
    let missing = rank_a - axis - rank_b;
    if missing > 0 {
        let axes: Vec<i64> = (rank_b..rank_b + missing).collect();
        let axes = draft.ints(&axes)?;
        let aligned = draft.before(Op::Unsqueeze, [b, axes]);
        draft.set_input(1, Some(aligned));
    }
    Ok(())
}

/// A slope of one axis held a value per channel.
pub(super) fn align_slope(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    let (x, slope) = (draft.required(0)?, draft.required(1)?);
    let dims = draft.dims(slope).ok_or("the slope's shape is not known")?;
    let [extent] = dims.as_slice() else { return Ok(()) };
    if extent.known() == Some(1) {
        return Ok(());
    }
    let inner = draft.rank(x)?.saturating_sub(2) as i64;
    if inner > 0 {
        let axes: Vec<i64> = (1..=inner).collect();
        let axes = draft.ints(&axes)?;
        let aligned = draft.before(Op::Unsqueeze, [slope, axes]);
        draft.set_input(1, Some(aligned));
    }
    Ok(())
}

/// What `broadcast` asked for is the rule now.
pub(super) fn gemm(draft: &mut Draft<'_>) -> Result<(), Refusal> {
    draft.attributes.remove("broadcast");
    Ok(())
}
