//! The arithmetic that cells are written over: vectors of f32, or plain loops in f64.

use super::GateFn;
use crate::elementwise::Wide;
use crate::gemm::gemm_again;
use crate::{Activation, Epilogue, Exec, PackedB, Pool, RowsMut, RowsRef, activate};

/// Products with the recurrence weights, and functions of gates.
pub trait Arithmetic {
    /// The type of states and gates.
    type Number: Wide;

    /// `out = rows weights[part]ᵀ + bias + residual`, the rows of `out` and `residual` lying the
    /// given elements apart.
    fn product(
        &self,
        part: usize,
        rows: &[Self::Number],
        bias: Option<&[Self::Number]>,
        residual: Option<(&[Self::Number], usize)>,
        out: (&mut [Self::Number], usize),
    );

    /// Applies a function to every element.
    fn apply(&self, function: GateFn, data: &mut [Self::Number]);
}

/// Vector instructions over packed weights.
#[derive(Debug, Clone, Copy)]
pub struct Fast<'a> {
    /// What to run on.
    pub exec: Exec<'a>,
    /// Sequences: rows of every product.
    pub batch: usize,
    /// Weights `[hidden, gates hidden]` of each part.
    pub weights: [PackedB<'a>; 2],
}

impl Arithmetic for Fast<'_> {
    type Number = f32;

    fn product(
        &self,
        part: usize,
        rows: &[f32],
        bias: Option<&[f32]>,
        residual: Option<(&[f32], usize)>,
        (data, stride): (&mut [f32], usize),
    ) {
        let weights = self.weights[part];
        let residual = residual.map(|(data, stride)| RowsRef { data, stride });
        let epilogue = Epilogue { bias, residual, activation: Activation::None };
        let rows = RowsRef { data: rows, stride: weights.k() };
        gemm_again(self.exec, self.batch, rows, weights, &epilogue, RowsMut { data, stride });
    }

    fn apply(&self, function: GateFn, data: &mut [f32]) {
        let known = match function {
            GateFn::Relu => Activation::Relu,
            GateFn::Tanh => Activation::Tanh,
            GateFn::Sigmoid => Activation::Sigmoid,
            GateFn::LeakyRelu(slope) => Activation::LeakyRelu(slope),
            GateFn::HardSigmoid(alpha, beta) => Activation::HardSigmoid { alpha, beta },
            other => {
                return data.iter_mut().for_each(|x| *x = other.of(f64::from(*x)) as f32);
            }
        };
        activate(Exec { cpu: self.exec.cpu, pool: Pool::inline() }, known, data);
    }
}

/// Plain loops in f64 over weights as they are.
#[derive(Debug, Clone, Copy)]
pub struct Direct<'a> {
    /// Elements of a state.
    pub hidden: usize,
    /// Weights `[gates hidden, hidden]` of each part.
    pub weights: [&'a [f64]; 2],
}

impl Arithmetic for Direct<'_> {
    type Number = f64;

    fn product(
        &self,
        part: usize,
        rows: &[f64],
        bias: Option<&[f64]>,
        residual: Option<(&[f64], usize)>,
        (out, stride): (&mut [f64], usize),
    ) {
        for (r, row) in rows.chunks_exact(self.hidden.max(1)).enumerate() {
            for (j, weights) in self.weights[part].chunks_exact(self.hidden.max(1)).enumerate() {
                let mut sum: f64 = row.iter().zip(weights).map(|(x, w)| x * w).sum();
                sum += bias.map_or(0.0, |bias| bias[j]);
                sum += residual.map_or(0.0, |(data, stride)| data[r * stride + j]);
                out[r * stride + j] = sum;
            }
        }
    }

    fn apply(&self, function: GateFn, data: &mut [f64]) {
        data.iter_mut().for_each(|x| *x = function.of(*x));
    }
}
