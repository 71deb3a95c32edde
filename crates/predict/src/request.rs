//! A prediction request and its reply, free of any wire format.

use std::time::Duration;

use landfall_tensor::Tensor;

/// One caller's request.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The caller's own id, reported with the prediction event; may be empty.
    pub id: String,
    /// What the version router decides by, such as a user id: equal keys see equal versions.
    pub key: Option<String>,
    /// Inputs by name, in any order.
    pub inputs: Vec<(String, Tensor)>,
    /// Outputs wanted, in the order wanted; empty for all.
    pub outputs: Vec<String>,
    /// 1 is the most urgent; 0, or a level that the model does not have, means the model's default.
    pub priority: u32,
    /// The longest the request may wait in the queue; `None` for the model's own limit. Work that
    /// has begun is completed.
    pub timeout: Option<Duration>,
}

/// What came of a request.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Name of the model that answered.
    pub model_name: String,
    /// Version that answered.
    pub model_version: u64,
    /// Outputs by name, in the order asked for.
    pub outputs: Vec<(String, Tensor)>,
    /// Where the time went.
    pub timing: Timing,
    /// Tokens that the declared steps made of the request's texts, with those that the tokenizer
    /// adds and without padding; `None` if no declared step makes tokens.
    pub tokens: Option<usize>,
}

/// Durations of a request's stages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// From admission to the start of its batch.
    pub queue: Duration,
    /// Declared pre-processing steps.
    pub preprocess: Duration,
    /// The model itself, for the whole batch that the request was part of.
    pub compute: Duration,
    /// Declared post-processing steps.
    pub postprocess: Duration,
}

/// Whose fault a failed prediction is; decides the status code of every protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No such model or version.
    NotFound,
    /// The request does not fit the model's signature.
    InvalidArgument,
    /// The queue is full, the model is loading or the server is draining: try again later.
    Unavailable,
    /// The caller's or the model's time limit passed first.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// A fault of the model or of Landfall.
    Internal,
}

/// A failed prediction.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct PredictError {
    /// Whose fault it is.
    pub kind: ErrorKind,
    /// What went wrong, naming model, input, expected and found.
    pub message: String,
}

impl PredictError {
    /// An error of some kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> PredictError {
        PredictError { kind, message: message.into() }
    }
}
