//! Declared pre- and post-processing: what turns text into token ids, a JPEG into pixels, scores
//! into labels.
//!
//! Steps are data, written in `manifest.yaml` (or the server's `model.yaml`) and kept in the
//! package, so that the writer checks them, the server runs them and tools show them. Each is a
//! map with one key:
//!
//! ```yaml
//! preprocess:
//!   - decode_image: {input: image}
//!   - resize: {size: 256, mode: shortest, filter: bicubic}
//!   - center_crop: {size: 224}
//!   - normalize: {mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375]}
//!   - to_layout: {layout: nchw, output: pixel_values}
//! postprocess:
//!   - softmax: {input: logits}
//!   - top_k: {k: 5, labels: labels.txt}
//! ```
//!
//! Steps pass *named values*. A step takes its `input` and puts its `output` in its place. `input`
//! may be left out: it is then what the step before wrote, or for a first step the model's only
//! input (or output). `output` may be left out: the value keeps its name. A name that a
//! pre-processing step takes and none before it wrote is an input that callers send; what the graph
//! needs and no step writes is sent by callers as it is. What is left after post-processing is what
//! callers get.
//!
//! [`Resolved`] gives every step its names and types and derives the signature that callers see.

mod post;
mod pre;
mod resolve;
#[cfg(test)]
mod tests;
mod types;

pub use post::{
    ArgMax, Keep, L2Normalize, Labels, MeanPool, PostStep, Sigmoid, Softmax, Threshold, TopK,
};
pub use pre::{
    Cast, CenterCrop, DecodeImage, EncodeCategory, Filter, ImageLayout, Normalize, PreStep, Rename,
    Resize, ResizeMode, Scale, Size, ToLayout, TokenNames, Tokenize,
};
pub use resolve::{Resolved, ResolvedStep};

/// Steps of one kind that a model may declare.
pub const MAX_STEPS: usize = 64;

/// A declared step that does not fit the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct StepError {
    /// Which step, such as `preprocess step 2 (resize)`; counted from 0.
    pub place: String,
    /// What does not fit, with what was expected and found.
    pub message: String,
}

impl StepError {
    pub(crate) fn new(place: impl Into<String>, message: impl Into<String>) -> StepError {
        StepError { place: place.into(), message: message.into() }
    }
}
