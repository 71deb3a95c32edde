//! Activations that a kernel applies to its output while it is in cache.

use super::lanes;
use crate::simd::{Simd, SimdOp, dispatch};
use crate::{Cpu, Exec, parallel};

/// A function applied to each element of an output. NaN stays NaN.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Activation {
    /// The identity.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, low), high)`.
    Clip(f32, f32),
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `x sigmoid(x)`.
    Silu,
    /// `x min(max(x / 6 + 1/2, 0), 1)`.
    HardSwish,
    /// `min(max(alpha x + beta, 0), 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x` where positive, else `slope x`.
    LeakyRelu(f32),
    /// Hyperbolic tangent.
    Tanh,
    /// `x Φ(x)` by the error function.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// `e^x`.
    Exp,
    /// Natural logarithm.
    Ln,
    /// Error function.
    Erf,
}

impl Activation {
    /// Bounds, if the activation only clamps.
    pub(crate) fn as_clamp(self) -> Option<(f32, f32)> {
        match self {
            Activation::None => Some((f32::NEG_INFINITY, f32::INFINITY)),
            Activation::Relu => Some((0.0, f32::INFINITY)),
            Activation::Clip(low, high) => Some((low, high)),
            _ => None,
        }
    }

    /// The scalar twin, in double precision inside.
    pub fn reference(self, x: f32) -> f32 {
        let v = f64::from(x);
        let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
        let y = match self {
            Activation::None => v,
            Activation::Relu if x.is_nan() => v,
            Activation::Relu => v.max(0.0),
            Activation::Clip(..) if x.is_nan() => v,
            Activation::Clip(low, high) => v.max(low.into()).min(high.into()),
            Activation::Sigmoid => sigmoid(v),
            Activation::Silu => v * sigmoid(v),
            Activation::HardSwish => v * (v / 6.0 + 0.5).clamp(0.0, 1.0),
            Activation::HardSigmoid { alpha, beta } => {
                (f64::from(alpha) * v + f64::from(beta)).clamp(0.0, 1.0)
            }
            Activation::LeakyRelu(slope) if v < 0.0 => v * f64::from(slope),
            Activation::LeakyRelu(_) => v,
            Activation::Tanh => v.tanh(),
            Activation::Gelu => {
                v * 0.5 * (1.0 + super::erf_f64(v * std::f64::consts::FRAC_1_SQRT_2))
            }
            Activation::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044_715 * v * v * v);
                0.5 * v * (1.0 + inner.tanh())
            }
            Activation::Exp => v.exp(),
            Activation::Ln => v.ln(),
            Activation::Erf => super::erf_f64(v),
        };
        y as f32
    }

    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::F) -> S::F {
        let clamp = |x, low, high| s.min(s.splat(high), s.max(s.splat(low), x));
        match self {
            Activation::None => x,
            Activation::Relu => s.max(s.splat(0.0), x),
            Activation::Clip(low, high) => clamp(x, low, high),
            Activation::Sigmoid => lanes::sigmoid(s, x),
            Activation::Silu => s.mul(x, lanes::sigmoid(s, x)),
            Activation::HardSwish => {
                let gate = s.fma(x, s.splat(1.0 / 6.0), s.splat(0.5));
                s.mul(x, clamp(gate, 0.0, 1.0))
            }
            Activation::HardSigmoid { alpha, beta } => {
                clamp(s.fma(x, s.splat(alpha), s.splat(beta)), 0.0, 1.0)
            }
            Activation::LeakyRelu(slope) => {
                s.select(s.less(x, s.splat(0.0)), s.mul(x, s.splat(slope)), x)
            }
            Activation::Tanh => lanes::tanh(s, x),
            Activation::Gelu => lanes::gelu(s, x),
            Activation::GeluTanh => lanes::gelu_tanh(s, x),
            Activation::Exp => lanes::exp(s, x),
            Activation::Ln => lanes::ln(s, x),
            Activation::Erf => lanes::erf(s, x),
        }
    }
}

/// Applies an activation to a tile in place.
pub(crate) struct ActivateTile {
    pub(crate) activation: Activation,
    /// `rows` rows of `cols` elements, `stride` apart.
    pub(crate) start: *mut f32,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) stride: usize,
}

impl SimdOp for ActivateTile {
    type Output = ();

    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        for row in 0..self.rows {
            // SAFETY: whoever made the tile vouches for its rows and columns.
            unsafe {
                let start = self.start.add(row * self.stride);
                let mut col = 0;
                while col + S::LANES <= self.cols {
                    let x = s.load(start.add(col));
                    s.store(start.add(col), self.activation.apply(s, x));
                    col += S::LANES;
                }
                if col < self.cols {
                    let x = s.load_n(start.add(col), self.cols - col);
                    s.store_n(start.add(col), self.activation.apply(s, x), self.cols - col);
                }
            }
        }
    }
}

impl ActivateTile {
    /// Applies the activation with the best instructions of `cpu`.
    pub(crate) fn apply(self, cpu: Cpu) {
        if self.activation == Activation::None {
            return;
        }
        let ActivateTile { activation, start, rows, cols, stride } = self;
        if dispatch(cpu, self).is_none() {
            for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
                // SAFETY: whoever made the tile vouches for its rows and columns.
                let x = unsafe { &mut *start.add(row * stride + col) };
                *x = activation.reference(*x);
            }
        }
    }
}

/// Applies an activation to a slice in place, on this thread.
pub(crate) fn activate_slice(cpu: Cpu, activation: Activation, data: &mut [f32]) {
    let cols = data.len();
    ActivateTile { activation, start: data.as_mut_ptr(), rows: 1, cols, stride: 0 }.apply(cpu);
}

/// Applies an activation to every element in place.
pub fn activate(exec: Exec<'_>, activation: Activation, data: &mut [f32]) {
    if activation == Activation::None {
        return;
    }
    parallel::over_chunks(exec, data, 1, 8, &|_, chunk| {
        activate_slice(exec.cpu, activation, chunk);
    });
}
