//! What the serving path needs of declared pre- and post-processing: nothing more than this.

use landfall_graph::Signature;
use landfall_tensor::Tensor;

use crate::PredictError;

/// What steps make of a caller's inputs.
#[derive(Debug, Clone, Default)]
pub struct Preprocessed {
    /// The model's inputs, in the model's order.
    pub inputs: Vec<Tensor>,
    /// Tokens made of texts, with those that the tokenizer adds and without padding; `None` if no
    /// step makes tokens.
    pub tokens: Option<usize>,
}

/// Declared steps around a model, such as a tokenizer before it and a label map after it.
///
/// Steps keep rows apart: row `i` of what comes out depends on row `i` of what went in alone.
pub trait Steps: Send + Sync {
    /// What callers send and get, in place of the model's own signature.
    fn signature(&self) -> &Signature;

    /// Turns the caller's inputs, in the order of [`Steps::signature`], into the model's.
    fn preprocess(&self, inputs: &[Tensor]) -> Result<Preprocessed, PredictError>;

    /// Turns the model's outputs, in the model's order, into the caller's, in the order of
    /// [`Steps::signature`]. `model_inputs` is what [`Steps::preprocess`] gave for this request.
    fn postprocess(
        &self,
        model_inputs: &[Tensor],
        outputs: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, PredictError>;
}
