//! Products of `f32` and weights of 4 or 8 bits with a scale for every block of their depth.
//!
//! Weights are repacked once: panels of 16 columns, each depth index 16 values side by side, so that
//! a block turns into `f32` vectors in L1, where every row uses it. A row's sums run over the depth
//! in order whatever the other rows are.

use super::linear::{Task, run};
use crate::gemm::PANEL;
use crate::shared::SharedMut;
use crate::{Exec, parallel};

/// Rows that are multiplied together.
const ROWS: usize = 4;

/// Depth that is dequantised at a time.
const DEPTH: usize = 64;

/// Shape of a weight matrix `[K, N]` of few bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NBits {
    /// Depth.
    pub k: usize,
    /// Columns.
    pub n: usize,
    /// 4 or 8.
    pub bits: usize,
    /// Depth indices that share a scale and a zero point; the last block may be shorter.
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

    /// Bytes of 16 values.
    fn row_bytes(&self) -> usize {
        PANEL * self.bits / 8
    }

    /// Bytes of the packed weights.
    pub fn packed_len(&self) -> usize {
        self.panels() * self.k * self.row_bytes()
    }

    /// Length of the packed scales, and of the packed zero points.
    pub fn parameters_len(&self) -> usize {
        self.panels() * self.blocks() * PANEL
    }

    /// Packs weights `[N, blocks, block bits / 8]`, the earlier of two 4-bit values in the low bits.
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn pack(&self, source: &[u8], out: &mut [u8]) {
        assert_eq!(source.len(), self.source_len(), "weights of the wrong length");
        assert_eq!(out.len(), self.packed_len(), "packed weights of the wrong length");
        let value = |k: usize, n: usize| {
            let start = (n * self.blocks() + k / self.block) * self.block_bytes();
            let at = k % self.block;
            match self.bits {
                4 => source[start + at / 2] >> (at % 2 * 4) & 15,
                _ => source[start + at],
            }
        };
        let bytes = self.row_bytes();
        for (row, out) in out.chunks_exact_mut(bytes).enumerate() {
            let (panel, k) = (row / self.k, row % self.k);
            let of = |j: usize| match panel * PANEL + j {
                n if n < self.n => value(k, n),
                _ => 0,
            };
            for (j, byte) in out.iter_mut().enumerate() {
                *byte = if self.bits == 4 { of(j) | of(j + PANEL / 2) << 4 } else { of(j) };
            }
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
    /// [`NBits::packed_len`] bytes.
    pub data: &'a [u8],
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
        for panel in panels {
            run(exec, Panel { m, a, b, bias, out, panel });
        }
    });
}

struct Panel<'a> {
    m: usize,
    a: &'a [f32],
    b: PackedNBits<'a>,
    bias: Option<&'a [f32]>,
    out: SharedMut<'a, f32>,
    panel: usize,
}

impl Task for Panel<'_> {
    #[inline(always)]
    fn work(&mut self) {
        let NBits { k, n, block, .. } = self.b.shape;
        let first = self.panel * PANEL;
        let count = PANEL.min(n - first);
        // SAFETY: panels write disjoint columns, the rows of one call one after the other.
        let out = |row: usize| unsafe { self.out.range(row * n + first, count) };
        for row in 0..self.m {
            match self.bias {
                Some(bias) => out(row).copy_from_slice(&bias[first..first + count]),
                None => out(row).fill(0.0),
            }
        }
        let mut values = [[0f32; PANEL]; DEPTH];
        let mut start = 0;
        while start < k {
            let end = (start + DEPTH).min((start / block + 1) * block).min(k);
            self.dequantize(start, &mut values[..end - start]);
            let values = &values[..end - start];
            let rows = self.m / ROWS * ROWS;
            for row in (0..rows).step_by(ROWS) {
                let a = |i: usize| &self.a[(row + i) * k..][start..end];
                let mut sums = [[0f32; PANEL]; ROWS];
                for (i, sums) in sums.iter_mut().enumerate() {
                    sums[..count].copy_from_slice(out(row + i));
                }
                multiply([a(0), a(1), a(2), a(3)], values, &mut sums);
                for (i, sums) in sums.iter().enumerate() {
                    out(row + i).copy_from_slice(&sums[..count]);
                }
            }
            for row in rows..self.m {
                let mut sums = [[0f32; PANEL]];
                sums[0][..count].copy_from_slice(out(row));
                multiply([&self.a[row * k..][start..end]], values, &mut sums);
                out(row).copy_from_slice(&sums[0][..count]);
            }
            start = end;
        }
    }
}

impl Panel<'_> {
    /// The values of depth `start..start + values.len()`, which lie in one block.
    #[inline(always)]
    fn dequantize(&self, start: usize, values: &mut [[f32; PANEL]]) {
        let shape = self.b.shape;
        let at = (self.panel * shape.blocks() + start / shape.block) * PANEL;
        let (scales, zeros) = (panel_of(self.b.scales, at), panel_of(self.b.zero_points, at));
        let bytes = &self.b.data[(self.panel * shape.k + start) * shape.row_bytes()..];
        const HALF: usize = PANEL / 2;
        if shape.bits == 4 {
            let (rows, _) = bytes.as_chunks::<HALF>();
            for (row, values) in rows.iter().zip(values) {
                for j in 0..HALF {
                    values[j] = f32::from(row[j] & 15);
                    values[HALF + j] = f32::from(row[j] >> 4);
                }
                for j in 0..PANEL {
                    values[j] = (values[j] - zeros[j]) * scales[j];
                }
            }
            return;
        }
        let (rows, _) = bytes.as_chunks::<PANEL>();
        for (row, values) in rows.iter().zip(values) {
            for j in 0..PANEL {
                values[j] = (f32::from(row[j]) - zeros[j]) * scales[j];
            }
        }
    }
}

#[inline(always)]
fn panel_of(values: &[f32], at: usize) -> &[f32; PANEL] {
    let (blocks, _) = values[at..].as_chunks::<PANEL>();
    &blocks[0]
}

#[inline(always)]
fn multiply<const R: usize>(
    rows: [&[f32]; R],
    values: &[[f32; PANEL]],
    sums: &mut [[f32; PANEL]; R],
) {
    let mut acc = *sums;
    for (k, values) in values.iter().enumerate() {
        for i in 0..R {
            let x = rows[i][k];
            for j in 0..PANEL {
                acc[i][j] = x.mul_add(values[j], acc[i][j]);
            }
        }
    }
    *sums = acc;
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
            (m, k, n) in (0usize..7, 1usize..150, 1usize..40), bits in prop_oneof![Just(4), Just(8)],
            block in prop_oneof![Just(16usize), Just(32), Just(128)],
        ) {
            let shape = NBits { k, n, bits, block };
            let source: Vec<u8> = (0..shape.source_len()).map(|i| (i * 73 + i / 7) as u8).collect();
            let (a, bias) = (test_data(m * k, 3), test_data(n, 4));
            let scale = |n: usize, b: usize| 0.01 + ((n * 7 + b) % 5) as f32 * 0.003;
            let zero = |n: usize, b: usize| ((n + b * 3) % 11) as f32;
            let mut data = vec![0; shape.packed_len()];
            let (mut scales, mut zero_points) =
                (vec![0.0; shape.parameters_len()], vec![0.0; shape.parameters_len()]);
            shape.pack(&source, &mut data);
            shape.pack_parameters(scale, &mut scales);
            shape.pack_parameters(zero, &mut zero_points);
            let b = PackedNBits { shape, data: &data, scales: &scales, zero_points: &zero_points };
            let weight = |k: usize, n: usize| {
                let at = (n * shape.blocks() + k / block) * block + k % block;
                let q = match bits {
                    4 if at % 2 == 0 => source[at / 2] & 15,
                    4 => source[at / 2] >> 4,
                    _ => source[at],
                };
                (f32::from(q) - zero(n, k / block)) * scale(n, k / block)
            };
            let mut first: Option<Vec<f32>> = None;
            for (cpu, threads) in Cpu::available().flat_map(|cpu| [(cpu, 1), (cpu, 3)]) {
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
