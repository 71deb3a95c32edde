//! Graph to plan: lowering, memory planning and execution.
//!
//! Start at [`Model`]. A graph is planned once for each set of input shapes ([`plan`]): every node
//! is lowered to a kernel ([`lower`]), every value gets a place in one arena ([`memory`]), and
//! running is walking a flat list ([`execute`]).
//!
//! Architecture invariant: this crate knows nothing of ONNX, HTTP, async or the registry.

mod error;
mod evaluate;
mod execute;
mod kernel;
mod lower;
pub mod memory;
mod model;
mod plan;
mod program;
#[cfg(test)]
mod tests;
mod tune;
mod tuning;
mod weights;

pub use landfall_kernels::{Cpu, Isa, IsaError};

pub use error::{CompileError, KernelError, NodeError, RunError};
pub use evaluate::Evaluator;
pub use execute::Observer;
pub use kernel::{DynamicKernel, Inputs, Io, Kernel, KernelInfo, Outputs};
pub use model::{Model, Options, Report, StepReport};
pub use tune::{Candidate, TuneCase, TuneError, Tuned, TunedCase, TunedStep, tune};
pub use tuning::{Algorithms, StepIdentity, Tuning};
