//! One loaded model version, ready to answer.

use std::sync::Arc;

use landfall_graph::Signature;

use crate::{PredictError, Reply, Request, ServingConfig, StatisticsSnapshot};

/// One loaded model version: a compiled model, its queue and its threads. Made by the catalog.
pub struct Servable {}

/// A submitted request. Dropping it cancels the request if it still waits: its callback then gets
/// `Cancelled`, and the model never sees it. Once running, a request runs to its end.
#[must_use = "dropping a ticket cancels the request"]
pub struct Ticket {}

impl Ticket {
    /// Takes the request out of the queue if it is still there. Returns whether it was.
    pub fn cancel(&self) -> bool {
        todo!()
    }

    /// Lets the request go on without the ticket.
    pub fn detach(self) {
        todo!()
    }
}

impl Servable {
    /// Name of the model.
    pub fn name(&self) -> &Arc<str> {
        todo!()
    }
    /// Version.
    pub fn version(&self) -> u64 {
        todo!()
    }
    /// What the protocol calls the platform.
    pub fn platform(&self) -> &str {
        todo!()
    }
    /// What callers send and get: the declared steps' signature, else the model's own.
    pub fn signature(&self) -> &Signature {
        todo!()
    }
    /// How it is served.
    pub fn config(&self) -> &ServingConfig {
        todo!()
    }
    /// Whether rows of different requests share runs.
    pub fn is_batching(&self) -> bool {
        todo!()
    }
    /// Whether submitting does declared pre-processing on the submitting thread, which can take
    /// milliseconds: a reactor hands such requests to a blocking thread.
    pub fn has_steps(&self) -> bool {
        todo!()
    }
    /// Counters, histograms and gauges. `epoch_ms_now` is the wall clock, which dates the last
    /// inference.
    pub fn statistics(&self, epoch_ms_now: u64) -> StatisticsSnapshot {
        todo!()
    }

    /// Checks the request, does the declared pre-processing, and queues it. `done` is called
    /// exactly once, on any thread, possibly this one and possibly before this returns: for a
    /// refusal, and for a model cheap enough to run right here (`ServingConfig::inline_limit`).
    pub fn submit(
        self: &Arc<Self>,
        request: Request,
        done: impl FnOnce(Result<Reply, PredictError>) + Send + 'static,
    ) -> Ticket {
        todo!()
    }

    /// Predicts and waits. Runs on this thread if nothing waits and an instance is free, with the
    /// same result.
    pub fn predict_blocking(self: &Arc<Self>, request: Request) -> Result<Reply, PredictError> {
        todo!()
    }
}
