//! Recurrent cells: plain, gated (GRU) and long short-term memory (LSTM).
//!
//! The products of all inputs with the input weights are made before the walk through time, as one
//! matrix product. Each step multiplies the state by the recurrence weights and applies the gates,
//! row by row. Equations: the ONNX operators RNN, GRU and LSTM.

mod arithmetic;
mod cell;
#[cfg(test)]
mod tests;

pub use arithmetic::{Arithmetic, Direct, Fast};
pub use cell::{Emit, State, run_cells};

/// Which cell, with its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellKind {
    /// One gate.
    Plain,
    /// Gates update, reset and hidden, in this order.
    Gru {
        /// The reset gate multiplies the product with the state, not the state.
        linear_before_reset: bool,
    },
    /// Gates input, output, forget and cell, in this order.
    Lstm {
        /// The forget gate is one minus the input gate.
        input_forget: bool,
    },
}

impl CellKind {
    /// Gates of one cell.
    pub fn gates(self) -> usize {
        match self {
            CellKind::Plain => 1,
            CellKind::Gru { .. } => 3,
            CellKind::Lstm { .. } => 4,
        }
    }

    /// Gates whose products with the state are made at once, then those made after them.
    pub fn parts(self) -> [usize; 2] {
        match self {
            CellKind::Gru { .. } => [2, 1],
            other => [other.gates(), 0],
        }
    }

    /// Functions that it applies.
    pub fn functions(self) -> usize {
        match self {
            CellKind::Plain => 1,
            CellKind::Gru { .. } => 2,
            CellKind::Lstm { .. } => 3,
        }
    }
}

/// A function of a gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GateFn {
    /// `max(x, 0)`.
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `a x + b`.
    Affine(f32, f32),
    /// `x` where not negative, else `a x`.
    LeakyRelu(f32),
    /// `x` where at least `a`, else 0.
    ThresholdedRelu(f32),
    /// `a tanh(b x)`.
    ScaledTanh(f32, f32),
    /// `min(max(a x + b, 0), 1)`.
    HardSigmoid(f32, f32),
    /// `x` where not negative, else `a (e^x - 1)`.
    Elu(f32),
    /// `x / (1 + |x|)`.
    Softsign,
    /// `ln(1 + e^x)`.
    Softplus,
}

impl GateFn {
    fn of(self, x: f64) -> f64 {
        match self {
            GateFn::Relu => x.max(0.0),
            GateFn::Tanh => x.tanh(),
            GateFn::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            GateFn::Affine(a, b) => f64::from(a) * x + f64::from(b),
            GateFn::LeakyRelu(a) if x < 0.0 => f64::from(a) * x,
            GateFn::LeakyRelu(_) => x,
            GateFn::ThresholdedRelu(a) if x >= f64::from(a) => x,
            GateFn::ThresholdedRelu(_) => 0.0,
            GateFn::ScaledTanh(a, b) => f64::from(a) * (f64::from(b) * x).tanh(),
            GateFn::HardSigmoid(a, b) => (f64::from(a) * x + f64::from(b)).clamp(0.0, 1.0),
            GateFn::Elu(a) if x < 0.0 => f64::from(a) * x.exp_m1(),
            GateFn::Elu(_) => x,
            GateFn::Softsign => x / (1.0 + x.abs()),
            GateFn::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        }
    }
}

/// A layer of cells in one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recurrent {
    /// The cell.
    pub kind: CellKind,
    /// Steps in time.
    pub steps: usize,
    /// Independent sequences.
    pub batch: usize,
    /// Elements of the state of one cell.
    pub hidden: usize,
    /// Rows are ordered by sequence, then step; else by step, then sequence.
    pub batch_first: bool,
    /// From the last step to the first.
    pub reverse: bool,
    /// Bound on the magnitude of what the functions get.
    pub clip: Option<f32>,
    /// The gates' functions in the order of the operator.
    pub functions: [GateFn; 3],
}
