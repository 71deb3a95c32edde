//! Functions of two broadcast arguments.

use landfall_tensor::Element;

use super::unary::Integer;
use super::{Broadcast, Float, Wide};
use crate::Exec;
use crate::parallel::over_chunks;

/// A real function of two arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the function of that name")]
pub enum BinaryFn {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    /// NaN if either is NaN.
    Max,
    /// NaN if either is NaN.
    Min,
    /// Remainder with the sign of the dividend.
    Remainder,
    /// Remainder with the sign of the divisor, zeros included.
    Modulo,
    /// `a < 0 ? a b : a`.
    PRelu,
    /// The second argument.
    Second,
}

/// A function of two integers. Arithmetic wraps; division by zero gives zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the function of that name")]
pub enum IntegerFn {
    Add,
    Sub,
    Mul,
    /// Truncating.
    Div,
    Max,
    Min,
    /// Remainder with the sign of the divisor.
    Modulo,
    /// Remainder with the sign of the dividend.
    Remainder,
    /// `a < 0 ? a b : a`.
    PRelu,
    Pow,
    /// The second argument.
    Second,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the comparison of that name")]
pub enum CompareFn {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A function of two truth values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the function of that name")]
pub enum LogicFn {
    And,
    Or,
    Xor,
}

/// A function of two bit patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the function of that name")]
pub enum BitFn {
    And,
    Or,
    Xor,
    /// Zero once all bits are out, or if the amount is negative.
    ShiftLeft,
    /// Copies of the sign bit come in; an amount that is negative or too large leaves only them.
    ShiftRight,
}

/// `out[i] = f(a[..], b[..])` along the pattern; the inner loop is one of four that vectorise.
pub(super) fn zip<A: Element, B: Element, O: Send>(
    exec: Exec<'_>,
    pattern: &Broadcast,
    (a, b): (&[A], &[B]),
    out: &mut [O],
    f: impl Fn(A, B) -> O + Sync,
) {
    let row = pattern.row();
    assert_eq!(out.len(), row * pattern.rows());
    let steps = (pattern.row_stride(0), pattern.row_stride(1));
    if pattern.rows() == 1 {
        over_chunks(exec, out, 1, 2, &|start, chunk| {
            row_of(&a[start * steps.0..], &b[start * steps.1..], steps, chunk, &f);
        });
        return;
    }
    over_chunks(exec, out, row, 2, &|first, chunk| {
        let count = chunk.len() / row;
        let mut rows = chunk.chunks_exact_mut(row);
        pattern.walk::<2>(first, count, |_, [i, j]| {
            if let Some(chunk) = rows.next() {
                row_of(&a[i..], &b[j..], steps, chunk, &f);
            }
        });
    });
}

#[inline(always)]
fn row_of<A: Element, B: Element, O>(
    a: &[A],
    b: &[B],
    steps: (usize, usize),
    out: &mut [O],
    f: &impl Fn(A, B) -> O,
) {
    match steps {
        (0, 0) => {
            for o in out.iter_mut() {
                *o = f(a[0], b[0]);
            }
        }
        (0, _) => {
            let x = a[0];
            for (o, &y) in out.iter_mut().zip(b) {
                *o = f(x, y);
            }
        }
        (_, 0) => {
            let y = b[0];
            for (o, &x) in out.iter_mut().zip(a) {
                *o = f(x, y);
            }
        }
        _ => {
            for ((o, &x), &y) in out.iter_mut().zip(a).zip(b) {
                *o = f(x, y);
            }
        }
    }
}

/// `out[i] = f(out[i], b[..])`; the pattern is of (out, b).
fn zip_assign<T: Element>(
    exec: Exec<'_>,
    pattern: &Broadcast,
    b: &[T],
    out: &mut [T],
    f: impl Fn(T, T) -> T + Sync,
) {
    let row = pattern.row();
    let step = pattern.row_stride(1);
    over_chunks(exec, out, row, 2, &|first, chunk| {
        let count = chunk.len() / row;
        let mut rows = chunk.chunks_exact_mut(row);
        pattern.walk::<2>(first, count, |_, [_, j]| {
            let Some(chunk) = rows.next() else { return };
            if step == 0 {
                chunk.iter_mut().for_each(|o| *o = f(*o, b[j]));
            } else {
                chunk.iter_mut().zip(&b[j..]).for_each(|(o, &y)| *o = f(*o, y));
            }
        });
    });
}

/// Picks the closure of a real function and hands it to `$run`.
macro_rules! real_function {
    ($function:expr, $T:ident, $run:ident) => {{
        let zero = <$T::Wide as Wide>::of(0.0);
        type W<T> = <T as Float>::Wide;
        match $function {
            BinaryFn::Add => $run!(|x: W<$T>, y: W<$T>| x + y),
            BinaryFn::Sub => $run!(|x: W<$T>, y: W<$T>| x - y),
            BinaryFn::Mul => $run!(|x: W<$T>, y: W<$T>| x * y),
            BinaryFn::Div => $run!(|x: W<$T>, y: W<$T>| x / y),
            BinaryFn::Pow => $run!(|x: W<$T>, y: W<$T>| x.power(y)),
            BinaryFn::Max => $run!(|x: W<$T>, y: W<$T>| if x > y || is_nan(x) { x } else { y }),
            BinaryFn::Min => $run!(|x: W<$T>, y: W<$T>| if x < y || is_nan(x) { x } else { y }),
            BinaryFn::Remainder => $run!(|x: W<$T>, y: W<$T>| x % y),
            BinaryFn::Modulo => $run!(modulo::<W<$T>>),
            BinaryFn::PRelu => $run!(|x: W<$T>, y: W<$T>| if x < zero { x * y } else { x }),
            BinaryFn::Second => $run!(|_: W<$T>, y: W<$T>| y),
        }
    }};
}

/// A real function of two operands of one type.
pub fn binary_float<T: Float>(
    exec: Exec<'_>,
    function: BinaryFn,
    pattern: &Broadcast,
    a: &[T],
    b: &[T],
    out: &mut [T],
) {
    macro_rules! run {
        ($f:expr) => {{
            let f = $f;
            zip(exec, pattern, (a, b), out, |x: T, y: T| T::narrow(f(x.widen(), y.widen())))
        }};
    }
    real_function!(function, T, run)
}

/// A real function whose first operand is the result's old value; the pattern is of (result, b).
pub fn accumulate_float<T: Float>(
    exec: Exec<'_>,
    function: BinaryFn,
    pattern: &Broadcast,
    b: &[T],
    out: &mut [T],
) {
    macro_rules! run {
        ($f:expr) => {{
            let f = $f;
            zip_assign(exec, pattern, b, out, |x: T, y: T| T::narrow(f(x.widen(), y.widen())))
        }};
    }
    real_function!(function, T, run)
}

fn modulo<W: Wide>(x: W, y: W) -> W {
    let zero = W::of(0.0);
    let rest = x % y;
    let negative = y.to_f64().is_sign_negative();
    if rest == zero {
        return if negative { -zero } else { zero };
    }
    // An infinite divisor of the other sign is itself the remainder: x - floor(x / y) y.
    if (rest < zero) != negative { rest + y } else { rest }
}

#[allow(clippy::eq_op, reason = "only a NaN differs from itself")]
fn is_nan<W: Wide>(x: W) -> bool {
    x != x
}

/// Picks the closure of an integer function and hands it to `$run`.
macro_rules! integer_function {
    ($function:expr, $T:ident, $run:ident) => {
        match $function {
            IntegerFn::Add => $run!(|x: $T, y: $T| $T::truncate(x.wide() + y.wide())),
            IntegerFn::Sub => $run!(|x: $T, y: $T| $T::truncate(x.wide() - y.wide())),
            IntegerFn::Mul => $run!(|x: $T, y: $T| $T::truncate(x.wide().wrapping_mul(y.wide()))),
            IntegerFn::Div => {
                $run!(|x: $T, y: $T| $T::truncate(x.wide().checked_div(y.wide()).unwrap_or(0)))
            }
            IntegerFn::Max => $run!(|x: $T, y: $T| x.max(y)),
            IntegerFn::Min => $run!(|x: $T, y: $T| x.min(y)),
            IntegerFn::Remainder => {
                $run!(|x: $T, y: $T| $T::truncate(x.wide().checked_rem(y.wide()).unwrap_or(0)))
            }
            IntegerFn::Modulo => $run!(|x: $T, y: $T| {
                let (x, y) = (x.wide(), y.wide());
                let rest = x.checked_rem(y).unwrap_or(0);
                $T::truncate(if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest })
            }),
            IntegerFn::PRelu => $run!(|x: $T, y: $T| {
                if x < $T::ZERO { $T::truncate(x.wide() * y.wide()) } else { x }
            }),
            IntegerFn::Pow => $run!(|x: $T, y: $T| power(x, y.wide())),
            IntegerFn::Second => $run!(|_: $T, y: $T| y),
        }
    };
}

/// A function of two integer operands of one type.
pub fn binary_integer<T: Integer>(
    exec: Exec<'_>,
    function: IntegerFn,
    pattern: &Broadcast,
    a: &[T],
    b: &[T],
    out: &mut [T],
) {
    macro_rules! run {
        ($f:expr) => {
            zip(exec, pattern, (a, b), out, $f)
        };
    }
    integer_function!(function, T, run)
}

/// An integer function whose first operand is the result's old value; the pattern is of
/// (result, b).
pub fn accumulate_integer<T: Integer>(
    exec: Exec<'_>,
    function: IntegerFn,
    pattern: &Broadcast,
    b: &[T],
    out: &mut [T],
) {
    macro_rules! run {
        ($f:expr) => {
            zip_assign(exec, pattern, b, out, $f)
        };
    }
    integer_function!(function, T, run)
}

/// Integer bases to real powers, computed in `f64` and truncated; to integer powers use
/// [`IntegerFn::Pow`].
pub fn power_integer<T: Integer, E: Float>(
    exec: Exec<'_>,
    pattern: &Broadcast,
    base: &[T],
    exponent: &[E],
    out: &mut [T],
) {
    zip(exec, pattern, (base, exponent), out, |x: T, y: E| {
        T::truncate((x.wide() as f64).powf(y.widen().to_f64()) as i128)
    });
}

fn power<T: Integer>(base: T, exponent: i128) -> T {
    let Ok(mut exponent) = u64::try_from(exponent) else {
        // Only 1 and -1 have integral reciprocals.
        return match base.wide() {
            1 => base,
            -1 if exponent % 2 == 0 => T::truncate(1),
            -1 => base,
            _ => T::ZERO,
        };
    };
    let (mut result, mut square) = (T::truncate(1), base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = T::truncate(result.wide().wrapping_mul(square.wide()));
        }
        square = T::truncate(square.wide().wrapping_mul(square.wide()));
        exponent >>= 1;
    }
    result
}

/// A comparison of two operands of one type; results are 0 and 1.
pub fn binary_compare<T: Element>(
    exec: Exec<'_>,
    function: CompareFn,
    pattern: &Broadcast,
    a: &[T],
    b: &[T],
    out: &mut [u8],
) {
    match function {
        CompareFn::Equal => zip(exec, pattern, (a, b), out, |x, y| u8::from(x == y)),
        CompareFn::Less => zip(exec, pattern, (a, b), out, |x, y| u8::from(x < y)),
        CompareFn::LessOrEqual => zip(exec, pattern, (a, b), out, |x, y| u8::from(x <= y)),
        CompareFn::Greater => zip(exec, pattern, (a, b), out, |x, y| u8::from(x > y)),
        CompareFn::GreaterOrEqual => zip(exec, pattern, (a, b), out, |x, y| u8::from(x >= y)),
    }
}

/// A function of two boolean operands of 0 and 1.
pub fn binary_logic(
    exec: Exec<'_>,
    function: LogicFn,
    pattern: &Broadcast,
    a: &[u8],
    b: &[u8],
    out: &mut [u8],
) {
    match function {
        LogicFn::And => zip(exec, pattern, (a, b), out, |x, y| x & y),
        LogicFn::Or => zip(exec, pattern, (a, b), out, |x, y| x | y),
        LogicFn::Xor => zip(exec, pattern, (a, b), out, |x, y| x ^ y),
    }
}

/// A function of the bits of two operands of one type.
pub fn binary_bits<T: Integer>(
    exec: Exec<'_>,
    function: BitFn,
    pattern: &Broadcast,
    a: &[T],
    b: &[T],
    out: &mut [T],
) {
    let shift = |y: T| u32::try_from(y.wide()).ok().filter(|&n| n < T::BITS);
    match function {
        BitFn::And => zip(exec, pattern, (a, b), out, |x, y| T::truncate(x.wide() & y.wide())),
        BitFn::Or => zip(exec, pattern, (a, b), out, |x, y| T::truncate(x.wide() | y.wide())),
        BitFn::Xor => zip(exec, pattern, (a, b), out, |x, y| T::truncate(x.wide() ^ y.wide())),
        BitFn::ShiftLeft => zip(exec, pattern, (a, b), out, |x, y| {
            shift(y).map_or(T::ZERO, |n| T::truncate(x.wide() << n))
        }),
        BitFn::ShiftRight => zip(exec, pattern, (a, b), out, |x, y| {
            T::truncate(x.wide() >> shift(y).unwrap_or(T::BITS))
        }),
    }
}
