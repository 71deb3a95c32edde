//! Elements of any numeric type as real numbers, for operators too rare for loops of their own.

use landfall_kernels::elementwise::CastElement;
use landfall_tensor::{TensorMut, TensorView};

use super::Site;
use super::types::number_type;
use crate::KernelError;

/// The elements in double precision.
pub(super) fn read_reals(view: TensorView<'_>) -> Result<Vec<f64>, KernelError> {
    number_type!(view.dtype(), T => {
        Ok(view.as_slice::<T>()?.iter().map(|x| x.to_real()).collect())
    })
}

/// Writes elements, rounded to the result's type.
pub(super) fn write_reals(
    values: impl Iterator<Item = f64>,
    out: &mut TensorMut<'_>,
) -> Result<(), KernelError> {
    number_type!(out.dtype(), T => {
        let out = out.as_mut_slice::<T>()?;
        out.iter_mut().zip(values).for_each(|(o, x)| *o = T::from_real(x));
        Ok(())
    })
}

/// The only element of operand `index`, which must be known.
pub(super) fn known_real(site: &Site<'_>, index: usize) -> Result<f64, KernelError> {
    site.input(index)?;
    let tensor = site.tensor(index).ok_or_else(|| {
        KernelError::Unsupported(format!("operand {index} must be known when planning"))
    })?;
    match read_reals(tensor.view())?.as_slice() {
        [value] => Ok(*value),
        other => {
            KernelError::invalid(format!("operand {index} has {} elements, not 1", other.len()))
        }
    }
}

/// The only element of operand `index`, an extent.
pub(super) fn known_extent(site: &Site<'_>, index: usize) -> Result<usize, KernelError> {
    let value = known_real(site, index)?;
    if (0.0..=u32::MAX.into()).contains(&value) {
        return Ok(value as usize);
    }
    KernelError::invalid(format!("operand {index} is {value}, not an extent"))
}
