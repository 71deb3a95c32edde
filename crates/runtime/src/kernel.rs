//! The contract between the executor and a lowered operator.

use landfall_kernels::{Activation, Conv2d, Exec};
use landfall_tensor::{Tensor, TensorMut, TensorView};
use smallvec::SmallVec;

use crate::{Algorithms, KernelError};

/// Views of a step's operands; `None` for one left out.
pub type Inputs<'a> = SmallVec<[Option<TensorView<'a>>; 8]>;
/// Views of a step's results.
pub type Outputs<'a> = SmallVec<[TensorMut<'a>; 4]>;

/// What a kernel reads and writes in one call.
pub struct Io<'a> {
    /// Operands in the operator's order.
    pub inputs: Inputs<'a>,
    /// Results in the operator's order, of the inferred types and shapes, uninitialised or holding
    /// old data.
    pub outputs: Outputs<'a>,
    /// Working memory of [`Kernel::scratch_bytes`] bytes, holding old data; aligned for any element
    /// type.
    pub scratch: &'a mut [u8],
    /// Instructions and threads to work with.
    pub exec: Exec<'a>,
}

impl<'a> Io<'a> {
    /// Operand `index`, which the operator requires.
    pub fn input(&self, index: usize) -> Result<TensorView<'a>, KernelError> {
        self.inputs
            .get(index)
            .copied()
            .flatten()
            .ok_or_else(|| KernelError::Invalid(format!("operand {index} is missing")))
    }

    /// Operand `index`, if it is present.
    pub fn optional(&self, index: usize) -> Option<TensorView<'a>> {
        self.inputs.get(index).copied().flatten()
    }
}

/// An operator lowered for known types and shapes. Allocates nothing when run.
pub trait Kernel: Send + Sync {
    /// Computes every result.
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError>;

    /// What it is, for the lowering report.
    fn info(&self) -> KernelInfo;

    /// The operand whose memory the first result may take over, if the executor finds it dead
    /// afterwards: the kernel then finds that operand missing and its data in the result.
    fn in_place(&self) -> Option<usize> {
        None
    }

    /// The ways in which it could compute the same, for whoever measures them.
    fn algorithms(&self) -> Option<Algorithms> {
        None
    }

    /// Whether it has constant operand `index` in a layout of its own, and does not read the one
    /// given.
    fn has_packed(&self, _index: usize) -> bool {
        false
    }

    /// What it computes, if that is a convolution that may run as one with its neighbours.
    fn convolution(&self) -> Option<Convolution> {
        None
    }

    /// Working memory that a run needs besides its results.
    fn scratch_bytes(&self) -> usize {
        0
    }
}

/// A channels-last f32 convolution of operand 0, with the bias in operand 2 and the residual in
/// operand 3, if they are present.
#[derive(Clone)]
pub struct Convolution {
    /// Its geometry.
    pub conv: Conv2d,
    /// Weights packed by [`Conv2d::pack_weights`].
    pub weights: Tensor,
    /// Applied last.
    pub activation: Activation,
}

/// An operator whose result shapes depend on data, or whose results are text: it allocates them.
pub trait DynamicKernel: Send + Sync {
    /// Computes every result.
    fn run(&self, inputs: &[Option<Tensor>], exec: Exec<'_>) -> Result<Vec<Tensor>, KernelError>;

    /// What it is, for the lowering report.
    fn info(&self) -> KernelInfo;
}

/// A line of the lowering report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelInfo {
    /// Name of the kernel, such as `gemm_f32`.
    pub kernel: &'static str,
    /// Instruction set, such as `avx2`; `scalar` for portable code.
    pub isa: &'static str,
    /// Precision of the arithmetic, such as `f32` or `int8`.
    pub precision: &'static str,
    /// Why this kernel and not a faster one; empty if it is the best there is.
    pub reason: String,
}

impl KernelInfo {
    /// Portable code, which the compiler vectorises where it can.
    pub fn portable(kernel: &'static str, precision: &'static str) -> KernelInfo {
        KernelInfo { kernel, isa: "portable", precision, reason: String::new() }
    }

    /// The same kernel with a reason.
    pub fn because(self, reason: impl Into<String>) -> KernelInfo {
        KernelInfo { reason: reason.into(), ..self }
    }
}
