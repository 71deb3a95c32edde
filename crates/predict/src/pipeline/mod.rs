//! Declared pre- and post-processing, compiled for one model and run for each request.
//!
//! Steps run on one caller's rows before batching and after it is undone, so that nothing of one
//! request can reach another. Every size that a request can make grow is bounded by [`Limits`]
//! before memory is allocated for it.
//!
//! # Text and bytes
//!
//! The protocol has one datatype for both, `BYTES`. The tensors here have two: [`DType::String`] is
//! UTF-8, which tokenizers and operators on strings can rely on, and [`DType::Bytes`] is anything,
//! which encoded images need. The alternative, strings of bytes everywhere, would make every reader
//! of text check it again. So whoever decodes a request looks up the input in
//! [`Pipeline::outer_signature`]: `BYTES` elements of an input of type `Bytes` become a blob each
//! ([`Tensor::from_blobs`]), those of one of type `String` are checked as UTF-8, and in JSON, whose
//! strings cannot carry arbitrary bytes, an element of a `Bytes` input is base64.

mod assets;
mod geometry;
mod image;
mod numeric;
mod postprocess;
mod preprocess;
mod resample;
mod serving;
#[cfg(test)]
mod tests;
mod tokenize;

use landfall_graph::Signature;
use landfall_package::steps::{PostStep, PreStep, Resolved, StepError};
use landfall_package::{Package, PackageError};
use landfall_tensor::Tensor;

use crate::{ErrorKind, Padding, PredictError, Preprocessed, Steps};

/// Bounds on what one request may make the steps hold in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one text.
    pub text_bytes: usize,
    /// Pixels of one image, decoded or at any stage of resizing.
    pub image_pixels: usize,
    /// Bytes of one tensor that a step writes.
    pub tensor_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { text_bytes: 256 << 10, image_pixels: 50_000_000, tensor_bytes: 1 << 30 }
    }
}

/// A pipeline that cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// A step does not fit the model, or its asset is not what it takes.
    #[error(transparent)]
    Step(#[from] StepError),
    /// An asset cannot be read.
    #[error(transparent)]
    Package(#[from] PackageError),
}

/// The steps of one model, with their assets loaded.
#[derive(Debug)]
pub struct Pipeline {
    outer: Signature,
    inner: Signature,
    preprocess: preprocess::Preprocess,
    postprocess: postprocess::Postprocess,
}

impl Pipeline {
    /// Checks steps against the signature of the graph itself and loads what they name.
    /// `asset` gives a file's bytes by its name.
    pub fn compile(
        preprocess: &[PreStep],
        postprocess: &[PostStep],
        asset: impl Fn(&str) -> Result<Vec<u8>, String>,
        inner: &Signature,
        limits: Limits,
    ) -> Result<Pipeline, PipelineError> {
        let resolved = Resolved::new(preprocess, postprocess, inner)?;
        Pipeline::of_resolved(resolved, &asset, inner.clone(), limits)
    }

    /// The pipeline that a package declares.
    pub fn of_package(package: &Package, limits: Limits) -> Result<Pipeline, PipelineError> {
        let asset = |name: &str| match package.asset(name) {
            Ok(bytes) => Ok(bytes.to_vec()),
            Err(e) => Err(e.to_string()),
        };
        Pipeline::of_resolved(package.steps().clone(), &asset, package.signature(), limits)
    }

    fn of_resolved(
        resolved: Resolved,
        asset: assets::Loader<'_>,
        inner: Signature,
        limits: Limits,
    ) -> Result<Pipeline, PipelineError> {
        let preprocess = preprocess::Preprocess::compile(&resolved, asset, &inner, limits)?;
        let postprocess = postprocess::Postprocess::compile(&resolved, asset, &inner)?;
        Ok(Pipeline { outer: resolved.outer, inner, preprocess, postprocess })
    }

    /// What callers send and get.
    pub fn outer_signature(&self) -> &Signature {
        &self.outer
    }

    /// What the graph takes and gives.
    pub fn inner_signature(&self) -> &Signature {
        &self.inner
    }

    /// How the graph's inputs may be padded so that requests of different length share a run:
    /// known where one tokenizer writes them with a mask, padding on the right.
    ///
    /// It takes the graph at its word: whoever declares a mask promises that what it masks changes
    /// nothing.
    pub fn padding(&self) -> Option<Padding> {
        self.preprocess.padding(&self.inner)
    }

    /// Whether there is nothing to do: callers see the graph itself.
    pub fn is_identity(&self) -> bool {
        self.preprocess.is_empty() && self.postprocess.is_empty()
    }

    /// A caller's inputs, in the order of [`Pipeline::outer_signature`], to the graph's, in its
    /// order.
    ///
    /// Fails with [`ErrorKind::InvalidArgument`], naming the input and, where one row is at fault,
    /// the row.
    pub fn preprocess(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, PredictError> {
        self.prepare(inputs).map(|made| made.inputs)
    }

    fn prepare(&self, inputs: &[Tensor]) -> Result<Preprocessed, PredictError> {
        if inputs.len() != self.outer.inputs.len() {
            let (found, expected) = (inputs.len(), self.outer.inputs.len());
            return Err(invalid(format!("got {found} inputs, expected {expected}")));
        }
        for (spec, tensor) in self.outer.inputs.iter().zip(inputs) {
            if let Some(mismatch) = spec.mismatch(&tensor.view()) {
                return Err(invalid(mismatch));
            }
        }
        let made = self.preprocess.run(inputs)?;
        for (spec, tensor) in self.inner.inputs.iter().zip(&made.inputs) {
            if let Some(mismatch) = spec.mismatch(&tensor.view()) {
                return Err(invalid(format!("after preprocessing, {mismatch}")));
            }
        }
        Ok(made)
    }

    /// The graph's outputs to what the caller gets, both in their signature's order. `inputs` are
    /// the graph's own for the same rows: pooling needs their mask.
    pub fn postprocess(
        &self,
        inputs: &[Tensor],
        outputs: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, PredictError> {
        if outputs.len() != self.inner.outputs.len() || inputs.len() != self.inner.inputs.len() {
            let message = "the model's inputs or outputs do not number those of its signature";
            return Err(PredictError::new(ErrorKind::Internal, message));
        }
        self.postprocess.run(inputs, outputs)
    }
}

fn invalid(message: impl Into<String>) -> PredictError {
    PredictError::new(ErrorKind::InvalidArgument, message)
}

fn internal(message: impl std::fmt::Display) -> PredictError {
    PredictError::new(ErrorKind::Internal, message.to_string())
}

impl Steps for Pipeline {
    fn signature(&self) -> &Signature {
        self.outer_signature()
    }

    fn preprocess(&self, inputs: &[Tensor]) -> Result<Preprocessed, PredictError> {
        self.prepare(inputs)
    }

    fn postprocess(
        &self,
        model_inputs: &[Tensor],
        outputs: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, PredictError> {
        Pipeline::postprocess(self, model_inputs, outputs)
    }
}

/// Fails if a tensor of `rows` times `row_bytes` exceeds the limit.
fn check_size(rows: usize, row_bytes: usize, limits: Limits) -> Result<(), PredictError> {
    match rows.checked_mul(row_bytes) {
        Some(bytes) if bytes <= limits.tensor_bytes => Ok(()),
        _ => Err(invalid(format!(
            "{rows} rows of {row_bytes} bytes after preprocessing exceed the limit of {} bytes: \
             send fewer rows a request",
            limits.tensor_bytes
        ))),
    }
}
