//! Attention spelt out, head split and all, becomes `FusedAttention`, which needs no transposes.
//!
//! ```text
//! out = Reshape(Transpose(MatMul(Softmax(scores [+ mask]), heads(v))))
//! scores = MatMul(heads(q), heads(k)ᵀ), scaled anywhere between the operands and the mask
//! heads(x) = Transpose(Reshape(x [B, S, H D] → [B, S, H, D]) → [B, H, S, D])
//! ```
//!
//! Source: A. Vaswani et al. (2017), Attention is all you need.

use landfall_graph::infer::resolve_axis;
use landfall_graph::{Op, ValueId, ops};
use landfall_tensor::DType;

use super::transpose::permutation;
use crate::Effect;
use crate::constants;
use crate::editor::Editor;
use crate::pattern::{Match, Rule, apply};
use crate::pipeline::Pass;

/// Nodes between a product and its head split.
const CHAIN_MAX: usize = 8;

pub(crate) const PASS: Pass = Pass {
    name: "attention-fusion",
    effect: Effect::Reassociating,
    run: |editor| apply(editor, RULES),
};

const RULES: &[Rule] = &[Rule {
    patterns: &[
        "Reshape(joined:Transpose(context:MatMul(weights:Softmax(scores), values)), target)",
    ],
    replace: fuse,
}];

fn fuse(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let context = found.get("context");
    let Op::Softmax(softmax) = found.op(editor, "weights")? else { return None };
    let last = resolve_axis(softmax.axis, 4).ok()? == 3;
    let (_, joined) = editor.producer(found.get("joined"))?;
    if !last
        || editor.rank(context)? != 4
        || editor.dtype(context)? != DType::F32
        || permutation(editor, joined)? != [0, 2, 1, 3]
    {
        return None;
    }
    let scores = Scores::of(editor, found.get("scores"))?;
    let value = Heads::of(editor, found.get("values"), [0, 2, 1, 3])?;
    let (query, key) = (&scores.query, &scores.key);
    if query.heads != value.heads || key.heads != value.heads || value.scale != 1.0 {
        return None;
    }
    let one_batch = [key.source, value.source].into_iter().all(|source| {
        let (a, b) = (editor.dims(query.source), editor.dims(source));
        a.zip(b).is_some_and(|(a, b)| a[0].same(&b[0]))
    });
    if query.width != key.width || !one_batch || !merges(editor, found.root, query, &value) {
        return None;
    }
    let op = ops::FusedAttention {
        heads: i64::try_from(value.heads).ok()?,
        scale: (scores.scale * query.scale * key.scale) as f32,
    };
    let inputs = [Some(query.source), Some(key.source), Some(value.source), scores.mask];
    Some(editor.append(&found.name(editor), Op::FusedAttention(op), inputs))
}

/// Whether the last reshape puts the heads side by side again: `[B, Sq, H Dv]`.
fn merges(editor: &Editor<'_>, result: ValueId, query: &Heads, value: &Heads) -> bool {
    let (Some([batch, rows, columns]), Some([b, s, _])) =
        (editor.dims(result), editor.dims(query.source))
    else {
        return false;
    };
    // With the columns known, one of the two other extents fixes both.
    columns.known() == Some(value.heads * value.width) && (b.same(batch) || s.same(rows))
}

/// One operand of attention before it was split into heads.
struct Heads {
    /// `[B, S, heads width]`.
    source: ValueId,
    heads: usize,
    width: usize,
    /// What the elements were multiplied by on the way.
    scale: f64,
}

impl Heads {
    /// Follows a value back to its head split; `axes` is where the axes `[B, S, H, D]` end up.
    fn of(editor: &Editor<'_>, value: ValueId, axes: [usize; 4]) -> Option<Heads> {
        let mut order: Vec<usize> = (0..4).collect();
        let mut scale = 1.0;
        let mut at = value;
        for _ in 0..CHAIN_MAX {
            let (_, node) = editor.producer(at)?;
            if let Op::Reshape(_) = node.op {
                let source = node.input(0)?;
                let ([b, s, columns], [batch, rows, heads, width]) =
                    (editor.dims(source)?, editor.dims(at)?)
                else {
                    return None;
                };
                let (heads, width) = (heads.known()?, width.known()?);
                let splits = order == axes
                    && b.same(batch)
                    && s.same(rows)
                    && columns.known() == Some(heads * width);
                return splits.then_some(Heads { source, heads, width, scale });
            }
            if let Some(perm) = permutation(editor, node) {
                order = order.iter().map(|&axis| perm.get(axis).copied()).collect::<Option<_>>()?;
                at = node.input(0)?;
            } else {
                let (factor, next) = scaling(editor, at)?;
                scale *= factor;
                at = next;
            }
        }
        None
    }
}

/// The scalar that a value's node multiplies by, and what it multiplies.
fn scaling(editor: &Editor<'_>, value: ValueId) -> Option<(f64, ValueId)> {
    let (_, node) = editor.producer(value)?;
    let (a, b) = (node.input(0)?, node.input(1)?);
    let (factor, rest) = match node.op {
        Op::Mul if editor.constant(a).is_some() => (f64::from(editor.scalar(a)?), b),
        Op::Mul => (f64::from(editor.scalar(b)?), a),
        Op::Div => (1.0 / f64::from(editor.scalar(b)?), a),
        _ => return None,
    };
    (factor.is_finite() && editor.same_shape(value, rest)).then_some((factor, rest))
}

/// The product of queries and keys, its scale and mask.
struct Scores {
    query: Heads,
    key: Heads,
    mask: Option<ValueId>,
    scale: f64,
}

impl Scores {
    fn of(editor: &Editor<'_>, value: ValueId) -> Option<Scores> {
        if let Some(scores) = Scores::product(editor, value) {
            return Some(scores);
        }
        let (_, node) = editor.producer(value)?;
        let (Op::Add, true) = (&node.op, editor.used_once(value)) else { return None };
        let (a, b) = (node.input(0)?, node.input(1)?);
        [(a, b), (b, a)].into_iter().find_map(|(product, mask)| {
            // Only a mask that broadcasts to the scores' shape: rank at most theirs.
            let fits = editor.same_shape(product, value) && editor.rank(mask)? <= 4;
            let scores = fits.then(|| Scores::product(editor, product)).flatten()?;
            let zero = editor.constant(mask).is_some_and(|t| constants::all_equal(t, 0.0));
            Some(Scores { mask: (!zero).then_some(mask), ..scores })
        })
    }

    fn product(editor: &Editor<'_>, value: ValueId) -> Option<Scores> {
        let mut scale = 1.0;
        let mut at = value;
        for _ in 0..CHAIN_MAX {
            if !editor.used_once(at) {
                return None;
            }
            let (_, node) = editor.producer(at)?;
            if let Op::MatMul = node.op {
                let query = Heads::of(editor, node.input(0)?, [0, 2, 1, 3])?;
                let key = Heads::of(editor, node.input(1)?, [0, 2, 3, 1])?;
                return Some(Scores { query, key, mask: None, scale });
            }
            let (factor, next) = scaling(editor, at)?;
            scale *= factor;
            at = next;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::{check, check_unchanged};

    #[test]
    fn masked_attention_with_a_divided_score() {
        check(
            &[PASS],
            r#"graph "g" {
              input %q: f32[B,S,8]
              input %k: f32[B,T,8]
              input %v: f32[B,T,8]
              input %mask: f32[B,1,1,T]
              const %split: i64[4] = [0, 0, 2, 4]
              const %join: i64[3] = [0, 0, 8]
              const %two: f32[] = [2.0]
              %q4 = Reshape(%q, %split)
              %k4 = Reshape(%k, %split)
              %v4 = Reshape(%v, %split)
              %qt = Transpose(%q4) {perm=[0,2,1,3]}
              %kt = Transpose(%k4) {perm=[0,2,3,1]}
              %vt = Transpose(%v4) {perm=[0,2,1,3]}
              %s = MatMul(%qt, %kt)
              %d = Div(%s, %two)
              %m = Add(%d, %mask)
              %p = Softmax(%m)
              %c = MatMul(%p, %vt)
              %ct = Transpose(%c) {perm=[0,2,1,3]}
              %y = Reshape(%ct, %join)
              output %y
            }"#,
            r#"graph "g" {
              input %q: f32[B,S,8]
              input %k: f32[B,T,8]
              input %v: f32[B,T,8]
              input %mask: f32[B,1,1,T]
              %y = landfall.FusedAttention(%q, %k, %v, %mask) {heads=2, scale=0.5}
              output %y
            }"#,
        );
    }

    #[test]
    fn positions_cut_to_the_length_of_a_mask_do_not_hide_it() {
        check(
            &[PASS],
            r#"graph "g" {
              input %t: f32[B,S,8]
              input %mask: f32[B,1,1,S]
              input %table: f32[16,8]
              const %zero: i64[1] = [0]
              const %split: i64[4] = [0, 0, 2, 4]
              const %join: i64[3] = [0, 0, 8]
              %length = Shape(%t) {end=2, start=1}
              %positions = Slice(%table, %zero, %length, %zero)
              %x = Add(%t, %positions)
              %x4 = Reshape(%x, %split)
              %xt = Transpose(%x4) {perm=[0,2,1,3]}
              %kt = Transpose(%x4) {perm=[0,2,3,1]}
              %s = MatMul(%xt, %kt)
              %m = Add(%s, %mask)
              %p = Softmax(%m)
              %c = MatMul(%p, %xt)
              %ct = Transpose(%c) {perm=[0,2,1,3]}
              %y = Reshape(%ct, %join)
              output %y
            }"#,
            r#"graph "g" {
              input %t: f32[B,S,8]
              input %mask: f32[B,1,1,S]
              input %table: f32[16,8]
              const %zero: i64[1] = [0]
              %length = Shape(%t) {end=2, start=1}
              %positions = Slice(%table, %zero, %length, %zero)
              %x = Add(%t, %positions)
              %y = landfall.FusedAttention(%x, %x, %x, %mask) {heads=2, scale=1.0}
              output %y
            }"#,
        );
    }

    #[test]
    fn scales_on_both_operands_multiply() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[B,S,8]
              const %split: i64[4] = [0, 0, 2, 4]
              const %join: i64[3] = [0, 0, 8]
              const %half: f32[] = [0.5]
              %x4 = Reshape(%x, %split)
              %xt = Transpose(%x4) {perm=[0,2,1,3]}
              %xs = Mul(%xt, %half)
              %kt = Transpose(%xt) {perm=[0,1,3,2]}
              %ks = Mul(%half, %kt)
              %s = MatMul(%xs, %ks)
              %p = Softmax(%s)
              %c = MatMul(%p, %xt)
              %ct = Transpose(%c) {perm=[0,2,1,3]}
              %y = Reshape(%ct, %join)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[B,S,8]
              %y = landfall.FusedAttention(%x, %x, %x) {heads=2, scale=0.25}
              output %y
            }"#,
        );
    }

    #[test]
    fn attention_weights_that_are_an_output_keep_the_pieces() {
        check_unchanged(
            &[PASS],
            r#"graph "g" {
              input %x: f32[B,S,8]
              const %split: i64[4] = [0, 0, 2, 4]
              const %join: i64[3] = [0, 0, 8]
              %x4 = Reshape(%x, %split)
              %xt = Transpose(%x4) {perm=[0,2,1,3]}
              %kt = Transpose(%x4) {perm=[0,2,3,1]}
              %s = MatMul(%xt, %kt)
              %p = Softmax(%s)
              %c = MatMul(%p, %xt)
              %ct = Transpose(%c) {perm=[0,2,1,3]}
              %y = Reshape(%ct, %join)
              output %y
              output %p
            }"#,
        );
    }
}
