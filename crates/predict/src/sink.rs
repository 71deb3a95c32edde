//! Where finished predictions are reported.

use std::sync::Arc;

use landfall_tensor::Tensor;

use crate::{PredictError, Timing};

/// One finished prediction. Tensors share the request's and the reply's memory.
#[derive(Debug, Clone)]
pub struct PredictionEvent {
    /// Name of the model that answered.
    pub model: Arc<str>,
    /// Version that answered.
    pub version: u64,
    /// The caller's request id; empty if none was given.
    pub request_id: String,
    /// The caller's routing key.
    pub key: Option<String>,
    /// Inputs as the caller sent them.
    pub inputs: Vec<(String, Tensor)>,
    /// Outputs as the caller got them, or why there are none.
    pub outcome: Result<Vec<(String, Tensor)>, PredictError>,
    /// Where the time went.
    pub timing: Timing,
}

/// Receives every prediction of an admitted request, after its caller has the reply.
pub trait PredictionSink: Send + Sync {
    /// Takes one event. Must return at once: an implementation that cannot keep up drops events
    /// and counts them, because this runs on the threads that run models.
    fn record(&self, event: PredictionEvent);
}
