//! Which products with constant weights run in bf16, and how that is reported.
//!
//! The choice looks only at the weights' shape: the same model must give the same answers on every
//! machine and for every batch, and plans share packed weights.

use landfall_kernels::{Cpu, Isa};
use landfall_tensor::Precision;

use super::Site;
use crate::KernelInfo;

/// The precision of one product's operands.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    cpu: Cpu,
    precision: Precision,
    /// Why it is not what was asked for; empty if it is.
    reason: &'static str,
}

impl Choice {
    /// For a product with constant weights `[k, n]`.
    pub(super) fn of(site: &Site<'_>, _k: usize, _n: usize) -> Choice {
        Choice { cpu: site.target.cpu, precision: site.target.precision, reason: "" }
    }

    /// F32 whatever was asked for.
    pub(super) fn f32(site: &Site<'_>, reason: &'static str) -> Choice {
        let reason = if site.target.precision == Precision::F32 { "" } else { reason };
        Choice { cpu: site.target.cpu, precision: Precision::F32, reason }
    }

    pub(super) fn is_bf16(&self) -> bool {
        self.precision == Precision::Bf16
    }

    /// The line of the lowering report of a kernel that has these names.
    pub(super) fn info(&self, f32: &'static str, bf16: &'static str) -> KernelInfo {
        let (isa, precision) = (self.cpu.isa().name(), self.precision.name());
        let reason = match self.precision {
            Precision::F32 => self.reason.to_owned(),
            Precision::Bf16 if self.cpu.has_bf16() => {
                return KernelInfo {
                    kernel: bf16,
                    isa: "avx512_bf16",
                    precision,
                    reason: String::new(),
                };
            }
            Precision::Bf16 if self.cpu.isa() == Isa::Reference => String::new(),
            Precision::Bf16 => "operands are widened to f32: no AVX512_BF16 here".to_owned(),
        };
        let kernel = if self.is_bf16() { bf16 } else { f32 };
        KernelInfo { kernel, isa, precision, reason }
    }
}
