//! Conversions between numbers and text.

use landfall_tensor::DType;

use super::types::number_type;
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

/// Numbers are written in the shortest form that reads back to the same value; text is read as a
/// decimal number, `NaN` or `INF`.
pub(super) struct TextCast;

impl Kernel for TextCast {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let input = io.input(0)?;
        let out = &mut io.outputs[0];
        if out.dtype() == DType::String {
            let out = out.strings_mut()?;
            number_type!(input.dtype(), T => {
                for (o, x) in out.iter_mut().zip(input.as_slice::<T>()?) {
                    *o = match x.to_string().as_str() {
                        "inf" => "INF".to_owned(),
                        "-inf" => "-INF".to_owned(),
                        text => text.to_owned(),
                    };
                }
            });
            return Ok(());
        }
        let texts = input.strings()?;
        if out.dtype() == DType::Bool {
            return KernelError::unsupported("text cannot be cast to bool");
        }
        let bad = |text: &str, dtype: DType| {
            KernelError::Invalid(format!("'{text}' is not a number of type {dtype}"))
        };
        let dtype = out.dtype();
        number_type!(dtype, T => {
            for (o, text) in out.as_mut_slice::<T>()?.iter_mut().zip(texts) {
                let text = text.trim();
                let parsed = text.parse::<T>().ok();
                // An integer may be written as a real number.
                let real = || text.parse::<f64>().ok();
                *o = match parsed {
                    Some(value) => value,
                    None => {
                        let value = real().ok_or_else(|| bad(text, dtype))?;
                        landfall_kernels::elementwise::CastElement::from_real(value)
                    }
                };
            }
        });
        Ok(())
    }

    fn info(&self) -> KernelInfo {
        KernelInfo::portable("text_cast", "string")
    }
}
