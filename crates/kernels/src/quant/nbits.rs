//! Products of `f32` and weights of 4 or 8 bits with a scale for every block of their depth.
//!
//! Weights are repacked once: panels of 16 columns, each a 32-bit word of consecutive values, so
//! that shifts and masks turn a block into `f32` vectors in L1, where every row uses it. A row's
//! sums run over the depth in order whatever the other rows are.

use std::ops::Range;

use crate::gemm::PANEL;
use crate::shared::SharedMut;
use crate::simd::{Simd, SimdOp, dispatch};
use crate::{Exec, parallel};

/// Rows that are multiplied together.
const ROWS: usize = 4;

/// Rows that stay in L2 while the panels pass over them.
const BLOCK_ROWS: usize = 32;

/// Depth that is dequantised at a time.
const DEPTH: usize = 256;

/// Shape of a weight matrix `[K, N]` of few bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NBits {
    /// Depth.
    pub k: usize,
    /// Columns.
    pub n: usize,
    /// 4 or 8.
    pub bits: usize,
    /// Depth indices that share a scale and a zero point, a multiple of 8; the last block may be
    /// shorter.
    pub block: usize,
}

impl NBits {
    /// Blocks of a column.
    pub fn blocks(&self) -> usize {
        self.k.div_ceil(self.block)
    }

    /// Bytes of a block as ONNX Runtime stores it.
    fn block_bytes(&self) -> usize {
        self.block * self.bits / 8
    }

    /// Bytes of the weights as ONNX Runtime stores them: `[N, blocks, block bits / 8]`.
    pub fn source_len(&self) -> usize {
        self.n * self.blocks() * self.block_bytes()
    }

    fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// Values in a word.
    fn per_word(&self) -> usize {
        32 / self.bits
    }

    /// Words of a column.
    fn column_words(&self) -> usize {
        self.k.div_ceil(self.per_word())
    }

    /// Words of the packed weights.
    pub fn packed_len(&self) -> usize {
        self.panels() * self.column_words() * PANEL
    }

    /// Length of the packed scales, and of the packed zero points.
    pub fn parameters_len(&self) -> usize {
        self.panels() * self.blocks() * PANEL
    }

    /// Packs weights `[N, blocks, block bits / 8]`, the earlier of two 4-bit values in the low
    /// bits.
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn pack(&self, source: &[u8], out: &mut [u32]) {
        assert_eq!(source.len(), self.source_len(), "weights of the wrong length");
        assert_eq!(out.len(), self.packed_len(), "packed weights of the wrong length");
        let value = |k: usize, n: usize| {
            let start = (n * self.blocks() + k / self.block) * self.block_bytes();
            let at = k % self.block;
            u32::from(match self.bits {
                4 => source[start + at / 2] >> (at % 2 * 4) & 15,
                _ => source[start + at],
            })
        };
        for (i, word) in out.iter_mut().enumerate() {
            let (row, j) = (i / PANEL, i % PANEL);
            let n = row / self.column_words() * PANEL + j;
            let first = row % self.column_words() * self.per_word();
            let inside = (first..self.k.min(first + self.per_word())).filter(|_| n < self.n);
            *word = inside.fold(0, |word, k| word | value(k, n) << ((k - first) * self.bits));
        }
    }

    /// Packs one number for each column and block, `at(n, block)`.
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn pack_parameters(&self, at: impl Fn(usize, usize) -> f32, out: &mut [f32]) {
        assert_eq!(out.len(), self.parameters_len(), "parameters of the wrong length");
        for (i, x) in out.iter_mut().enumerate() {
            let (row, j) = (i / PANEL, i % PANEL);
            let (panel, block) = (row / self.blocks(), row % self.blocks());
            let n = panel * PANEL + j;
            *x = if n < self.n { at(n, block) } else { 0.0 };
        }
    }
}

/// Packed weights of few bits.
#[derive(Debug, Clone, Copy)]
pub struct PackedNBits<'a> {
    /// Their shape.
    pub shape: NBits,
    /// [`NBits::packed_len`] words.
    pub data: &'a [u32],
    /// [`NBits::parameters_len`].
    pub scales: &'a [f32],
    /// [`NBits::parameters_len`].
    pub zero_points: &'a [f32],
}

/// `out [m, N] = a [m, K] b + bias [N]`.
///
/// # Panics
/// If a length is wrong.
pub fn matmul_nbits(
    exec: Exec<'_>,
    m: usize,
    a: &[f32],
    b: PackedNBits<'_>,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let NBits { k, n, .. } = b.shape;
    assert!(a.len() == m * k && out.len() == m * n, "operands are not [{m}, {k}] and [{m}, {n}]");
    assert_eq!(b.data.len(), b.shape.packed_len(), "packed weights of the wrong length");
    let parameters = b.shape.parameters_len();
    let fits = b.scales.len() == parameters && b.zero_points.len() == parameters;
    assert!(fits, "parameters of the wrong length");
    assert!(bias.is_none_or(|bias| bias.len() == n), "bias is not [{n}]");
    let out = SharedMut::new(out);
    let cost = (m + 2).saturating_mul(k).saturating_mul(2);
    parallel::over_range(exec, b.shape.panels(), cost, &|panels| {
        for first in (0..m).step_by(BLOCK_ROWS) {
            for panel in panels.clone() {
                let rows = first..(first + BLOCK_ROWS).min(m);
                let panel = Panel { rows, a, b, bias, out, panel };
                if dispatch(exec.cpu, &panel).is_none() {
                    panel.work(Scalar);
                }
            }
        }
    });
}

struct Panel<'a> {
    rows: Range<usize>,
    a: &'a [f32],
    b: PackedNBits<'a>,
    bias: Option<&'a [f32]>,
    out: SharedMut<'a, f32>,
    panel: usize,
}

impl SimdOp for &Panel<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        self.work(s);
    }
}

impl Panel<'_> {
    #[inline(always)]
    fn work(&self, lanes: impl Lanes) {
        let NBits { k, n, block, .. } = self.b.shape;
        let first = self.panel * PANEL;
        let count = PANEL.min(n - first);
        // SAFETY: panels write disjoint columns, the rows of one call one after the other.
        let out = |row: usize| unsafe { self.out.range(row * n + first, count) };
        for row in self.rows.clone() {
            match self.bias {
                Some(bias) => out(row).copy_from_slice(&bias[first..first + count]),
                None => out(row).fill(0.0),
            }
        }
        let mut values = [[0f32; PANEL]; DEPTH];
        let mut start = 0;
        while start < k {
            let end = (start + DEPTH).min(k);
            let mut at = start;
            while at < end {
                let stop = ((at / block + 1) * block).min(end);
                self.dequantize(lanes, at, &mut values[at - start..stop - start]);
                at = stop;
            }
            let values = &values[..end - start];
            let rows = self.rows.start + self.rows.len() / ROWS * ROWS;
            for row in (self.rows.start..rows).step_by(ROWS) {
                let a = |i: usize| &self.a[(row + i) * k..][start..end];
                let mut sums = [[0f32; PANEL]; ROWS];
                for (i, sums) in sums.iter_mut().enumerate() {
                    sums[..count].copy_from_slice(out(row + i));
                }
                lanes.multiply([a(0), a(1), a(2), a(3)], values, &mut sums);
                for (i, sums) in sums.iter().enumerate() {
                    out(row + i).copy_from_slice(&sums[..count]);
                }
            }
            for row in rows..self.rows.end {
                let mut sums = [[0f32; PANEL]];
                sums[0][..count].copy_from_slice(out(row));
                lanes.multiply([&self.a[row * k..][start..end]], values, &mut sums);
                out(row).copy_from_slice(&sums[0][..count]);
            }
            start = end;
        }
    }
}

impl Panel<'_> {
    /// The values of depth `start..start + values.len()`, which lie in one block.
    #[inline(always)]
    fn dequantize(&self, lanes: impl Lanes, start: usize, values: &mut [[f32; PANEL]]) {
        let shape = self.b.shape;
        let at = (self.panel * shape.blocks() + start / shape.block) * PANEL;
        let (scales, zeros) = (panel_of(self.b.scales, at), panel_of(self.b.zero_points, at));
        let first = self.panel * shape.column_words() + start / shape.per_word();
        let (words, _) = self.b.data[first * PANEL..].as_chunks::<PANEL>();
        for (word, values) in words.iter().zip(values.chunks_mut(shape.per_word())) {
            match shape.bits {
                4 => lanes.unpack::<4>(word, zeros, scales, values),
                _ => lanes.unpack::<8>(word, zeros, scales, values),
            }
        }
    }
}

#[inline(always)]
fn panel_of(values: &[f32], at: usize) -> &[f32; PANEL] {
    let (blocks, _) = values[at..].as_chunks::<PANEL>();
    &blocks[0]
}

/// The arithmetic on panels; all implementations give the same bits.
trait Lanes: Copy {
    /// `(q - zero) scale` of the values in a word of each column, the lowest bits first.
    fn unpack<const BITS: u32>(
        self,
        words: &[u32; PANEL],
        zeros: &[f32; PANEL],
        scales: &[f32; PANEL],
        values: &mut [[f32; PANEL]],
    );

    /// Adds the products of rows and values to the rows' sums.
    fn multiply<const R: usize>(
        self,
        rows: [&[f32]; R],
        values: &[[f32; PANEL]],
        sums: &mut [[f32; PANEL]; R],
    );
}

#[derive(Clone, Copy)]
struct Scalar;

impl Lanes for Scalar {
    fn unpack<const BITS: u32>(
        self,
        words: &[u32; PANEL],
        zeros: &[f32; PANEL],
        scales: &[f32; PANEL],
        values: &mut [[f32; PANEL]],
    ) {
        for (i, values) in (0u32..).zip(values) {
            for j in 0..PANEL {
                let q = words[j] >> (i * BITS) & ((1 << BITS) - 1);
                values[j] = (q as f32 - zeros[j]) * scales[j];
            }
        }
    }

    fn multiply<const R: usize>(
        self,
        rows: [&[f32]; R],
        values: &[[f32; PANEL]],
        sums: &mut [[f32; PANEL]; R],
    ) {
        for (k, values) in values.iter().enumerate() {
            for (row, sums) in rows.iter().zip(sums.iter_mut()) {
                sums.iter_mut().zip(values).for_each(|(sum, v)| *sum = row[k].mul_add(*v, *sum));
            }
        }
    }
}

impl<S: Simd> Lanes for S {
    #[inline(always)]
    fn unpack<const BITS: u32>(
        self,
        words: &[u32; PANEL],
        zeros: &[f32; PANEL],
        scales: &[f32; PANEL],
        values: &mut [[f32; PANEL]],
    ) {
        let s = self;
        let mask = s.splat_i((1 << BITS) - 1);
        for lane in (0..PANEL).step_by(S::LANES) {
            // SAFETY: each array has 16 elements of four bytes, a multiple of the lanes.
            let (mut word, zero, scale) = unsafe {
                let words = words.as_ptr().add(lane).cast::<f32>();
                let (zeros, scales) = (zeros.as_ptr().add(lane), scales.as_ptr().add(lane));
                (s.bits(s.load(words)), s.load(zeros), s.load(scales))
            };
            for values in values.iter_mut() {
                let q = s.to_float(s.and_i(word, mask));
                let value = s.mul(s.sub(q, zero), scale);
                // SAFETY: as above.
                unsafe { s.store(values.as_mut_ptr().add(lane), value) };
                word = s.sar_i::<BITS>(word);
            }
        }
    }

    #[inline(always)]
    fn multiply<const R: usize>(
        self,
        rows: [&[f32]; R],
        values: &[[f32; PANEL]],
        sums: &mut [[f32; PANEL]; R],
    ) {
        let s = self;
        assert!(rows.iter().all(|row| row.len() == values.len()), "rows of another depth");
        let vectors = PANEL / S::LANES;
        // SAFETY: arrays of 16 elements hold `vectors` vectors, at most two; rows are as long as
        // the values.
        unsafe {
            let mut acc = [[s.splat(0.0); 2]; R];
            for (acc, sums) in acc.iter_mut().zip(sums.iter()) {
                for (v, acc) in acc.iter_mut().enumerate().take(vectors) {
                    *acc = s.load(sums.as_ptr().add(v * S::LANES));
                }
            }
            for (k, values) in values.iter().enumerate() {
                for v in 0..vectors {
                    let value = s.load(values.as_ptr().add(v * S::LANES));
                    for (acc, row) in acc.iter_mut().zip(&rows) {
                        acc[v] = s.fma(s.splat(*row.get_unchecked(k)), value, acc[v]);
                    }
                }
            }
            for (acc, sums) in acc.iter().zip(sums.iter_mut()) {
                for (v, &acc) in acc.iter().enumerate().take(vectors) {
                    s.store(sums.as_mut_ptr().add(v * S::LANES), acc);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Cpu, Pool, test_data};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn weights_of_few_bits_multiply_like_their_values(
            (m, k, n) in (0usize..7, 1usize..150, 1usize..40),
            bits in prop_oneof![Just(4), Just(8)],
            block in prop_oneof![Just(16usize), Just(32), Just(128)],
        ) {
            let shape = NBits { k, n, bits, block };
            let source: Vec<u8> = (0..shape.source_len()).map(|i| (i * 73 + i / 7) as u8).collect();
            let (a, bias) = (test_data(m * k, 3), test_data(n, 4));
            let scale = |n: usize, b: usize| 0.01 + ((n * 7 + b) % 5) as f32 * 0.003;
            let zero = |n: usize, b: usize| ((n + b * 3) % 11) as f32;
            let mut data = vec![0u32; shape.packed_len()];
            let (mut scales, mut zero_points) =
                (vec![0.0; shape.parameters_len()], vec![0.0; shape.parameters_len()]);
            shape.pack(&source, &mut data);
            shape.pack_parameters(scale, &mut scales);
            shape.pack_parameters(zero, &mut zero_points);
            let b = PackedNBits { shape, data: &data, scales: &scales, zero_points: &zero_points };
            let weight = |k: usize, n: usize| {
                let at = (n * shape.blocks() + k / block) * block + k % block;
                let q = match bits {
                    4 if at.is_multiple_of(2) => source[at / 2] & 15,
                    4 => source[at / 2] >> 4,
                    _ => source[at],
                };
                (f32::from(q) - zero(n, k / block)) * scale(n, k / block)
            };
            let mut first: Option<Vec<f32>> = None;
            for (cpu, threads) in Cpu::tested().flat_map(|cpu| [(cpu, 1), (cpu, 3)]) {
                let pool = Pool::new(threads).unwrap();
                let mut out = vec![7.0; m * n];
                matmul_nbits(Exec { cpu, pool: &pool }, m, &a, b, Some(&bias), &mut out);
                for (i, &y) in out.iter().enumerate() {
                    let terms = || (0..k).map(|k_at| {
                        f64::from(a[i / n * k + k_at]) * f64::from(weight(k_at, i % n))
                    });
                    let exact = terms().sum::<f64>() + f64::from(bias[i % n]);
                    let size: f64 = terms().map(f64::abs).sum::<f64>() + 1.0;
                    prop_assert!((f64::from(y) - exact).abs() <= 1e-6 * size);
                }
                let bits = first.get_or_insert_with(|| out.clone());
                prop_assert!(bits.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
        }
    }
}
