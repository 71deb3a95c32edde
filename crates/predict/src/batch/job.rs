//! One admitted request on its way through queue and model.

use std::time::Duration;

use landfall_tensor::Tensor;

use super::policy::Waiting;
use crate::{ErrorKind, PredictError, Reply};

/// Called with what came of a request.
pub(crate) type Done = Box<dyn FnOnce(Result<Reply, PredictError>) + Send>;

/// What the prediction event repeats of a request; kept only if there is a sink.
pub(crate) struct Origin {
    pub(crate) id: String,
    pub(crate) key: Option<String>,
    pub(crate) inputs: Vec<(String, Tensor)>,
}

/// A request that fits the model, ready to run.
#[derive(Default)]
pub(crate) struct Work {
    /// Inputs in the model's order.
    pub(crate) inputs: Vec<Tensor>,
    /// Indices of the outputs wanted.
    pub(crate) wanted: Vec<usize>,
    /// When it was submitted.
    pub(crate) admitted_ns: u64,
    /// Declared pre-processing.
    pub(crate) preprocess: Duration,
    /// Tokens that it made of texts.
    pub(crate) tokens: Option<usize>,
    pub(crate) origin: Option<Origin>,
}

/// Work with its place in the queue and its caller.
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) waiting: Waiting,
    done: Option<Done>,
}

impl Job {
    pub(crate) fn new(work: Work, waiting: Waiting, done: Done) -> Job {
        Job { work, waiting, done: Some(done) }
    }

    /// Answers the caller, who is answered exactly once.
    pub(crate) fn answer(&mut self, result: Result<Reply, PredictError>) {
        if let Some(done) = self.done.take() {
            // A callback's panic is its owner's bug; it must not take other requests along.
            drop(crate::lock::contain(|| done(result)));
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.answer(Err(PredictError::new(
            ErrorKind::Internal,
            "the request was dropped before it was answered: a bug in Landfall",
        )));
    }
}
