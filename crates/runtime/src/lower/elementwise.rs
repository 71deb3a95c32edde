//! Operators that work element by element.

use super::{Lowered, Site};
use crate::KernelError;

pub(super) fn lower(_site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    None
}
