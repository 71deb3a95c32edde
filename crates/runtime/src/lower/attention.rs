//! Attention: the fused operator of BERT-like models and ONNX's own.

use landfall_graph::{Op, ops};
use landfall_kernels::elementwise::Float;
use landfall_kernels::{
    Attention, AttentionMask, HeadLayout, KeyRange, MaskValues, Scores, Window, attention,
    attention_direct, attention_scratch_len,
};
use landfall_tensor::{DType, Element, Shape, TensorView, row_major_strides};

use super::types::float_type;
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::FusedAttention(op) => lower_fused(site, op),
        Op::Attention(op) => lower_onnx(site, op),
        _ => return None,
    })
}

/// Attention of either operator.
struct Attend {
    isa: &'static str,
    /// Everything but the key ranges, which depend on the batch.
    shape: Attention<'static>,
    /// Extents of the mask that there are, then their strides.
    mask: Option<MaskShape>,
    /// Limits to the left and right of a query.
    window: Option<[Option<i64>; 2]>,
    /// Keys kept from earlier runs.
    past: usize,
    /// Layouts of the new keys and values, if present ones are results.
    fresh: Option<[HeadLayout; 2]>,
    scores: Option<Scores>,
    scratch: usize,
}

#[derive(Clone, Copy)]
struct MaskShape {
    strides: [usize; 4],
    /// Keys that the mask covers; it excludes later ones.
    keys: usize,
}

fn boxed(kernel: impl Kernel + 'static) -> Result<Lowered, KernelError> {
    Ok(Lowered::Kernel(Box::new(kernel)))
}

/// Strides of a mask along `[batch, heads, queries, keys]`, by broadcasting from the right. The last
/// extent may fall short of the keys.
fn mask_shape(shape: &Shape, full: [usize; 4], short: bool) -> Result<MaskShape, KernelError> {
    let own = row_major_strides(shape);
    let mut strides = [0; 4];
    let mut keys = full[3];
    let lead = 4usize.checked_sub(shape.rank());
    for (axis, (&extent, &stride)) in shape.iter().zip(&own).enumerate() {
        let at = lead.map(|lead| lead + axis).unwrap_or(4);
        let fits = match at {
            3 if short && extent < full[3] => {
                keys = extent;
                strides[3] = 1;
                true
            }
            0..=3 if extent == full[at] => {
                strides[at] = stride;
                true
            }
            _ => at < 4 && extent == 1,
        };
        if !fits {
            let full = Shape::from(full);
            return KernelError::invalid(format!("a mask {shape} for scores {full}"));
        }
    }
    Ok(MaskShape { strides, keys })
}

fn divided(extent: usize, parts: i64, what: &str) -> Result<(usize, usize), KernelError> {
    usize::try_from(parts)
        .ok()
        .filter(|&n| n > 0 && extent.is_multiple_of(n))
        .map(|n| (n, extent / n))
        .ok_or_else(|| KernelError::Invalid(format!("{extent} {what} columns for {parts} heads")))
}

fn lower_fused(site: &Site<'_>, op: &ops::FusedAttention) -> Result<Lowered, KernelError> {
    let [q, k, v] = [site.shape(0)?, site.shape(1)?, site.shape(2)?];
    if [q.rank(), k.rank(), v.rank()] != [3; 3] || k[..2] != v[..2] || q[0] != k[0] || q[2] != k[2] {
        return KernelError::invalid(format!("operands {q}, {k} and {v} do not fit together"));
    }
    let (heads, depth) = divided(q[2], op.heads, "query")?;
    let (_, columns) = divided(v[2], op.heads, "value")?;
    let shape = Attention {
        batch: q[0],
        heads,
        kv_heads: heads,
        queries: q[1],
        keys: k[1],
        q: HeadLayout::rows_first(heads, q[1], depth),
        k: HeadLayout::rows_first(heads, k[1], depth),
        v: HeadLayout::rows_first(heads, k[1], columns),
        out: HeadLayout::rows_first(heads, q[1], columns),
        scale: op.scale,
        softcap: 0.0,
        window: None,
        zero_if_blind: false,
    };
    let full = [q[0], heads, q[1], k[1]];
    let mask =
        if site.has(3) { Some(mask_shape(&site.shape(3)?, full, false)?) } else { None };
    let attend = Attend {
        isa: site.target.cpu.isa().name(),
        shape,
        mask,
        window: None,
        past: 0,
        fresh: None,
        scores: None,
        scratch: 0,
    };
    attend.finish(site)
}

/// An operand of `Attention`, `[batch, heads, rows, columns]` or `[batch, rows, heads columns]`.
struct Operand {
    heads: usize,
    rows: usize,
    columns: usize,
    layout: HeadLayout,
}

fn operand(site: &Site<'_>, index: usize, heads: Option<i64>) -> Result<Operand, KernelError> {
    let shape = site.shape(index)?;
    match *shape {
        [_, heads, rows, columns] => {
            let layout = HeadLayout::heads_first(heads, rows, columns);
            Ok(Operand { heads, rows, columns, layout })
        }
        [_, rows, hidden] => {
            let (heads, columns) = divided(hidden, heads.unwrap_or(0), "operand")?;
            let layout = HeadLayout::rows_first(heads, rows, columns);
            Ok(Operand { heads, rows, columns, layout })
        }
        _ => KernelError::invalid(format!("operand {index} is {shape}, not of rank 3 or 4")),
    }
}

fn lower_onnx(site: &Site<'_>, op: &ops::Attention) -> Result<Lowered, KernelError> {
    let q = operand(site, 0, op.q_num_heads)?;
    let k = operand(site, 1, op.kv_num_heads)?;
    let v = operand(site, 2, op.kv_num_heads)?;
    let batch = site.shape(0)?[0];
    let agree = q.columns == k.columns
        && (k.heads, k.rows) == (v.heads, v.rows)
        && site.shape(1)?[0] == batch
        && site.shape(2)?[0] == batch
        && k.heads > 0
        && q.heads.is_multiple_of(k.heads);
    if !agree || site.has(4) != site.has(5) {
        return KernelError::invalid("query, key, value and past do not fit together");
    }
    let past = past_rows(site, batch, &k, &v)?;
    let keys = past + k.rows;
    let present = site.has(4) || site.outputs.len() > 1;
    let cached = |operand: &Operand| match present {
        true => HeadLayout::heads_first(operand.heads, keys, operand.columns),
        false => operand.layout,
    };
    let out = match site.shape(0)?.rank() {
        3 => HeadLayout::rows_first(q.heads, q.rows, v.columns),
        _ => HeadLayout::heads_first(q.heads, q.rows, v.columns),
    };
    let shape = Attention {
        batch,
        heads: q.heads,
        kv_heads: k.heads,
        queries: q.rows,
        keys,
        q: q.layout,
        k: cached(&k),
        v: cached(&v),
        out,
        scale: op.scale.unwrap_or_else(|| (q.columns as f32).sqrt().recip()),
        softcap: op.softcap,
        window: None,
        zero_if_blind: true,
    };
    let full = [batch, q.heads, q.rows, keys];
    let mask = if site.has(3) { Some(mask_shape(&site.shape(3)?, full, true)?) } else { None };
    let bound = |size: i64| (size >= 0).then_some(size);
    let right = match (op.is_causal, bound(op.right_window_size)) {
        (true, _) => Some(0),
        (false, right) => right,
    };
    let left = bound(op.left_window_size);
    let limited = left.is_some() || right.is_some() || site.has(6);
    let short = mask.is_some_and(|mask| mask.keys < keys);
    let attend = Attend {
        isa: site.target.cpu.isa().name(),
        shape,
        mask,
        window: (limited || short).then_some([left, right]),
        past,
        fresh: present.then_some([k.layout, v.layout]),
        scores: (site.outputs.len() > 3).then_some(stage(op)?),
        scratch: 0,
    };
    attend.finish(site)
}

fn past_rows(
    site: &Site<'_>,
    batch: usize,
    k: &Operand,
    v: &Operand,
) -> Result<usize, KernelError> {
    if !site.has(4) {
        return Ok(0);
    }
    let (key, value) = (site.shape(4)?, site.shape(5)?);
    let rows = key.get(2).copied().unwrap_or(0);
    let fits = *key == [batch, k.heads, rows, k.columns] && *value == [batch, v.heads, rows, v.columns];
    if !fits {
        return KernelError::invalid(format!("past keys {key} and values {value} do not fit"));
    }
    Ok(rows)
}

fn stage(op: &ops::Attention) -> Result<Scores, KernelError> {
    Ok(match op.qk_matmul_output_mode {
        0 => Scores::Raw,
        1 => Scores::Capped,
        2 => Scores::Masked,
        3 => Scores::Weights,
        mode => return KernelError::invalid(format!("qk_matmul_output_mode is {mode}, not 0..=3")),
    })
}

/// The cache `[batch, heads, past + rows, columns]`: what was there, then the new rows.
fn join<T: Copy>(
    shape: &Attention<'_>,
    past_rows: usize,
    past: Option<&[T]>,
    (new, layout): (&[T], HeadLayout),
    out: &mut [T],
) {
    let columns = layout.columns();
    let kept = past_rows * columns;
    let block = shape.keys * columns;
    if block == 0 {
        return;
    }
    for (index, out) in out.chunks_exact_mut(block).enumerate() {
        if let Some(past) = past {
            out[..kept].copy_from_slice(&past[index * kept..][..kept]);
        }
        let (batch, head) = (index / shape.kv_heads, index % shape.kv_heads);
        for (row, out) in out[kept..].chunks_exact_mut(columns).enumerate() {
            out.copy_from_slice(&new[layout.row(batch, head, row)..][..columns]);
        }
    }
}

/// What a run works on.
struct Call<'a, T> {
    shape: Attention<'a>,
    mask: Option<AttentionMask<'a, T>>,
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
}

impl Attend {
    fn finish(mut self, site: &Site<'_>) -> Result<Lowered, KernelError> {
        let dtype = site.dtype(0)?;
        if site.dtype(1)? != dtype || site.dtype(2)? != dtype {
            return KernelError::unsupported("query, key and value of different datatypes");
        }
        if self.is_fast(dtype) {
            let (threads, Attention { queries, keys, .. }) = (site.target.threads, self.shape);
            let len = attention_scratch_len(site.target.cpu, threads, queries, keys);
            self.scratch = len.saturating_mul(size_of::<f32>());
        }
        boxed(self)
    }

    fn is_fast(&self, dtype: DType) -> bool {
        dtype == DType::F32 && self.scores.is_none()
    }

    /// The keys of every batch, if any are out of reach.
    fn key_ranges(&self, io: &Io<'_>) -> Result<Vec<KeyRange>, KernelError> {
        let Attention { batch, keys, queries, .. } = self.shape;
        if self.window.is_none() {
            return Ok(Vec::new());
        }
        let covered = self.mask.map_or(keys, |mask| mask.keys);
        let Some(counts) = io.optional(6) else {
            let range = KeyRange { offset: self.past as i64, valid: covered };
            return Ok(vec![range; batch]);
        };
        let counts = counts.as_slice::<i64>()?;
        if counts.len() != batch {
            return KernelError::invalid(format!("{} key counts for {batch} rows", counts.len()));
        }
        let range = |&count: &i64| KeyRange {
            offset: if self.past > 0 { self.past as i64 } else { count - queries as i64 },
            valid: usize::try_from(count).unwrap_or(0).min(covered),
        };
        Ok(counts.iter().map(range).collect())
    }

    fn mask<'a, T: Element>(
        &self,
        view: Option<TensorView<'a>>,
    ) -> Result<Option<AttentionMask<'a, T>>, KernelError> {
        let (Some(view), Some(mask)) = (view, &self.mask) else { return Ok(None) };
        let values = match view.dtype() {
            DType::Bool => MaskValues::Keep(view.as_slice()?),
            _ => MaskValues::Add(view.as_slice()?),
        };
        Ok(Some(AttentionMask { values, strides: mask.strides, keys: mask.keys }))
    }

    fn typed<T: Float>(
        &self,
        io: &mut Io<'_>,
        compute: impl FnOnce(&Call<'_, T>, &mut [T], Option<&mut [T]>, &mut [u8]) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let ranges = self.key_ranges(io)?;
        let window = self.window.map(|[left, right]| Window { left, right, keys: &ranges });
        let shape = Attention { window, ..self.shape };
        let (q, k, v) = (io.input(0)?, io.input(1)?, io.input(2)?);
        let (q, k, v) = (q.as_slice::<T>()?, k.as_slice::<T>()?, v.as_slice::<T>()?);
        let mask = self.mask::<T>(io.optional(3))?;
        let past = |i| io.optional(i).map(|view| view.as_slice::<T>()).transpose();
        let past = [past(4)?, past(5)?];
        let Io { outputs, scratch, .. } = io;
        let [out, present @ ..] = outputs.as_mut_slice() else {
            return KernelError::invalid("no results");
        };
        let out = out.as_mut_slice::<T>()?;
        let Some([k_layout, v_layout]) = self.fresh else {
            return compute(&Call { shape, mask, q, k, v }, out, None, scratch);
        };
        let len = |layout: &HeadLayout| shape.batch * shape.kv_heads * shape.keys * layout.columns();
        let mut spare = [Vec::new(), Vec::new()];
        let [spare_k, spare_v] = &mut spare;
        let mut rest = present.iter_mut();
        let mut place = |layout, spare: &'_ mut Vec<T>| match rest.next() {
            Some(view) => Ok::<_, KernelError>(Some(view.as_mut_slice::<T>()?)),
            None => {
                spare.resize(len(layout), T::zeroed());
                Ok(None)
            }
        };
        let (key, value) = (place(&k_layout, spare_k)?, place(&v_layout, spare_v)?);
        let key = key.unwrap_or(spare_k.as_mut_slice());
        let value = value.unwrap_or(spare_v.as_mut_slice());
        join(&shape, self.past, past[0], (k, k_layout), key);
        join(&shape, self.past, past[1], (v, v_layout), value);
        let scores = rest.next().map(|view| view.as_mut_slice::<T>()).transpose()?;
        let call = Call { shape, mask, q, k: key, v: value };
        compute(&call, out, scores, scratch)
    }
}

impl Kernel for Attend {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (dtype, exec) = (io.input(0)?.dtype(), io.exec);
        if self.is_fast(dtype) {
            return self.typed::<f32>(io, |call, out, _, scratch| {
                let scratch = bytemuck::try_cast_slice_mut(scratch)
                    .map_err(|_| KernelError::Invalid("scratch is not aligned".into()))?;
                let Call { shape, mask, q, k, v } = call;
                attention(exec, shape, *mask, q, k, v, out, scratch);
                Ok(())
            });
        }
        float_type!(dtype, T => self.typed::<T>(io, |call, out, scores, _| {
            let Call { shape, mask, q, k, v } = call;
            attention_direct(shape, *mask, q, k, v, out, self.scores.zip(scores));
            Ok(())
        }))
    }

    fn info(&self) -> KernelInfo {
        if self.scratch > 0 {
            let (kernel, isa, precision) = ("attention_f32", self.isa, "f32");
            return KernelInfo { kernel, isa, precision, reason: String::new() };
        }
        KernelInfo::portable("attention_direct", "")
            .because("the type is not f32, or the scores are a result")
    }

    fn scratch_bytes(&self) -> usize {
        self.scratch
    }
}
