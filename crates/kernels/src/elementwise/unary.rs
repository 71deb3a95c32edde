//! Functions of one argument.

use super::{Float, Wide};
use crate::parallel::over_chunks;
use crate::{Activation, Exec, activate, erf_f64};
use landfall_tensor::Element;

/// A real function of one argument. Parameters are the operator's `alpha`, `beta`, `gamma`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs, reason = "each is the function of that name")]
pub enum UnaryFn {
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    Ceil,
    /// `max(0, x) + min(0, alpha (e^(x/alpha) - 1))`.
    Celu(f32),
    /// `min(max(x, low), high)`; NaN stays NaN.
    Clip(f64, f64),
    Cos,
    Cosh,
    /// `x < 0 ? alpha (e^x - 1) : x`.
    Elu(f32),
    Erf,
    Exp,
    Floor,
    /// `x Φ(x)` by the error function.
    Gelu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// `min(max(alpha x + beta, 0), 1)`.
    HardSigmoid(f32, f32),
    HardSwish,
    /// `x < 0 ? alpha x : x`.
    LeakyRelu(f32),
    Ln,
    Mish,
    Neg,
    Reciprocal,
    Relu,
    /// To the nearest integer, ties to even.
    Round,
    /// `gamma (x > 0 ? x : alpha (e^x - 1))`.
    Selu(f32, f32),
    /// `x < -lambda ? x + bias : x > lambda ? x - bias : 0`.
    Shrink {
        bias: f32,
        lambda: f32,
    },
    Sigmoid,
    Sign,
    Sin,
    Sinh,
    Softplus,
    Softsign,
    Sqrt,
    /// `x sigmoid(alpha x)`.
    Swish(f32),
    Tan,
    Tanh,
    /// `x > alpha ? x : 0`.
    ThresholdedRelu(f32),
}

impl UnaryFn {
    /// The vectorised kernel for `f32`, where there is one.
    fn vectorised(self) -> Option<Activation> {
        Some(match self {
            UnaryFn::Relu => Activation::Relu,
            UnaryFn::Clip(low, high) => Activation::Clip(low as f32, high as f32),
            UnaryFn::Sigmoid => Activation::Sigmoid,
            UnaryFn::Swish(1.0) => Activation::Silu,
            UnaryFn::HardSwish => Activation::HardSwish,
            UnaryFn::HardSigmoid(alpha, beta) => Activation::HardSigmoid { alpha, beta },
            UnaryFn::LeakyRelu(slope) => Activation::LeakyRelu(slope),
            UnaryFn::Tanh => Activation::Tanh,
            UnaryFn::Gelu => Activation::Gelu,
            UnaryFn::GeluTanh => Activation::GeluTanh,
            UnaryFn::Exp => Activation::Exp,
            UnaryFn::Ln => Activation::Ln,
            UnaryFn::Erf => Activation::Erf,
            _ => return None,
        })
    }
}

/// Applies `function` to every element of `input`; `out` has as many elements.
pub fn unary_float<T: Float>(exec: Exec<'_>, function: UnaryFn, input: &[T], out: &mut [T]) {
    assert_eq!(input.len(), out.len());
    if let Some(activation) = function.vectorised()
        && let (Ok(from), Ok(to)) =
            (bytemuck::try_cast_slice::<T, u8>(input), bytemuck::try_cast_slice_mut::<T, u8>(out))
        && T::DTYPE == landfall_tensor::DType::F32
    {
        to.copy_from_slice(from);
        activate(exec, activation, bytemuck::cast_slice_mut(out));
        return;
    }
    over_chunks(exec, out, 1, 8, &|start, chunk| {
        let input = &input[start..start + chunk.len()];
        apply(function, input, chunk);
    });
}

fn each<T: Float>(input: &[T], out: &mut [T], f: impl Fn(T::Wide) -> T::Wide) {
    for (o, &x) in out.iter_mut().zip(input) {
        *o = T::narrow(f(x.widen()));
    }
}

/// One loop for each function, so that the choice is made once and not for every element.
fn apply<T: Float>(function: UnaryFn, input: &[T], out: &mut [T]) {
    macro_rules! std_form {
        ($name:ident) => {
            each(input, out, |x| x.apply(f32::$name, f64::$name))
        };
    }
    match function {
        UnaryFn::Abs => std_form!(abs),
        UnaryFn::Acos => std_form!(acos),
        UnaryFn::Acosh => std_form!(acosh),
        UnaryFn::Asin => std_form!(asin),
        UnaryFn::Asinh => std_form!(asinh),
        UnaryFn::Atan => std_form!(atan),
        UnaryFn::Atanh => std_form!(atanh),
        UnaryFn::Ceil => std_form!(ceil),
        UnaryFn::Cos => std_form!(cos),
        UnaryFn::Cosh => std_form!(cosh),
        UnaryFn::Exp => std_form!(exp),
        UnaryFn::Floor => std_form!(floor),
        UnaryFn::Ln => std_form!(ln),
        UnaryFn::Round => std_form!(round_ties_even),
        UnaryFn::Sin => std_form!(sin),
        UnaryFn::Sinh => std_form!(sinh),
        UnaryFn::Sqrt => std_form!(sqrt),
        UnaryFn::Tan => std_form!(tan),
        UnaryFn::Tanh => std_form!(tanh),
        other => apply_piecewise(other, input, out),
    }
}

/// The functions that differ from one range of arguments to the next.
fn apply_piecewise<T: Float>(function: UnaryFn, input: &[T], out: &mut [T]) {
    let of = |value: f32| <T::Wide as Wide>::of(f64::from(value));
    let (zero, one) = (of(0.0), of(1.0));
    let expm1 = |x: T::Wide| x.apply(f32::exp_m1, f64::exp_m1);
    match function {
        UnaryFn::Erf => each(input, out, |x| x.apply(|x| erf_f64(x.into()) as f32, erf_f64)),
        UnaryFn::Neg => each(input, out, |x| -x),
        UnaryFn::Reciprocal => each(input, out, |x| one / x),
        UnaryFn::Relu => each(input, out, |x| if x < zero { zero } else { x }),
        UnaryFn::Sign => each(input, out, |x| {
            if x > zero {
                one
            } else if x < zero {
                -one
            } else {
                x
            }
        }),
        UnaryFn::Clip(low, high) => {
            let (low, high) = (T::Wide::of(low), T::Wide::of(high));
            each(input, out, |x| {
                let x = if x < low { low } else { x };
                if x > high { high } else { x }
            });
        }
        UnaryFn::Celu(alpha) => {
            let alpha = of(alpha);
            each(input, out, |x| if x > zero { x } else { alpha * expm1(x / alpha) });
        }
        UnaryFn::Elu(alpha) => {
            let alpha = of(alpha);
            each(input, out, |x| if x < zero { alpha * expm1(x) } else { x });
        }
        UnaryFn::Selu(alpha, gamma) => {
            let (alpha, gamma) = (of(alpha), of(gamma));
            each(input, out, |x| gamma * if x > zero { x } else { alpha * expm1(x) });
        }
        UnaryFn::LeakyRelu(alpha) => {
            let alpha = of(alpha);
            each(input, out, |x| if x < zero { alpha * x } else { x });
        }
        UnaryFn::ThresholdedRelu(alpha) => {
            let alpha = of(alpha);
            each(input, out, |x| if x > alpha { x } else { zero });
        }
        UnaryFn::Shrink { bias, lambda } => {
            let (bias, lambda) = (of(bias), of(lambda));
            each(input, out, |x| {
                if x < -lambda {
                    x + bias
                } else if x > lambda {
                    x - bias
                } else {
                    zero
                }
            });
        }
        other => apply_gates(other, input, out),
    }
}

/// The functions that gate their argument, and those made of a sigmoid.
fn apply_gates<T: Float>(function: UnaryFn, input: &[T], out: &mut [T]) {
    let of = |value: f64| <T::Wide as Wide>::of(value);
    let (zero, one, half) = (of(0.0), of(1.0), of(0.5));
    let unit = |x: T::Wide| {
        let x = if x < zero { zero } else { x };
        if x > one { one } else { x }
    };
    let exp = |x: T::Wide| x.apply(f32::exp, f64::exp);
    let sigmoid = |x: T::Wide| one / (one + exp(-x));
    let softplus = |x: T::Wide| {
        let positive = if x > zero { x } else { zero };
        let magnitude = if x > zero { -x } else { x };
        positive + exp(magnitude).apply(f32::ln_1p, f64::ln_1p)
    };
    let tanh = |x: T::Wide| x.apply(f32::tanh, f64::tanh);
    let erf = |x: T::Wide| x.apply(|x| erf_f64(x.into()) as f32, erf_f64);
    match function {
        UnaryFn::Sigmoid => each(input, out, sigmoid),
        UnaryFn::Softplus => each(input, out, softplus),
        UnaryFn::Softsign => each(input, out, |x| x / (one + if x < zero { -x } else { x })),
        UnaryFn::Mish => each(input, out, |x| x * tanh(softplus(x))),
        UnaryFn::Swish(alpha) => each(input, out, |x| x * sigmoid(of(alpha.into()) * x)),
        UnaryFn::HardSwish => each(input, out, |x| x * unit(x / of(6.0) + half)),
        UnaryFn::HardSigmoid(alpha, beta) => {
            each(input, out, |x| unit(of(alpha.into()) * x + of(beta.into())));
        }
        UnaryFn::Gelu => {
            each(input, out, |x| half * x * (one + erf(x * of(std::f64::consts::FRAC_1_SQRT_2))));
        }
        UnaryFn::GeluTanh => each(input, out, |x| {
            let inner = of((2.0 / std::f64::consts::PI).sqrt()) * (x + of(0.044715) * x * x * x);
            half * x * (one + tanh(inner))
        }),
        _ => unreachable!("every other function is in the functions above"),
    }
}

/// A function of one integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the function of that name; overflow wraps")]
pub enum IntegerUnary {
    Abs,
    Neg,
    Sign,
    Relu,
    Not,
    /// `min(max(x, low), high)`.
    Clip(i128, i128),
}

/// Applies `function` to every element of `input`.
pub fn unary_integer<T: Integer>(function: IntegerUnary, input: &[T], out: &mut [T]) {
    for (o, &x) in out.iter_mut().zip(input) {
        *o = match function {
            IntegerUnary::Abs => {
                if x < T::ZERO {
                    x.negate()
                } else {
                    x
                }
            }
            IntegerUnary::Neg => x.negate(),
            IntegerUnary::Sign => x.sign(),
            IntegerUnary::Relu => {
                if x < T::ZERO {
                    T::ZERO
                } else {
                    x
                }
            }
            IntegerUnary::Not => x.complement(),
            IntegerUnary::Clip(low, high) => x.clamp_wide(low, high),
        };
    }
}

/// An integer element type; arithmetic wraps.
pub trait Integer: Element + Ord {
    /// Zero.
    const ZERO: Self;
    /// Bits of the type.
    const BITS: u32;
    /// Two's complement negation.
    fn negate(self) -> Self;
    /// Bitwise complement.
    fn complement(self) -> Self;
    /// -1, 0 or 1.
    fn sign(self) -> Self;
    /// `self` between two bounds, which are first brought into the type's range.
    fn clamp_wide(self, low: i128, high: i128) -> Self;
    /// The value.
    fn wide(self) -> i128;
    /// The low bits of a value.
    fn truncate(wide: i128) -> Self;
}

macro_rules! integers {
    ($($ty:ty)*) => {$(
        impl Integer for $ty {
            const ZERO: $ty = 0;
            const BITS: u32 = <$ty>::BITS;
            #[inline(always)]
            fn negate(self) -> $ty { self.wrapping_neg() }
            #[inline(always)]
            fn complement(self) -> $ty { !self }
            #[inline(always)]
            fn sign(self) -> $ty { self.wide().signum() as $ty }
            #[inline(always)]
            fn clamp_wide(self, low: i128, high: i128) -> $ty {
                let (min, max) = (<$ty>::MIN as i128, <$ty>::MAX as i128);
                let low = low.clamp(min, max) as $ty;
                self.max(low).min(high.clamp(min, max) as $ty)
            }
            #[inline(always)]
            fn wide(self) -> i128 { self as i128 }
            #[inline(always)]
            fn truncate(wide: i128) -> $ty { wide as $ty }
        }
    )*};
}

integers! { i8 u8 i16 u16 i32 u32 i64 u64 }
