//! Which products with constant weights run in bf16, and how that is reported.
//!
//! The choice looks only at the weights' shape: the same model must give the same answers on every
//! machine and for every batch, and plans share packed weights.

use landfall_kernels::{Cpu, Isa};
use landfall_tensor::Precision;

use super::Site;
use crate::KernelInfo;

/// Elements of depth from which a product is faster in bf16: fewer are loaded, rounded and stored
/// in no less time than they are multiplied in f32. Measured, as is [`MIN_COLUMNS`], with 3,136
/// rows on one core of an AMD EPYC of the Zen 4 generation.
const MIN_DEPTH: usize = 16;
/// Columns from which a product is faster in bf16: rounding the rows must pay off.
const MIN_COLUMNS: usize = 17;

/// The precision of one product's operands.
#[derive(Debug, Clone)]
pub(super) struct OperandPrecision {
    cpu: Cpu,
    precision: Precision,
    /// Why it is not what was asked for; empty if it is.
    reason: &'static str,
}

impl OperandPrecision {
    /// For a product with constant weights `[k, n]`, of one group if there are several.
    pub(super) fn of(site: &Site<'_>, k: usize, n: usize) -> OperandPrecision {
        if k < MIN_DEPTH || n < MIN_COLUMNS {
            return OperandPrecision::f32(
                site,
                "not faster in bf16: under 16 deep or at most 16 columns",
            );
        }
        OperandPrecision { cpu: site.target.cpu, precision: site.target.precision, reason: "" }
    }

    /// F32 whatever was asked for.
    pub(super) fn f32(site: &Site<'_>, reason: &'static str) -> OperandPrecision {
        let reason = if site.target.precision == Precision::F32 { "" } else { reason };
        OperandPrecision { cpu: site.target.cpu, precision: Precision::F32, reason }
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
                    isa: if self.cpu.isa() == Isa::Amx { "amx" } else { "avx512_bf16" },
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
