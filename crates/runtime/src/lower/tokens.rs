//! Rotary embedding, linear attention and causal convolution.

use landfall_graph::{Op, ops};
use landfall_kernels::elementwise::{CastElement, Float, Wide};
use landfall_kernels::sequence::{
    CausalConv, LinearAttention, Rotary, UpdateRule, causal_conv, linear_attention, rotary,
};
use landfall_tensor::Shape;

use super::types::float_type;
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    Some(match site.op {
        Op::RotaryEmbedding(op) => lower_rotary(site, op),
        Op::LinearAttention(op) => lower_linear(site, op),
        Op::CausalConvWithState(op) => lower_conv(site, &op.activation),
        _ => return None,
    })
}

fn boxed(kernel: impl Kernel + 'static) -> Result<Lowered, KernelError> {
    Ok(Lowered::Kernel(Box::new(kernel)))
}

fn positive(value: i64, what: &str) -> Result<usize, KernelError> {
    usize::try_from(value)
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| KernelError::Invalid(format!("{what} is {value}, not positive")))
}

/// Operand `index` must have this shape, if it is present.
fn expect(site: &Site<'_>, index: usize, shape: &[usize]) -> Result<(), KernelError> {
    if site.has(index) && *site.shape(index)? != *shape {
        let (found, wanted) = (site.shape(index)?, Shape::from(shape));
        return KernelError::invalid(format!("operand {index} is {found}, expected {wanted}"));
    }
    Ok(())
}

struct Rotate {
    shape: Rotary,
    /// Rows of the tables.
    rows: usize,
}

fn lower_rotary(site: &Site<'_>, op: &ops::RotaryEmbedding) -> Result<Lowered, KernelError> {
    let x = site.shape(0)?;
    let (batch, heads, tokens, columns) = match x[..] {
        [batch, heads, tokens, columns] => (batch, heads, tokens, columns),
        [batch, tokens, hidden] => {
            let heads = positive(op.num_heads.unwrap_or(0), "num_heads")?;
            if !hidden.is_multiple_of(heads) {
                return KernelError::invalid(format!("{hidden} columns for {heads} heads"));
            }
            (batch, heads, tokens, hidden / heads)
        }
        _ => return KernelError::invalid(format!("{x} is not of rank 3 or 4")),
    };
    let rotated = match op.rotary_embedding_dim {
        0 => columns,
        n => positive(n, "rotary_embedding_dim")?,
    };
    if rotated > columns || !rotated.is_multiple_of(2) {
        return KernelError::invalid(format!("{rotated} of {columns} columns to rotate"));
    }
    let tables = site.shape(1)?;
    let rows = if site.has(3) { tables[0] } else { batch * tokens };
    let table = match site.has(3) {
        true => vec![rows, rotated / 2],
        false => vec![batch, tokens, rotated / 2],
    };
    expect(site, 1, &table)?;
    expect(site, 2, &table)?;
    expect(site, 3, &[batch, tokens])?;
    let (interleaved, heads_first) = (op.interleaved, x.rank() == 4);
    let shape = Rotary { heads, tokens, columns, rotated, interleaved, heads_first };
    boxed(Rotate { shape, rows })
}

impl Kernel for Rotate {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (x, cos, sin) = (io.input(0)?, io.input(1)?, io.input(2)?);
        let positions = io.optional(3).map(|view| view.as_slice::<i64>()).transpose()?;
        let inside = |&row: &i64| usize::try_from(row).is_ok_and(|row| row < self.rows);
        if let Some(bad) = positions.into_iter().flatten().find(|row| !inside(row)) {
            return KernelError::invalid(format!("position {bad} of a table of {}", self.rows));
        }
        let exec = io.exec;
        let out = &mut io.outputs[0];
        float_type!(x.dtype(), T => {
            let tables = (cos.as_slice::<T>()?, sin.as_slice::<T>()?);
            rotary(exec, &self.shape, x.as_slice()?, tables, positions, out.as_mut_slice()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("rotary", "f32")
    }
}

struct Linear {
    shape: LinearAttention,
}

fn lower_linear(site: &Site<'_>, op: &ops::LinearAttention) -> Result<Lowered, KernelError> {
    let (q, k, v) = (site.shape(0)?, site.shape(1)?, site.shape(2)?);
    let heads = positive(op.q_num_heads, "q_num_heads")?;
    let kv_heads = positive(op.kv_num_heads, "kv_num_heads")?;
    let ([batch, tokens, hidden], [.., keys], [.., values]) = (&q[..], &k[..], &v[..]) else {
        return KernelError::invalid("an operand is a scalar");
    };
    let (batch, tokens) = (*batch, *tokens);
    let (depth, columns) = (hidden / heads, values / kv_heads);
    let whole = hidden.is_multiple_of(heads)
        && keys.is_multiple_of(kv_heads)
        && values.is_multiple_of(kv_heads)
        && heads.is_multiple_of(kv_heads);
    if !whole || keys / kv_heads != depth {
        return KernelError::invalid(format!("{q}, {k} and {v} for {heads} and {kv_heads} heads"));
    }
    expect(site, 1, &[batch, tokens, kv_heads * depth])?;
    expect(site, 2, &[batch, tokens, kv_heads * columns])?;
    expect(site, 3, &[batch, kv_heads, depth, columns])?;
    let (gated, delta) = match op.update_rule.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return KernelError::invalid(format!("'{other}' is not an update rule")),
    };
    if gated != site.has(4) || delta != site.has(5) {
        return KernelError::invalid(format!(
            "'{}' with decay {} and beta {}",
            op.update_rule,
            site.has(4),
            site.has(5)
        ));
    }
    let per_row = |index: usize, most: usize, one: usize| -> Result<usize, KernelError> {
        if !site.has(index) {
            return Ok(0);
        }
        let last = site.shape(index)?.last().copied().unwrap_or(0);
        expect(site, index, &[batch, tokens, if last == one { one } else { most }])?;
        Ok(last)
    };
    let decays = per_row(4, kv_heads * depth, kv_heads)? / kv_heads;
    let rates = per_row(5, kv_heads, 1)?;
    let scale = match op.scale {
        0.0 => (depth as f64).sqrt().recip(),
        scale => scale.into(),
    };
    let rule = UpdateRule { gated, delta };
    boxed(Linear {
        shape: LinearAttention {
            batch, tokens, heads, kv_heads, depth, columns, decays, rates, rule, scale,
        },
    })
}

impl Linear {
    fn compute<T: Float + CastElement>(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let slice = |i: usize| -> Result<&[T], KernelError> {
            Ok(io.optional(i).map(|view| view.as_slice::<T>()).transpose()?.unwrap_or(&[]))
        };
        let (qkv, decay, beta) = ([slice(0)?, slice(1)?, slice(2)?], slice(4)?, slice(5)?);
        let LinearAttention { batch, kv_heads, depth, columns, .. } = self.shape;
        let mut state = vec![<T::Wide as Wide>::of(0.0); batch * kv_heads * depth * columns];
        if let Some(past) = io.optional(3) {
            float_type!(past.dtype(), P => {
                for (state, x) in state.iter_mut().zip(past.as_slice::<P>()?) {
                    *state = <T::Wide as Wide>::of(x.to_real());
                }
            });
        }
        let exec = io.exec;
        let mut outputs = io.outputs.iter_mut();
        let Some(out) = outputs.next() else { return KernelError::invalid("no results") };
        let out = out.as_mut_slice::<T>()?;
        linear_attention(exec, &self.shape, qkv, decay, beta, &mut state, out);
        if let Some(present) = outputs.next() {
            super::reals::write_reals(state.iter().map(|x| x.to_f64()), present)?;
        }
        Ok(())
    }
}

impl Kernel for Linear {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        float_type!(io.input(0)?.dtype(), T => self.compute::<T>(io))
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("linear_attention", "f32")
    }
}

struct Convolve {
    shape: CausalConv,
}

fn lower_conv(site: &Site<'_>, activation: &str) -> Result<Lowered, KernelError> {
    let (x, w) = (site.shape(0)?, site.shape(1)?);
    let ([batch, channels, length], [_, _, taps]) = (&x[..], &w[..]) else {
        return KernelError::invalid(format!("a signal {x} and weights {w}"));
    };
    if *taps == 0 {
        return KernelError::invalid("weights without taps");
    }
    expect(site, 1, &[*channels, 1, *taps])?;
    expect(site, 2, &[*channels])?;
    expect(site, 3, &[*batch, *channels, taps - 1])?;
    let silu = match activation {
        "silu" | "swish" => true,
        "none" => false,
        other => return KernelError::invalid(format!("'{other}' is not an activation")),
    };
    let shape = CausalConv { channels: *channels, length: *length, taps: *taps, silu };
    boxed(Convolve { shape })
}

impl Convolve {
    fn compute<T: Float>(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (x, w) = (io.input(0)?.as_slice::<T>()?, io.input(1)?.as_slice::<T>()?);
        let bias = io.optional(2).map(|view| view.as_slice::<T>()).transpose()?;
        let past = io.optional(3).map(|view| view.as_slice::<T>()).transpose()?;
        let exec = io.exec;
        let mut outputs = io.outputs.iter_mut();
        let Some(out) = outputs.next() else { return KernelError::invalid("no results") };
        causal_conv(exec, &self.shape, x, w, bias, past, out.as_mut_slice()?);
        let (length, kept) = (self.shape.length, self.shape.taps - 1);
        let Some(present) = outputs.next() else { return Ok(()) };
        let present = present.as_mut_slice::<T>()?;
        for (plane, present) in present.chunks_exact_mut(kept.max(1)).enumerate() {
            for (j, out) in present.iter_mut().enumerate() {
                let at = length + j;
                *out = match at.checked_sub(kept) {
                    Some(at) => x[plane * length + at],
                    None => past.map_or(T::zeroed(), |past| past[plane * kept + at]),
                };
            }
        }
        Ok(())
    }
}

impl Kernel for Convolve {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        float_type!(io.input(0)?.dtype(), T => self.compute::<T>(io))
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("causal_conv", "f32")
    }
}
