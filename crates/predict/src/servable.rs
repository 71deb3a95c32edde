//! One loaded model version, ready to answer.

use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

use landfall_graph::Signature;
use landfall_tensor::Tensor;

use crate::batch::core::Core;
use crate::batch::layout::Layout;
use crate::batch::policy::Place;
use crate::batch::probe;
use crate::clock::between;
use crate::departure::{Departure, Gone};
use crate::lock::contain;
use crate::{
    Batching, Clock, ErrorKind, Executable, PredictError, PredictionSink, Reply, Request,
    ServingConfig, StatisticsSnapshot, Steps,
};

/// The most runs of one model version at one time.
const MAX_INSTANCES: usize = 1024;

/// What loading a version gives.
pub struct LoadedModel {
    /// The compiled model.
    pub executable: Arc<dyn Executable>,
    /// Declared pre- and post-processing, if any.
    pub steps: Option<Arc<dyn Steps>>,
    /// How to serve it.
    pub config: ServingConfig,
    /// What the protocol calls the platform, such as `onnx` or `landfall`.
    pub platform: String,
}

/// One loaded model version: a compiled model, its queue and its threads.
///
/// Holding it keeps it serving. When the last holder lets go, what is queued is still answered;
/// then the threads end and the model is freed.
pub struct Servable {
    core: Arc<Core>,
    platform: String,
    why_not_batching: Option<String>,
}

/// A submitted request. Dropping it cancels the request if it still waits: its callback then gets
/// `Cancelled`, and the model never sees it. Once running, a request runs to its end.
#[must_use = "dropping a ticket cancels the request"]
pub struct Ticket {
    queued: Option<(Weak<Core>, Place)>,
}

impl Ticket {
    /// The ticket of a request that is already answered.
    pub(crate) fn spent() -> Ticket {
        Ticket { queued: None }
    }

    /// Takes the request out of the queue if it is still there. Returns whether it was.
    pub fn cancel(&self) -> bool {
        match &self.queued {
            Some((core, place)) => core.upgrade().is_some_and(|core| core.cancel(*place)),
            None => false,
        }
    }

    /// Lets the request go on without the ticket.
    pub fn detach(mut self) {
        self.queued = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Servable {
    /// Starts serving a model: checks its configuration, starts its threads, and runs its warm-up
    /// requests. The error says which part failed.
    pub fn start(
        name: &str,
        version: u64,
        model: LoadedModel,
        clock: Arc<dyn Clock>,
        sink: Option<Arc<dyn PredictionSink>>,
    ) -> Result<Arc<Servable>, String> {
        let LoadedModel { executable, steps, mut config, platform } = model;
        check(&config)?;
        let layout = Layout::new(executable.signature(), &config)?;
        let layout = match config.batching {
            Batching::Auto => layout.and_then(|layout| match probe::obstacle(&*executable) {
                Some(reason) => Err(reason),
                None => Ok(layout),
            }),
            Batching::Required | Batching::Off => layout,
        };
        let (layout, why_not_batching) = match layout {
            Ok(layout) => (Some(layout), None),
            Err(reason) => (None, Some(reason)),
        };
        let warm_up = std::mem::take(&mut config.warm_up);
        let threads = config.instances + 1;
        let core = Arc::new(Core::new(
            Arc::from(name),
            version,
            executable,
            steps,
            config,
            clock,
            sink,
            layout,
            Gone::default(),
        ));
        let servable = Servable { core, platform, why_not_batching };
        for index in 0..threads {
            let core = servable.core.clone();
            std::thread::Builder::new()
                .name(format!("{name}:{version}/{index}"))
                .spawn(move || core.serve())
                .map_err(|error| format!("cannot start a thread: {error}"))?;
        }
        for (index, request) in warm_up.into_iter().enumerate() {
            servable
                .core
                .predict_direct(request)
                .map_err(|error| format!("warm-up request {} failed: {error}", index + 1))?;
        }
        Ok(Arc::new(servable))
    }

    /// Name of the model.
    pub fn name(&self) -> &Arc<str> {
        &self.core.name
    }

    /// Version.
    pub fn version(&self) -> u64 {
        self.core.version
    }

    /// What the protocol calls the platform.
    pub fn platform(&self) -> &str {
        &self.platform
    }

    /// What callers send and get: the declared steps' signature, else the model's own.
    pub fn signature(&self) -> &Signature {
        self.core.signature()
    }

    /// How it is served.
    pub fn config(&self) -> &ServingConfig {
        &self.core.config
    }

    /// Whether rows of different requests share runs.
    pub fn is_batching(&self) -> bool {
        self.core.is_batching()
    }

    /// Why rows of different requests do not share runs, as found at loading.
    pub fn why_not_batching(&self) -> Option<&str> {
        self.why_not_batching.as_deref()
    }

    /// Whether submitting does declared pre-processing on the submitting thread, which can take
    /// milliseconds: a reactor hands such requests to a blocking thread.
    pub fn has_steps(&self) -> bool {
        self.core.steps.is_some()
    }

    /// Counters, histograms and gauges. `epoch_ms_now` is the wall clock, which dates the last
    /// inference.
    pub fn statistics(&self, epoch_ms_now: u64) -> StatisticsSnapshot {
        let core = &self.core;
        let now_ns = core.clock.now_ns();
        core.statistics.snapshot(&core.name, core.version, core.load(), now_ns, epoch_ms_now)
    }

    /// Checks the request, does the declared pre-processing, and queues it. `done` is called
    /// exactly once, on any thread, possibly this one and possibly before this returns: for a
    /// refusal, and for a model cheap enough to run right here ([`ServingConfig::inline_limit`]).
    pub fn submit(
        &self,
        request: Request,
        done: impl FnOnce(Result<Reply, PredictError>) + Send + 'static,
    ) -> Ticket {
        let core = &self.core;
        let admitted_ns = core.clock.now_ns();
        let prepared = match core.prepare(request, admitted_ns) {
            Ok(prepared) => prepared,
            Err(error) => {
                core.statistics.failed(between(admitted_ns, core.clock.now_ns()));
                done(Err(error));
                return Ticket::spent();
            }
        };
        if core.is_cheap(prepared.waiting.rows) && core.try_hold() {
            let (reply, event) = core.run_held(prepared);
            drop(contain(|| done(reply)));
            core.record(event);
            core.answered();
            return Ticket::spent();
        }
        let place = core.enqueue(prepared, Box::new(done));
        Ticket { queued: place.map(|place| (Arc::downgrade(core), place)) }
    }

    /// Predicts and waits. Runs on this thread if nothing waits and an instance is free, with the
    /// same result.
    pub fn predict_blocking(&self, request: Request) -> Result<Reply, PredictError> {
        let core = &self.core;
        let admitted_ns = core.clock.now_ns();
        let prepared = core.prepare(request, admitted_ns).inspect_err(|_| {
            core.statistics.failed(between(admitted_ns, core.clock.now_ns()));
        })?;
        if core.try_hold() {
            let (reply, event) = core.run_held(prepared);
            core.record(event);
            core.answered();
            return reply;
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        core.enqueue(prepared, Box::new(move |reply| drop(sender.send(reply))));
        receiver.recv().unwrap_or_else(|_| {
            Err(PredictError::new(ErrorKind::Internal, "the request lost its answer"))
        })
    }

    /// Predicts on this thread beside the queue, uncounted and unreported: for bulk scoring.
    pub fn predict_direct(&self, request: Request) -> Result<Vec<(String, Tensor)>, PredictError> {
        self.core.predict_direct(request)
    }

    /// Refuses requests from now on.
    pub fn close(&self) {
        self.core.close();
    }

    /// Waits until every admitted request has its answer; false if `limit` passed first.
    pub fn drain(&self, limit: Duration) -> bool {
        self.core.drain(limit)
    }

    pub(crate) fn departure(&self) -> Departure {
        self.core.departure()
    }
}

impl Drop for Servable {
    fn drop(&mut self) {
        self.core.retire();
    }
}

fn check(config: &ServingConfig) -> Result<(), String> {
    let limits = [
        ("max_batch_rows", config.max_batch_rows, usize::MAX),
        ("instances", config.instances, MAX_INSTANCES),
        ("max_queue_requests", config.max_queue_requests, usize::MAX),
        ("max_queue_rows", config.max_queue_rows, usize::MAX),
        ("priority_levels", config.priority_levels as usize, usize::MAX),
    ];
    for (name, value, most) in limits {
        if value == 0 || value > most {
            return Err(format!("{name} is {value}, expected 1 to {most}"));
        }
    }
    if config.default_priority == 0 || config.default_priority > config.priority_levels {
        return Err(format!(
            "default_priority is {}, expected 1 to {}",
            config.default_priority, config.priority_levels
        ));
    }
    Ok(())
}
