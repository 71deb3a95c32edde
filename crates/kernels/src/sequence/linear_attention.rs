//! Linear attention as a recurrence over tokens. Equations: the ONNX operator LinearAttention.

use crate::Exec;
use crate::elementwise::{Float, Wide};
use crate::parallel::over_chunks;
use crate::shared::SharedMut;

/// How a token changes the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateRule {
    /// The state decays.
    pub gated: bool,
    /// What the state already tells of the key is subtracted from the value.
    pub delta: bool,
}

/// Extents and options of one linear attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearAttention {
    /// Sequences.
    pub batch: usize,
    /// Tokens.
    pub tokens: usize,
    /// Heads of queries; a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements of a key.
    pub depth: usize,
    /// Elements of a value.
    pub columns: usize,
    /// Columns of the decays of one head: `depth` or 1.
    pub decays: usize,
    /// Heads of the update rates: `kv_heads` or 1.
    pub rates: usize,
    /// The update.
    pub rule: UpdateRule,
    /// Factor of the results.
    pub scale: f64,
}

/// Operands by token; see [`linear_attention`].
struct Tokens<'a, T> {
    qkv: [&'a [T]; 3],
    decay: &'a [T],
    beta: &'a [T],
}

/// Walks through the tokens. Queries, keys and values, the logarithms of decays and the update
/// rates are `[batch, tokens, heads columns]`; the latter two may be empty if the rule does not use
/// them. `state [batch, kv_heads, depth, columns]` is the initial state, then the last; `out` is
/// `[batch, tokens, heads columns]`.
///
/// # Panics
/// If a slice has the wrong length.
pub fn linear_attention<T: Float>(
    exec: Exec<'_>,
    a: &LinearAttention,
    qkv: [&[T]; 3],
    decay: &[T],
    beta: &[T],
    state: &mut [T::Wide],
    out: &mut [T],
) {
    let rows = a.batch * a.tokens;
    let block = a.depth * a.columns;
    assert_eq!(qkv[0].len(), rows * a.heads * a.depth, "query length");
    assert_eq!(qkv[1].len(), rows * a.kv_heads * a.depth, "key length");
    assert_eq!(qkv[2].len(), rows * a.kv_heads * a.columns, "value length");
    assert_eq!(out.len(), rows * a.heads * a.columns, "output length");
    assert_eq!(state.len(), a.batch * a.kv_heads * block, "state length");
    assert!(a.heads.is_multiple_of(a.kv_heads), "heads are not a multiple");
    let tokens = Tokens { qkv, decay, beta };
    if block == 0 {
        return out.fill(T::narrow(<T::Wide as Wide>::of(0.0)));
    }
    let out = SharedMut::new(out);
    over_chunks(exec, state, block, a.tokens.saturating_mul(4), &|first, chunk| {
        for (i, state) in chunk.chunks_exact_mut(block).enumerate() {
            // SAFETY: every pair of batch and head writes rows of its own.
            head(a, &tokens, first + i, state, &|start, len| unsafe { out.range(start, len) });
        }
    });
}

/// One batch and head of keys, for the query heads that share it.
fn head<'o, T: Float>(
    a: &LinearAttention,
    tokens: &Tokens<'_, T>,
    index: usize,
    state: &mut [T::Wide],
    out: &dyn Fn(usize, usize) -> &'o mut [T],
) {
    let (batch, kv) = (index / a.kv_heads, index % a.kv_heads);
    let zero = <T::Wide as Wide>::of(0.0);
    let mut change = vec![zero; a.columns];
    let group = a.heads / a.kv_heads;
    for row in batch * a.tokens..(batch + 1) * a.tokens {
        let [q, k, v] = tokens.qkv;
        let k = &k[(row * a.kv_heads + kv) * a.depth..][..a.depth];
        let v = &v[(row * a.kv_heads + kv) * a.columns..][..a.columns];
        if a.rule.gated {
            let decay = &tokens.decay[(row * a.kv_heads + kv) * a.decays..][..a.decays];
            for (d, line) in state.chunks_exact_mut(a.columns).enumerate() {
                let log = decay[if a.decays == 1 { 0 } else { d }].widen();
                let factor = log.apply(f32::exp, f64::exp);
                line.iter_mut().for_each(|s| *s = *s * factor);
            }
        }
        change.iter_mut().zip(v).for_each(|(c, x)| *c = x.widen());
        if a.rule.delta {
            for (line, key) in state.chunks_exact(a.columns).zip(k) {
                let key = key.widen();
                change.iter_mut().zip(line).for_each(|(c, &s)| *c = *c - key * s);
            }
            let rate = tokens.beta[row * a.rates + if a.rates == 1 { 0 } else { kv }].widen();
            change.iter_mut().for_each(|c| *c = *c * rate);
        }
        for (line, key) in state.chunks_exact_mut(a.columns).zip(k) {
            let key = key.widen();
            line.iter_mut().zip(&change).for_each(|(s, &c)| *s = *s + key * c);
        }
        for h in kv * group..(kv + 1) * group {
            let q = &q[(row * a.heads + h) * a.depth..][..a.depth];
            change.fill(zero);
            for (line, query) in state.chunks_exact(a.columns).zip(q) {
                let query = query.widen();
                change.iter_mut().zip(line).for_each(|(c, &s)| *c = *c + query * s);
            }
            let scale = <T::Wide as Wide>::of(a.scale);
            let to = out((row * a.heads + h) * a.columns, a.columns);
            to.iter_mut().zip(&change).for_each(|(to, &c)| *to = T::narrow(c * scale));
        }
    }
}
