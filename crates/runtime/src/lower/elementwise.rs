//! Operators that work element by element.

use landfall_graph::{GeluApproximation, Op};
use landfall_kernels::elementwise::{
    BinaryFn, BitFn, Broadcast, CAST_BLOCK, CastElement, CompareFn, Float, IntegerFn, IntegerUnary,
    LogicFn, Number, UnaryFn, Wide, accumulate_float, accumulate_integer, binary_bits,
    binary_compare, binary_float, binary_integer, binary_logic, power_integer, read_numbers,
    select, unary_float, unary_integer, write_numbers,
};
use landfall_tensor::{DType, TensorMut, TensorView};

use super::types::{any_type, float_type, integer_type, number_type};
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    let boxed = |kernel: Box<dyn Kernel>| Ok(Lowered::Kernel(kernel));
    if let Some(function) = unary_function(site.op) {
        return Some(boxed(Box::new(Unary(function))));
    }
    if let Some((real, integer)) = arithmetic(site.op) {
        return Some(binary(site, Work::Arithmetic(real, integer)));
    }
    Some(match site.op {
        Op::Identity => Ok(Lowered::Alias),
        Op::Clip => boxed(Box::new(Clip)),
        Op::Not | Op::BitwiseNot => boxed(Box::new(Complement)),
        Op::Cast(_) | Op::CastLike(_) => lower_cast(site),
        Op::Pow => binary(site, Work::Power),
        Op::Equal => binary(site, Work::Compare(CompareFn::Equal)),
        Op::Less => binary(site, Work::Compare(CompareFn::Less)),
        Op::LessOrEqual => binary(site, Work::Compare(CompareFn::LessOrEqual)),
        Op::Greater => binary(site, Work::Compare(CompareFn::Greater)),
        Op::GreaterOrEqual => binary(site, Work::Compare(CompareFn::GreaterOrEqual)),
        Op::And => binary(site, Work::Logic(LogicFn::And)),
        Op::Or => binary(site, Work::Logic(LogicFn::Or)),
        Op::Xor => binary(site, Work::Logic(LogicFn::Xor)),
        Op::BitwiseAnd => binary(site, Work::Bits(BitFn::And)),
        Op::BitwiseOr => binary(site, Work::Bits(BitFn::Or)),
        Op::BitwiseXor => binary(site, Work::Bits(BitFn::Xor)),
        Op::BitShift(op) => binary(
            site,
            Work::Bits(match op.direction {
                landfall_graph::ShiftDirection::Left => BitFn::ShiftLeft,
                landfall_graph::ShiftDirection::Right => BitFn::ShiftRight,
            }),
        ),
        Op::Sum => variadic(site, (BinaryFn::Add, IntegerFn::Add), false),
        Op::Mean => variadic(site, (BinaryFn::Add, IntegerFn::Add), true),
        Op::Max => variadic(site, (BinaryFn::Max, IntegerFn::Max), false),
        Op::Min => variadic(site, (BinaryFn::Min, IntegerFn::Min), false),
        Op::Where => lower_where(site),
        Op::IsNan => boxed(Box::new(Classify { nan: true, positive: false, negative: false })),
        Op::IsInf(op) => boxed(Box::new(Classify {
            nan: false,
            positive: op.detect_positive,
            negative: op.detect_negative,
        })),
        _ => return None,
    })
}

pub(super) fn unary_function(op: &Op) -> Option<UnaryFn> {
    Some(match op {
        Op::Abs => UnaryFn::Abs,
        Op::Acos => UnaryFn::Acos,
        Op::Acosh => UnaryFn::Acosh,
        Op::Asin => UnaryFn::Asin,
        Op::Asinh => UnaryFn::Asinh,
        Op::Atan => UnaryFn::Atan,
        Op::Atanh => UnaryFn::Atanh,
        Op::Ceil => UnaryFn::Ceil,
        Op::Celu(op) => UnaryFn::Celu(op.alpha),
        Op::Cos => UnaryFn::Cos,
        Op::Cosh => UnaryFn::Cosh,
        Op::Elu(op) => UnaryFn::Elu(op.alpha),
        Op::Erf => UnaryFn::Erf,
        Op::Exp => UnaryFn::Exp,
        Op::Floor => UnaryFn::Floor,
        Op::Gelu(op) => match op.approximate {
            GeluApproximation::None => UnaryFn::Gelu,
            GeluApproximation::Tanh => UnaryFn::GeluTanh,
        },
        Op::HardSigmoid(op) => UnaryFn::HardSigmoid(op.alpha, op.beta),
        Op::HardSwish => UnaryFn::HardSwish,
        Op::LeakyRelu(op) => UnaryFn::LeakyRelu(op.alpha),
        Op::Log => UnaryFn::Ln,
        Op::Mish => UnaryFn::Mish,
        Op::Neg => UnaryFn::Neg,
        Op::Reciprocal => UnaryFn::Reciprocal,
        Op::Relu => UnaryFn::Relu,
        Op::Round => UnaryFn::Round,
        Op::Selu(op) => UnaryFn::Selu(op.alpha, op.gamma),
        Op::Shrink(op) => UnaryFn::Shrink { bias: op.bias, lambda: op.lambd },
        Op::Sigmoid => UnaryFn::Sigmoid,
        Op::Sign => UnaryFn::Sign,
        Op::Sin => UnaryFn::Sin,
        Op::Sinh => UnaryFn::Sinh,
        Op::Softplus => UnaryFn::Softplus,
        Op::Softsign => UnaryFn::Softsign,
        Op::Sqrt => UnaryFn::Sqrt,
        Op::Swish(op) => UnaryFn::Swish(op.alpha),
        Op::Tan => UnaryFn::Tan,
        Op::Tanh => UnaryFn::Tanh,
        Op::ThresholdedRelu(op) => UnaryFn::ThresholdedRelu(op.alpha),
        _ => return None,
    })
}

pub(super) fn arithmetic(op: &Op) -> Option<(BinaryFn, IntegerFn)> {
    Some(match op {
        Op::Add => (BinaryFn::Add, IntegerFn::Add),
        Op::Sub => (BinaryFn::Sub, IntegerFn::Sub),
        Op::Mul => (BinaryFn::Mul, IntegerFn::Mul),
        Op::Div => (BinaryFn::Div, IntegerFn::Div),
        Op::PRelu => (BinaryFn::PRelu, IntegerFn::PRelu),
        Op::Mod(op) if op.fmod => (BinaryFn::Remainder, IntegerFn::Remainder),
        Op::Mod(_) => (BinaryFn::Modulo, IntegerFn::Modulo),
        _ => return None,
    })
}

fn info(kernel: &'static str, dtype: Option<DType>) -> KernelInfo {
    KernelInfo::portable(kernel, dtype.map_or("any", DType::name))
}

struct Unary(UnaryFn);

impl Kernel for Unary {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.input(0)?, io.exec);
        let out = &mut io.outputs[0];
        let integer = match self.0 {
            UnaryFn::Abs => Some(IntegerUnary::Abs),
            UnaryFn::Neg => Some(IntegerUnary::Neg),
            UnaryFn::Sign => Some(IntegerUnary::Sign),
            UnaryFn::Relu => Some(IntegerUnary::Relu),
            _ => None,
        };
        match integer {
            Some(function) if input.dtype().is_integer() => {
                integer_type!(input.dtype(), T => {
                    unary_integer::<T>(function, input.as_slice()?, out.as_mut_slice()?);
                })
            }
            _ => float_type!(input.dtype(), T => {
                unary_float::<T>(exec, self.0, input.as_slice()?, out.as_mut_slice()?);
            }),
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        info("unary", None)
    }
}

/// Logical and bitwise negation.
struct Complement;

impl Kernel for Complement {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?;
        let out = &mut io.outputs[0];
        if input.dtype() == DType::Bool {
            let out = out.as_mut_slice::<u8>()?;
            out.iter_mut().zip(input.as_slice::<u8>()?).for_each(|(o, &x)| *o = x ^ 1);
            return Ok(());
        }
        integer_type!(input.dtype(), T => {
            unary_integer::<T>(IntegerUnary::Not, input.as_slice()?, out.as_mut_slice()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        info("complement", None)
    }
}

/// Bounds are operands: absent ones do not bound.
struct Clip;

/// The bound that an operand holds, as a number.
fn bound(view: Option<TensorView<'_>>) -> Result<Option<Number>, KernelError> {
    let Some(view) = view else { return Ok(None) };
    let mut number = [Number::Integer(0)];
    if view.elements() != 1 {
        return KernelError::invalid(format!("a bound has {} elements, not 1", view.elements()));
    }
    read_block(&view, 0, &mut number)?;
    Ok(Some(number[0]))
}

impl Kernel for Clip {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.input(0)?, io.exec);
        let (low, high) = (bound(io.optional(1))?, bound(io.optional(2))?);
        let out = &mut io.outputs[0];
        if input.dtype().is_integer() {
            let integer = |number: Option<Number>, absent: i128| match number {
                Some(Number::Integer(x)) => x,
                Some(Number::Real(_)) | None => absent,
            };
            let function = IntegerUnary::Clip(integer(low, i128::MIN), integer(high, i128::MAX));
            integer_type!(input.dtype(), T => {
                unary_integer::<T>(function, input.as_slice()?, out.as_mut_slice()?);
            });
            return Ok(());
        }
        let real = |number: Option<Number>, absent: f64| match number {
            Some(Number::Real(x)) => x,
            Some(Number::Integer(_)) | None => absent,
        };
        let function = UnaryFn::Clip(real(low, f64::NEG_INFINITY), real(high, f64::INFINITY));
        float_type!(input.dtype(), T => {
            unary_float::<T>(exec, function, input.as_slice()?, out.as_mut_slice()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        info("clip", None)
    }
}

/// NaN or infinity tests.
struct Classify {
    nan: bool,
    positive: bool,
    negative: bool,
}

impl Kernel for Classify {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?;
        let out = io.outputs[0].as_mut_slice::<u8>()?;
        float_type!(input.dtype(), T => {
            for (o, &x) in out.iter_mut().zip(input.as_slice::<T>()?) {
                let x = x.widen().to_f64();
                *o = u8::from(
                    (self.nan && x.is_nan())
                        || (self.positive && x == f64::INFINITY)
                        || (self.negative && x == f64::NEG_INFINITY),
                );
            }
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        info("classify", None)
    }
}

#[derive(Clone, Copy)]
enum Work {
    Arithmetic(BinaryFn, IntegerFn),
    Power,
    Compare(CompareFn),
    Logic(LogicFn),
    Bits(BitFn),
}

struct Binary {
    work: Work,
    pattern: Broadcast,
}

fn binary(site: &Site<'_>, work: Work) -> Result<Lowered, KernelError> {
    let pattern = pattern(site, &[0, 1])?;
    Ok(Lowered::Kernel(Box::new(Binary { work, pattern })))
}

fn pattern(site: &Site<'_>, operands: &[usize]) -> Result<Broadcast, KernelError> {
    let shapes: Vec<_> = operands.iter().map(|&i| site.shape(i)).collect::<Result<_, _>>()?;
    let shapes: Vec<&[usize]> = shapes.iter().map(|shape| &**shape).collect();
    Ok(Broadcast::new(&site.output_shape(0)?, &shapes)?)
}

impl Kernel for Binary {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (a, b, exec) = (io.input(0)?, io.input(1)?, io.exec);
        let out = &mut io.outputs[0];
        let pattern = &self.pattern;
        match self.work {
            Work::Arithmetic(_, function) if a.dtype().is_integer() => {
                integer_type!(a.dtype(), T => {
                    let (a, b) = (a.as_slice::<T>()?, b.as_slice()?);
                    binary_integer(exec, function, pattern, a, b, out.as_mut_slice()?);
                });
            }
            Work::Arithmetic(function, _) => float_type!(a.dtype(), T => {
                let (a, b) = (a.as_slice::<T>()?, b.as_slice()?);
                binary_float(exec, function, pattern, a, b, out.as_mut_slice()?);
            }),
            Work::Power => return run_power(io, pattern),
            Work::Compare(function) if a.dtype() == DType::String => {
                return compare_text(function, pattern, io);
            }
            Work::Compare(function) => number_type!(a.dtype(), T => {
                let (a, b) = (a.as_slice::<T>()?, b.as_slice()?);
                binary_compare(exec, function, pattern, a, b, out.as_mut_slice()?);
            }),
            Work::Logic(function) => {
                let (a, b) = (a.as_slice()?, b.as_slice()?);
                binary_logic(exec, function, pattern, a, b, out.as_mut_slice()?);
            }
            Work::Bits(function) => integer_type!(a.dtype(), T => {
                let (a, b) = (a.as_slice::<T>()?, b.as_slice()?);
                binary_bits(exec, function, pattern, a, b, out.as_mut_slice()?);
            }),
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        info("binary", None)
    }
}

/// Bases and exponents may differ in type; the result has the base's.
fn run_power(io: &mut Io<'_>, pattern: &Broadcast) -> Result<(), KernelError> {
    let (a, b, exec) = (io.input(0)?, io.input(1)?, io.exec);
    let out = &mut io.outputs[0];
    if a.dtype() == b.dtype() {
        if a.dtype().is_integer() {
            integer_type!(a.dtype(), T => {
                let (a, b) = (a.as_slice::<T>()?, b.as_slice()?);
                binary_integer(exec, IntegerFn::Pow, pattern, a, b, out.as_mut_slice()?);
            });
        } else {
            float_type!(a.dtype(), T => {
                let (a, b) = (a.as_slice::<T>()?, b.as_slice()?);
                binary_float(exec, BinaryFn::Pow, pattern, a, b, out.as_mut_slice()?);
            });
        }
        return Ok(());
    }
    // Mixed types are rare: the exponent is brought to f64 first.
    let mut numbers = vec![Number::Integer(0); b.elements()];
    read_block(&b, 0, &mut numbers)?;
    if a.dtype().is_integer() {
        let mut exponent = vec![0f64; numbers.len()];
        write_numbers(&numbers, &mut exponent, false);
        integer_type!(a.dtype(), A => {
            power_integer(exec, pattern, a.as_slice::<A>()?, &exponent, out.as_mut_slice()?);
        });
    } else {
        float_type!(a.dtype(), A => {
            let mut exponent = vec![A::default(); numbers.len()];
            write_numbers(&numbers, &mut exponent, false);
            let a = a.as_slice::<A>()?;
            binary_float(exec, BinaryFn::Pow, pattern, a, &exponent, out.as_mut_slice()?);
        });
    }
    Ok(())
}

fn compare_text(
    function: CompareFn,
    pattern: &Broadcast,
    io: &mut Io<'_>,
) -> Result<(), KernelError> {
    let (a, b) = (io.input(0)?.strings()?, io.input(1)?.strings()?);
    let out = io.outputs[0].as_mut_slice::<u8>()?;
    if function != CompareFn::Equal {
        return KernelError::unsupported("strings are compared for equality only");
    }
    let (row, steps) = (pattern.row(), [pattern.row_stride(0), pattern.row_stride(1)]);
    pattern.walk::<2>(0, pattern.rows(), |r, [i, j]| {
        for k in 0..row {
            out[r * row + k] = u8::from(a[i + k * steps[0]] == b[j + k * steps[1]]);
        }
    });
    Ok(())
}

/// `Sum`, `Mean`, `Max`, `Min` of any number of operands, folded from the left.
struct Variadic {
    functions: (BinaryFn, IntegerFn),
    mean: bool,
    /// Of (result, operand) for every operand.
    patterns: Vec<Broadcast>,
    whole: Broadcast,
}

fn variadic(
    site: &Site<'_>,
    functions: (BinaryFn, IntegerFn),
    mean: bool,
) -> Result<Lowered, KernelError> {
    let out = site.output_shape(0)?;
    let patterns = (0..site.inputs.len())
        .map(|i| Ok(Broadcast::new(&out, &[&out, &site.shape(i)?])?))
        .collect::<Result<_, KernelError>>()?;
    let whole = Broadcast::new(&out, &[&out, &[]])?;
    Ok(Lowered::Kernel(Box::new(Variadic { functions, mean, patterns, whole })))
}

impl Kernel for Variadic {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let exec = io.exec;
        for (index, pattern) in self.patterns.iter().enumerate() {
            let operand = io.input(index)?;
            let out = &mut io.outputs[0];
            if operand.dtype().is_integer() {
                let function = if index == 0 { IntegerFn::Second } else { self.functions.1 };
                integer_type!(operand.dtype(), T => {
                    let b = operand.as_slice::<T>()?;
                    accumulate_integer(exec, function, pattern, b, out.as_mut_slice()?);
                });
            } else {
                let function = if index == 0 { BinaryFn::Second } else { self.functions.0 };
                float_type!(operand.dtype(), T => {
                    let b = operand.as_slice::<T>()?;
                    accumulate_float(exec, function, pattern, b, out.as_mut_slice()?);
                });
            }
        }
        if self.mean {
            let out = &mut io.outputs[0];
            float_type!(out.dtype(), T => {
                let count = [<T as CastElement>::from_real(self.patterns.len() as f64)];
                let function = BinaryFn::Div;
                accumulate_float::<T>(exec, function, &self.whole, &count, out.as_mut_slice()?);
            });
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        info("variadic", None)
    }
}

struct Cast;

fn lower_cast(site: &Site<'_>) -> Result<Lowered, KernelError> {
    let (from, to) = (site.dtype(0)?, site.output_dtype(0)?);
    if from == to {
        return Ok(Lowered::Alias);
    }
    if from == DType::String || to == DType::String {
        return Ok(Lowered::Kernel(Box::new(super::text_cast::TextCast)));
    }
    Ok(Lowered::Kernel(Box::new(Cast)))
}

impl Kernel for Cast {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?;
        let mut block = [Number::Integer(0); CAST_BLOCK];
        for start in (0..input.elements()).step_by(CAST_BLOCK) {
            let count = CAST_BLOCK.min(input.elements() - start);
            read_block(&input, start, &mut block[..count])?;
            write_block(&block[..count], &mut io.outputs[0], start)?;
        }
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        info("cast", None)
    }
}

fn read_block(
    input: &TensorView<'_>,
    start: usize,
    block: &mut [Number],
) -> Result<(), KernelError> {
    number_type!(input.dtype(), T => read_numbers(&input.as_slice::<T>()?[start..], block));
    Ok(())
}

fn write_block(block: &[Number], out: &mut TensorMut<'_>, start: usize) -> Result<(), KernelError> {
    let to_bool = out.dtype() == DType::Bool;
    number_type!(out.dtype(), T => {
        let out = &mut out.as_mut_slice::<T>()?[start..];
        write_numbers(block, out, to_bool);
    });
    Ok(())
}

struct Where(Broadcast);

fn lower_where(site: &Site<'_>) -> Result<Lowered, KernelError> {
    Ok(Lowered::Kernel(Box::new(Where(pattern(site, &[0, 1, 2])?))))
}

impl Kernel for Where {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (condition, a, b) = (io.input(0)?.as_slice::<u8>()?, io.input(1)?, io.input(2)?);
        let exec = io.exec;
        let out = &mut io.outputs[0];
        if a.dtype() == DType::String {
            let (a, b, out) = (a.strings()?, b.strings()?, out.strings_mut()?);
            let (row, steps) = (self.0.row(), [0, 1, 2].map(|i| self.0.row_stride(i)));
            self.0.walk::<3>(0, self.0.rows(), |r, [c, i, j]| {
                for k in 0..row {
                    let chosen = condition[c + k * steps[0]] != 0;
                    let from = if chosen { &a[i + k * steps[1]] } else { &b[j + k * steps[2]] };
                    out[r * row + k].clone_from(from);
                }
            });
            return Ok(());
        }
        any_type!(a.dtype(), T => {
            let (a, b) = (a.as_slice::<T>()?, b.as_slice()?);
            select(exec, &self.0, condition, a, b, out.as_mut_slice()?);
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        info("select", None)
    }
}
