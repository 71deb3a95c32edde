//! Output-preserving graph passes: the same answers from fewer and larger operators.
//!
//! [`optimize`] runs the list of the `pipeline` module. Passes that change results beyond rounding
//! do not belong here.
//!
//! Architecture invariant: this crate knows nothing of ONNX bytes, instruction sets or accuracy
//! trade-offs, and computes only through [`Evaluate`].

mod constants;
mod editor;
mod evaluate;
mod passes;
mod pattern;
mod pipeline;
mod report;
#[cfg(test)]
mod testing;

pub use evaluate::{Evaluate, NoEvaluator};
pub use pipeline::{OptimizeError, Optimized, optimize};
pub use report::{Effect, PassReport, Report};

/// What the passes may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The strongest effect on results that is allowed.
    pub effect: Effect,
    /// Whether images flow channels last inside the graph.
    pub channels_last: bool,
    /// Whether quantise/dequantise pairs become integer operators.
    pub integer: bool,
    /// A folded constant larger than this many bytes, and than what it is computed from, is not
    /// kept.
    pub fold_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            effect: Effect::Reassociating,
            channels_last: true,
            integer: true,
            fold_bytes_max: 16 << 20,
        }
    }
}
