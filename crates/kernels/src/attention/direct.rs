//! Attention one query at a time, for any floating-point type; it can also tell its scores.

use super::{Attention, AttentionMask, MaskValues};
use crate::elementwise::{Float, Wide};

/// Which stage of the scores `[batch, heads, queries, keys]` to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// Scaled products.
    Raw,
    /// After the cap.
    Capped,
    /// After the mask.
    Masked,
    /// After the softmax.
    Weights,
}

/// The twin of [`super::attention`] for every floating-point type, on this thread. `scores` takes a
/// stage of the scores.
///
/// # Panics
/// If an operand's length does not fit the shape.
#[allow(clippy::too_many_arguments, reason = "operands of one operator")]
pub fn attention_direct<T: Float>(
    a: &Attention<'_>,
    mask: Option<AttentionMask<'_, T>>,
    q: &[T],
    k: &[T],
    v: &[T],
    out: &mut [T],
    mut scores: Option<(Scores, &mut [T])>,
) {
    a.check(q.len(), k.len(), v.len(), out.len());
    if let Some(mask) = &mask {
        mask.check(a);
    }
    let zero = <T::Wide as Wide>::of(0.0);
    let mut row = vec![zero; a.keys];
    let mut sums = vec![zero; a.out.columns()];
    for index in 0..a.batch * a.heads * a.queries {
        let (head_row, query) = (index / a.queries, index % a.queries);
        let (batch, head) = (head_row / a.heads, head_row % a.heads);
        let mut keep = |stage: Scores, row: &[T::Wide]| {
            if let Some((wanted, scores)) = &mut scores
                && *wanted == stage
            {
                let to = &mut scores[index * a.keys..][..a.keys];
                to.iter_mut().zip(row).for_each(|(to, &x)| *to = T::narrow(x));
            }
        };
        let kv_head = a.kv_head(head);
        let depth = a.q.columns();
        let query_row = &q[a.q.row(batch, head, query)..][..depth];
        for (j, score) in row.iter_mut().enumerate() {
            let key = &k[a.k.row(batch, kv_head, j)..][..depth];
            let sum = query_row.iter().zip(key).fold(zero, |s, (x, y)| s + x.widen() * y.widen());
            *score = sum * <T::Wide as Wide>::of(a.scale.into());
        }
        keep(Scores::Raw, &row);
        if a.softcap != 0.0 {
            let cap = <T::Wide as Wide>::of(a.softcap.into());
            row.iter_mut().for_each(|x| *x = (*x / cap).apply(f32::tanh, f64::tanh) * cap);
        }
        keep(Scores::Capped, &row);
        bias(a, mask.as_ref(), (batch, head, query), &mut row);
        keep(Scores::Masked, &row);
        softmax(a.zero_if_blind, &mut row);
        keep(Scores::Weights, &row);
        sums.fill(zero);
        for (j, &weight) in row.iter().enumerate() {
            let value = &v[a.v.row(batch, kv_head, j)..][..sums.len()];
            let terms = value.iter().map(|x| weight * x.widen());
            sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum = *sum + term);
        }
        let to = &mut out[a.out.row(batch, head, query)..][..sums.len()];
        to.iter_mut().zip(&sums).for_each(|(to, &x)| *to = T::narrow(x));
    }
}

fn bias<T: Float>(
    a: &Attention<'_>,
    mask: Option<&AttentionMask<'_, T>>,
    (batch, head, query): (usize, usize, usize),
    row: &mut [T::Wide],
) {
    let lowest = <T::Wide as Wide>::of(f64::NEG_INFINITY);
    let seen = a.visible(batch, query);
    for (j, x) in row.iter_mut().enumerate() {
        if let Some(mask) = mask.filter(|mask| j < mask.keys) {
            let at = mask.start(batch, head, query) + j * mask.strides[3];
            match mask.values {
                MaskValues::Add(values) => *x = *x + values[at].widen(),
                MaskValues::Keep(keep) if keep[at] == 0 => *x = lowest,
                MaskValues::Keep(_) => (),
            }
        }
        if !seen.contains(&j) || mask.is_some_and(|mask| j >= mask.keys) {
            *x = lowest;
        }
    }
}

fn softmax<W: Wide>(zero_if_blind: bool, row: &mut [W]) {
    let lowest = W::of(f64::NEG_INFINITY);
    let most = row.iter().fold(lowest, |most, &x| if x > most { x } else { most });
    let blind = row.iter().all(|&x| x <= lowest);
    if blind && zero_if_blind {
        return row.fill(W::of(0.0));
    }
    let mut sum = W::of(0.0);
    for x in row.iter_mut() {
        *x = (*x - most).apply(f32::exp, f64::exp);
        sum = sum + *x;
    }
    row.iter_mut().for_each(|x| *x = *x / sum);
}
