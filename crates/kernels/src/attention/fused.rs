//! Attention in f32 over tiles of query rows.

use std::ptr;

use super::{Attention, AttentionMask, MaskValues};
use crate::gemm::{Product, Right, run};
use crate::math::Activation;
use crate::rows::DenseRows;
use crate::rowwise::{Mask, Softmax, softmax};
use crate::shared::SharedMut;
use crate::{Cpu, Exec, Pool, parallel};

/// Least query rows of a tile: enough to use keys packed for the tile several times.
const MIN_ROWS: usize = 12;

/// Query rows whose scores against `keys` fill half of the level 2 cache.
fn tile_rows(cpu: Cpu, queries: usize, keys: usize) -> usize {
    let fitting = cpu.caches().l2_bytes / 2 / (keys.max(1) * size_of::<f32>());
    fitting.max(MIN_ROWS).min(queries.max(1))
}

/// Elements of scratch that [`attention`] needs to run on `threads` threads.
pub fn attention_scratch_len(cpu: Cpu, threads: usize, queries: usize, keys: usize) -> usize {
    threads.max(1).saturating_mul(tile_rows(cpu, queries, keys)).saturating_mul(keys)
}

/// Operands of one call, shared by its threads.
struct Call<'a> {
    shape: &'a Attention<'a>,
    mask: Option<AttentionMask<'a, f32>>,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: SharedMut<'a, f32>,
    rows: usize,
}

/// `out = softmax(scale q kᵀ + mask) v` for every batch and head.
///
/// # Panics
/// If an operand's length does not fit the shape, or `scratch` is shorter than
/// [`attention_scratch_len`] for the threads of `exec`.
#[allow(clippy::too_many_arguments, reason = "operands of one operator")]
pub fn attention(
    exec: Exec<'_>,
    shape: &Attention<'_>,
    mask: Option<AttentionMask<'_, f32>>,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    scratch: &mut [f32],
) {
    shape.check(q.len(), k.len(), v.len(), out.len());
    if let Some(mask) = &mask {
        mask.check(shape);
    }
    if out.is_empty() || shape.keys == 0 {
        return out.fill(0.0);
    }
    let rows = tile_rows(exec.cpu, shape.queries, shape.keys);
    let (tile, tiles) = (rows * shape.keys, shape.queries.div_ceil(rows));
    let items = shape.batch * shape.heads * tiles;
    let depth = shape.q.columns() + shape.out.columns() + 16;
    let cost = items.saturating_mul(tile).saturating_mul(depth) / 8;
    let parts = parallel::useful_parts(exec, cost, items);
    assert!(scratch.len() >= parts * tile, "scratch too short");
    let (out, scratch) = (SharedMut::new(out), SharedMut::new(scratch));
    let call = Call { shape, mask, q, k, v, out, rows };
    exec.pool.run(parts, &|part| {
        // SAFETY: every part has its own tile.
        let scores = unsafe { scratch.range(part * tile, tile) };
        for item in parallel::share(items, parts, part) {
            let (row, head) = (item / tiles, item / tiles % shape.heads);
            call.tile(exec.cpu, row / shape.heads, head, item % tiles * rows, scores);
        }
    });
}

impl Call<'_> {
    /// Query rows from `first` of one head.
    fn tile(&self, cpu: Cpu, batch: usize, head: usize, first: usize, scores: &mut [f32]) {
        let a = self.shape;
        let exec = Exec { cpu, pool: Pool::inline() };
        let rows = self.rows.min(a.queries - first);
        let keys = (first..first + rows).map(|i| a.visible(batch, i).end).max().unwrap_or(0);
        let kv_head = a.kv_head(head);
        let start = a.out.row(batch, head, first);
        let values = a.out.columns();
        if keys == 0 {
            let empty = if a.zero_if_blind { 0.0 } else { f32::NAN };
            for row in 0..rows {
                // SAFETY: rows of a tile belong to it alone.
                let row = unsafe { self.out.range(start + row * a.out.row_stride(), values) };
                row.fill(empty);
            }
            return;
        }
        let scores = &mut scores[..rows * keys];
        let key = &self.k[a.k.row(batch, kv_head, 0)..];
        let right = Right::Strided {
            start: key.as_ptr(),
            k_stride: 1,
            n_stride: a.k.row_stride(),
        };
        let query = &self.q[a.q.row(batch, head, first)..];
        let query = DenseRows::new(query, rows, a.q.columns(), a.q.row_stride());
        run(exec, &product(&query, right, keys, scores.as_mut_ptr(), keys));
        self.normalise(exec, (batch, head, first), keys, scores);
        let value = &self.v[a.v.row(batch, kv_head, 0)..];
        let right = Right::Strided {
            start: value.as_ptr(),
            k_stride: a.v.row_stride(),
            n_stride: 1,
        };
        let weights = DenseRows::new(scores, rows, keys, keys);
        let out = self.out.ptr().wrapping_add(start);
        run(exec, &product(&weights, right, values, out, a.out.row_stride()));
    }

    /// Scores to weights: scale, cap, mask and softmax of the rows from `first`.
    fn normalise(
        &self,
        exec: Exec<'_>,
        (batch, head, first): (usize, usize, usize),
        keys: usize,
        scores: &mut [f32],
    ) {
        let a = self.shape;
        let rows = scores.len() / keys;
        let plain = a.softcap == 0.0 && a.window.is_none();
        let dense = match &self.mask {
            None => plain.then_some(None),
            Some(AttentionMask { values: MaskValues::Add(values), strides, keys: covered }) => {
                let [.., row, key] = *strides;
                let whole = row == 0 || row == keys;
                let start = strides[0] * batch + strides[1] * head + row * first;
                let mask_rows = if row == 0 { 1 } else { rows };
                (plain && key == 1 && whole && *covered >= keys).then(|| {
                    let data = &values[start..][..mask_rows * keys];
                    Some(Mask { data, rows: mask_rows, repeat: 1, period: 1 })
                })
            }
            Some(_) => None,
        };
        if let Some(mask) = dense {
            softmax(exec, &Softmax { scale: a.scale, mask, log: false }, keys, scores);
        } else {
            for (i, row) in scores.chunks_exact_mut(keys).enumerate() {
                self.bias(batch, head, first + i, row);
            }
            softmax(exec, &Softmax::default(), keys, scores);
        }
        if !a.zero_if_blind {
            return;
        }
        for (i, row) in scores.chunks_exact_mut(keys).enumerate() {
            if row[0].is_nan() && self.is_blind(batch, head, first + i, keys) {
                row.fill(0.0);
            }
        }
    }

    /// Scales, caps and masks the scores of one query.
    fn bias(&self, batch: usize, head: usize, query: usize, row: &mut [f32]) {
        let a = self.shape;
        row.iter_mut().for_each(|x| *x *= a.scale);
        if a.softcap != 0.0 {
            row.iter_mut().for_each(|x| *x = (*x / a.softcap).tanh() * a.softcap);
        }
        if let Some(mask) = &self.mask {
            let (start, step) = (mask.start(batch, head, query), mask.strides[3]);
            let covered = mask.keys.min(row.len());
            row[covered..].fill(f32::NEG_INFINITY);
            for (j, x) in row[..covered].iter_mut().enumerate() {
                match mask.values {
                    MaskValues::Add(values) => *x += values[start + j * step],
                    MaskValues::Keep(keep) if keep[start + j * step] == 0 => *x = f32::NEG_INFINITY,
                    MaskValues::Keep(_) => (),
                }
            }
        }
        let seen = a.visible(batch, query);
        let len = row.len();
        row[..seen.start.min(len)].fill(f32::NEG_INFINITY);
        row[seen.end.min(len)..].fill(f32::NEG_INFINITY);
    }

    /// Whether mask and window leave the query no key.
    fn is_blind(&self, batch: usize, head: usize, query: usize, keys: usize) -> bool {
        let seen = self.shape.visible(batch, query);
        let Some(mask) = &self.mask else { return seen.is_empty() };
        let (start, step) = (mask.start(batch, head, query), mask.strides[3]);
        let excluded = |j: usize| match mask.values {
            MaskValues::Add(values) => values[start + j * step] == f32::NEG_INFINITY,
            MaskValues::Keep(keep) => keep[start + j * step] == 0,
        };
        (seen.start..seen.end.min(keys).min(mask.keys)).all(excluded)
    }
}

fn product<'a>(
    rows: &'a DenseRows<f32>,
    right: Right,
    n: usize,
    out: *mut f32,
    out_stride: usize,
) -> Product<'a> {
    Product {
        rows,
        right,
        n,
        out,
        out_stride,
        bias: ptr::null(),
        residual: ptr::null(),
        residual_stride: 0,
        activation: Activation::None,
    }
}
