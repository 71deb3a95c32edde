//! What becomes of the sums of an 8-bit product.

use landfall_kernels::{Activation, ColumnScales, Int8Epilogue, Int8Output};
use landfall_tensor::{FixedPointScale, TensorMut, TensorView, requantize};

use super::super::quantization::{floats, integers};
use super::{Ports, signed};
use crate::KernelError;

/// Bounds of a quantised result, inside its type's range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clamp {
    pub(super) low: Option<i64>,
    pub(super) high: Option<i64>,
}

/// Everything about a product but its operands.
pub(super) struct Parameters {
    /// Zero points of the right columns, unless all are zero.
    right_zeros: Option<Vec<i32>>,
    bias: Option<Vec<i32>>,
    output: Output,
}

enum Output {
    Sums,
    Bytes { fixed: Vec<FixedPointScale>, scales: ColumnScales, zero: i32, low: i32, high: i32 },
    Floats { factor: f32, scales: Vec<f32> },
}

type Get<'g, 'a> = &'g dyn Fn(usize) -> Option<TensorView<'a>>;

impl Parameters {
    pub(super) fn read(
        get: Get<'_, '_>,
        ports: &Ports,
        columns: usize,
        clamp: Clamp,
    ) -> Result<Parameters, KernelError> {
        let right_zeros = match get(ports.right_zero) {
            Some(view) => spread(integers(view)?, columns, "zero points of the right operand")?,
            None => Vec::new(),
        };
        let right_zeros = match right_zeros.as_slice() {
            [one] => Some(vec![*one; columns]),
            _ => Some(right_zeros),
        };
        let right_zeros = right_zeros.filter(|zeros| zeros.iter().any(|&zero| zero != 0));
        if !ports.scaled {
            return Ok(Parameters { right_zeros, bias: None, output: Output::Sums });
        }
        let bias = match get(8) {
            Some(view) => Some(integers(view)?),
            None => None,
        };
        if let Some(bias) = &bias
            && bias.len() != columns
        {
            let found = bias.len();
            return KernelError::invalid(format!("the bias has {found} elements, not {columns}"));
        }
        Ok(Parameters { right_zeros, bias, output: Output::read(get, columns, clamp)? })
    }

    /// The kernels' epilogue that writes `out`, rows of `stride` elements.
    pub(super) fn epilogue<'a>(
        &'a self,
        out: &'a mut TensorMut<'_>,
        stride: usize,
    ) -> Result<Int8Epilogue<'a>, KernelError> {
        let output = match &self.output {
            Output::Sums => Int8Output::I32(out.as_mut_slice()?),
            Output::Bytes { scales, zero, low, high, .. } => {
                let (zero_point, low, high) = (*zero, *low, *high);
                Int8Output::Bytes { data: bytes(out)?, scales, zero_point, low, high }
            }
            Output::Floats { factor, scales } => Int8Output::F32 {
                data: out.as_mut_slice()?,
                factor: *factor,
                scales,
                bias: None,
                activation: Activation::None,
            },
        };
        let (right_zeros, bias) = (self.right_zeros.as_deref(), self.bias.as_deref());
        Ok(Int8Epilogue { right_zeros, bias, output, stride })
    }

    /// Zero point of a right column.
    pub(super) fn right_zero(&self, column: usize) -> i32 {
        self.right_zeros.as_ref().map_or(0, |zeros| zeros[column])
    }

    /// Makes results of sums, `column` naming the column of each.
    pub(super) fn finish(
        &self,
        sums: &[i32],
        out: &mut TensorMut<'_>,
        column: impl Fn(usize) -> usize,
    ) -> Result<(), KernelError> {
        let sum = |i: usize| {
            let bias = self.bias.as_ref().map_or(0, |bias| bias[column(i)]);
            sums[i].wrapping_add(bias)
        };
        match &self.output {
            Output::Sums => {
                let out = out.as_mut_slice::<i32>()?.iter_mut().enumerate();
                out.for_each(|(i, y)| *y = sum(i));
            }
            Output::Bytes { fixed, zero, low, high, .. } => {
                for (i, y) in bytes(out)?.iter_mut().enumerate() {
                    let scale = fixed[if fixed.len() == 1 { 0 } else { column(i) }];
                    let steps = requantize(sum(i), scale).clamp(low - zero, high - zero);
                    *y = (steps + zero) as u8;
                }
            }
            Output::Floats { factor, scales } => {
                for (i, y) in out.as_mut_slice::<f32>()?.iter_mut().enumerate() {
                    let scale = scales[if scales.len() == 1 { 0 } else { column(i) }];
                    *y = sum(i) as f32 * (factor * scale);
                }
            }
        }
        Ok(())
    }
}

impl Output {
    fn read(get: Get<'_, '_>, columns: usize, clamp: Clamp) -> Result<Output, KernelError> {
        let left = scalar(get, 1)?;
        let right = required(get, 4)?;
        let right = spread(floats(right)?, columns, "scales of the right operand")?;
        let Some(zero) = get(7) else {
            return Ok(Output::Floats { factor: left, scales: right });
        };
        let result = scalar(get, 6)?;
        let (least, most) = if signed(zero.dtype())? { (-128, 127) } else { (0, 255) };
        let zero = match integers(zero)?.as_slice() {
            &[zero] => zero,
            more => {
                let found = more.len();
                return KernelError::unsupported(format!("{found} zero points of a result"));
            }
        };
        let unit = f64::from(left) / f64::from(result);
        let fixed = right
            .iter()
            .map(|&scale| {
                FixedPointScale::new(unit * f64::from(scale)).ok_or_else(|| {
                    KernelError::Invalid(format!(
                        "scales {left} and {scale} of the operands over {result} of the result \
                         are not a positive number below 2^30"
                    ))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let scales = ColumnScales::new(&fixed, columns)
            .ok_or_else(|| KernelError::Invalid("scales do not fit the columns".into()))?;
        let bound = |bound: Option<i64>, default: i32| match bound {
            Some(bound) => bound.clamp(i64::from(least), i64::from(most)) as i32,
            None => default,
        };
        let (low, high) = (bound(clamp.low, least), bound(clamp.high, most));
        Ok(Output::Bytes { fixed, scales, zero, low, high: high.max(low) })
    }
}

pub(super) fn bytes<'a>(out: &'a mut TensorMut<'_>) -> Result<&'a mut [u8], KernelError> {
    out.bytes_mut().ok_or_else(|| KernelError::Invalid("a result is text".into()))
}

fn required<'a>(get: Get<'_, 'a>, index: usize) -> Result<TensorView<'a>, KernelError> {
    get(index).ok_or_else(|| KernelError::Invalid(format!("operand {index} is missing")))
}

fn scalar(get: Get<'_, '_>, index: usize) -> Result<f32, KernelError> {
    match floats(required(get, index)?)?.as_slice() {
        &[value] => Ok(value),
        more => KernelError::unsupported(format!(
            "operand {index} has {} scales, only one for the whole tensor is supported",
            more.len()
        )),
    }
}

/// One value for every column, or one for all.
fn spread<T>(values: Vec<T>, columns: usize, what: &str) -> Result<Vec<T>, KernelError> {
    if values.len() == 1 || values.len() == columns {
        return Ok(values);
    }
    KernelError::unsupported(format!(
        "{} {what}, expected one or one for each of {columns} columns",
        values.len()
    ))
}
