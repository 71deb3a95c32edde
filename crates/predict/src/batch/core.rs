//! The mechanism of batching: admission, the threads that wait and run, cancelling, draining.
//!
//! `instances` runs may go on at once; there is one thread more, so that one is always free to
//! watch deadlines. A submitting thread may hold an instance too and run its own request: for small
//! models two thread switches cost more than the run.
//!
//! Waking: `State::alarm_ns` is the earliest time at which some waiting thread looks again by
//! itself, or 0 from a notification until the woken thread looks. Whoever changes the queue
//! notifies only if something is due before that. Too late an alarm costs a needless wake-up; an
//! early one is kept only by a thread that does look.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::job::{Done, Job, Origin, Work};
use super::layout::Layout;
use super::policy::{BatchPolicy, Decision, Place, Waiting};
use super::queue::Queue;
use crate::clock::{between, nanos};
use crate::departure::Gone;
use crate::lock::{contain, lock};
use crate::statistics::{Load, Statistics};
use crate::{
    Clock, ErrorKind, Executable, PredictError, PredictionSink, Reply, Request, ServingConfig,
    Steps, validate,
};

/// Everything that the threads of one model version share.
pub(crate) struct Core {
    pub(crate) name: Arc<str>,
    pub(crate) version: u64,
    pub(crate) executable: Arc<dyn Executable>,
    pub(crate) steps: Option<Arc<dyn Steps>>,
    pub(crate) config: ServingConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sink: Option<Arc<dyn PredictionSink>>,
    pub(crate) statistics: Statistics,
    pub(crate) layout: Option<Layout>,
    /// Cleared when the model turns out not to keep rows apart.
    pub(crate) is_row_wise: AtomicBool,
    /// Recent cost of one row in nanoseconds; `u64::MAX` before the first run.
    pub(crate) row_cost_ns: AtomicU64,
    pub(crate) policy: BatchPolicy,
    /// Admitted requests without an answer.
    pub(crate) unanswered: AtomicUsize,
    is_closed: AtomicBool,
    state: Mutex<State>,
    work: Condvar,
    quiet: Condvar,
    /// Last field: it reports after everything above is freed.
    gone: Gone,
}

struct State {
    queue: Queue,
    running: usize,
    alarm_ns: u64,
    is_retired: bool,
}

/// A request that passed its checks, and what the queue needs to know of it.
pub(crate) struct Prepared {
    pub(crate) work: Work,
    pub(crate) waiting: Waiting,
}

impl Core {
    #[allow(clippy::too_many_arguments, reason = "one private caller that names every part")]
    pub(crate) fn new(
        name: Arc<str>,
        version: u64,
        executable: Arc<dyn Executable>,
        steps: Option<Arc<dyn Steps>>,
        config: ServingConfig,
        clock: Arc<dyn Clock>,
        sink: Option<Arc<dyn PredictionSink>>,
        layout: Option<Layout>,
        gone: Gone,
    ) -> Core {
        let policy =
            BatchPolicy { max_rows: config.max_batch_rows, max_delay_ns: nanos(config.max_delay) };
        Core {
            name,
            version,
            executable,
            steps,
            config,
            clock,
            sink,
            statistics: Statistics::default(),
            layout,
            is_row_wise: AtomicBool::new(true),
            row_cost_ns: AtomicU64::new(u64::MAX),
            policy,
            unanswered: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            state: Mutex::new(State {
                queue: Queue::default(),
                running: 0,
                alarm_ns: u64::MAX,
                is_retired: false,
            }),
            work: Condvar::new(),
            quiet: Condvar::new(),
            gone,
        }
    }

    /// Names the model in errors.
    pub(crate) fn owner(&self) -> String {
        format!("model '{}' version {}", self.name, self.version)
    }

    pub(crate) fn error(&self, kind: ErrorKind, reason: &str) -> PredictError {
        PredictError::new(kind, format!("{}: {reason}", self.owner()))
    }

    /// Whether rows of different requests may share a run.
    pub(crate) fn is_batching(&self) -> bool {
        self.layout.is_some() && self.is_row_wise.load(Ordering::Relaxed)
    }

    /// Checks a request and does its pre-processing.
    pub(crate) fn prepare(
        &self,
        request: Request,
        admitted_ns: u64,
    ) -> Result<Prepared, PredictError> {
        let signature = match &self.steps {
            Some(steps) => steps.signature(),
            None => self.executable.signature(),
        };
        let checked = validate::check(|| self.owner(), signature, &request)?;
        let (inputs, tokens, preprocess) = match &self.steps {
            Some(steps) => {
                let made = contain(|| steps.preprocess(&checked.inputs));
                let made = self.of_steps("pre-processing", made)?;
                (made.inputs, made.tokens, between(admitted_ns, self.clock.now_ns()))
            }
            None => (checked.inputs, None, Duration::ZERO),
        };
        let place = self.layout.as_ref().filter(|_| self.is_batching());
        let (rows, bucket) = match place.and_then(|layout| layout.place(&inputs)) {
            Some((rows, bucket)) => (rows, Some(bucket)),
            None => (1, None),
        };
        if let Some(limit) = self.config.max_request_rows.filter(|&limit| rows > limit) {
            let reason = format!("the request has {rows} rows, the most allowed is {limit}");
            return Err(self.error(ErrorKind::InvalidArgument, &reason));
        }
        let levels = 1..=self.config.priority_levels;
        let priority = match request.priority {
            level if levels.contains(&level) => level,
            _ => self.config.default_priority,
        };
        let deadline_ns = match request.timeout.or(self.config.timeout) {
            Some(timeout) => admitted_ns.saturating_add(nanos(timeout)),
            None => u64::MAX,
        };
        let origin = self.sink.is_some().then(|| Origin {
            id: request.id,
            key: request.key,
            inputs: request.inputs,
        });
        Ok(Prepared {
            work: Work { inputs, wanted: checked.wanted, admitted_ns, preprocess, tokens, origin },
            waiting: Waiting {
                place: Place { priority, sequence: 0 },
                rows,
                bucket,
                enqueued_ns: admitted_ns,
                deadline_ns,
            },
        })
    }

    /// What declared steps gave, with the model's name in the error.
    pub(crate) fn of_steps<T>(
        &self,
        stage: &str,
        contained: Result<Result<T, PredictError>, String>,
    ) -> Result<T, PredictError> {
        match contained {
            Ok(given) => given.map_err(|error| self.error(error.kind, &error.message)),
            Err(text) => Err(self.error(ErrorKind::Internal, &format!("{stage} {text}"))),
        }
    }

    /// Takes an instance for the calling thread if nothing waits and one is idle. The caller runs
    /// the model and then calls [`Core::release`].
    pub(crate) fn try_hold(&self) -> bool {
        if self.policy.max_delay_ns > 0 {
            return false;
        }
        let mut state = lock(&self.state);
        let is_free = state.queue.is_empty() && state.running < self.config.instances;
        if !is_free || self.is_closed() {
            return false;
        }
        state.running += 1;
        self.unanswered.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Gives an instance back, and wakes a thread for what waits.
    pub(crate) fn release(&self) {
        let mut state = lock(&self.state);
        state.running -= 1;
        if !state.queue.is_empty() {
            self.notify(&mut state, 0);
        }
    }

    /// Whether a run of `rows` rows is cheaper than handing it to another thread.
    pub(crate) fn is_cheap(&self, rows: usize) -> bool {
        let cost_ns = self.row_cost_ns.load(Ordering::Relaxed).saturating_mul(rows as u64);
        cost_ns < nanos(self.config.inline_limit)
    }

    /// Queues a request; `None` if it was refused, in which case `done` knows.
    pub(crate) fn enqueue(&self, prepared: Prepared, done: Done) -> Option<Place> {
        let mut job = Job::new(prepared.work, prepared.waiting, done);
        let mut state = lock(&self.state);
        if self.is_closed() {
            drop(state);
            let error = self.error(ErrorKind::Unavailable, "the server is shutting down");
            self.refuse(&mut job, error);
            return None;
        }
        let ripe_ns = self.policy.ripe_ns(&job.waiting);
        let deadline_ns = job.waiting.deadline_ns;
        let config = &self.config;
        let pushed = state.queue.push(job, config.max_queue_requests, config.max_queue_rows);
        match pushed {
            Ok(place) => {
                self.unanswered.fetch_add(1, Ordering::SeqCst);
                let due_ns = match state.running < config.instances {
                    true if state.queue.rows() >= self.policy.max_rows => 0,
                    true => ripe_ns.min(deadline_ns),
                    false => deadline_ns,
                };
                self.notify(&mut state, due_ns);
                Some(place)
            }
            Err(refused) => {
                drop(state);
                let (mut job, reason) = *refused;
                self.statistics.refused();
                let reason = format!("the queue is full: {reason}; try again later");
                self.refuse(&mut job, self.error(ErrorKind::Unavailable, &reason));
                None
            }
        }
    }

    fn refuse(&self, job: &mut Job, error: PredictError) {
        let total = between(job.work.admitted_ns, self.clock.now_ns());
        self.statistics.failed(total);
        job.answer(Err(error));
    }

    fn notify(&self, state: &mut MutexGuard<'_, State>, due_ns: u64) {
        if state.alarm_ns != 0 && due_ns < state.alarm_ns {
            state.alarm_ns = 0;
            self.work.notify_one();
        }
    }

    /// A thread's life: decide, act, wait; until the version is retired and its queue is empty.
    pub(crate) fn serve(&self) {
        let mut state = lock(&self.state);
        loop {
            let now_ns = self.clock.now_ns();
            let is_idle = state.running < self.config.instances;
            let queue = state.queue.iter().map(|job| &job.waiting);
            match self.policy.decide(queue, is_idle, now_ns) {
                Decision::Expire(places) => {
                    let jobs = state.queue.take(&places);
                    drop(state);
                    for job in jobs {
                        self.expire(job, now_ns);
                    }
                    state = lock(&self.state);
                }
                Decision::Run(places) => {
                    let jobs = state.queue.take(&places);
                    state.running += 1;
                    self.hand_over(&mut state);
                    drop(state);
                    self.run_batch(jobs, now_ns);
                    state = lock(&self.state);
                }
                Decision::Wait { .. } if state.is_retired && state.queue.is_empty() => {
                    self.work.notify_all();
                    return;
                }
                Decision::Wait { until_ns } => {
                    state.alarm_ns = until_ns;
                    state = self.wait(state, until_ns, now_ns);
                    state.alarm_ns = u64::MAX;
                }
            }
        }
    }

    /// Before this thread turns to a run: another one takes over if there is something to do for
    /// it.
    fn hand_over(&self, state: &mut MutexGuard<'_, State>) {
        if state.queue.is_empty() {
            return;
        }
        let due_ns = match state.running < self.config.instances {
            true => 0,
            false => {
                let deadlines = state.queue.iter().map(|job| job.waiting.deadline_ns);
                deadlines.min().unwrap_or(u64::MAX)
            }
        };
        self.notify(state, due_ns);
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        until_ns: u64,
        now_ns: u64,
    ) -> MutexGuard<'a, State> {
        if until_ns == u64::MAX {
            return self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let timeout = between(now_ns, until_ns);
        self.work.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0
    }

    fn expire(&self, job: Job, now_ns: u64) {
        self.statistics.expired();
        let waited = between(job.waiting.enqueued_ns, now_ns);
        let allowed = between(job.waiting.enqueued_ns, job.waiting.deadline_ns);
        let reason =
            format!("the request waited {waited:.1?} in the queue, its limit is {allowed:.1?}");
        self.give_up(job, self.error(ErrorKind::DeadlineExceeded, &reason), now_ns);
    }

    /// Takes a request out of the queue; whether it was still there.
    pub(crate) fn cancel(&self, place: Place) -> bool {
        let Some(job) = lock(&self.state).queue.remove(place) else { return false };
        self.statistics.cancelled();
        let error = self.error(ErrorKind::Cancelled, "the request was cancelled in the queue");
        self.give_up(job, error, self.clock.now_ns());
        true
    }

    /// An admitted request has its answer.
    pub(crate) fn answered(&self) {
        let is_last = self.unanswered.fetch_sub(1, Ordering::SeqCst) == 1;
        if is_last && self.is_closed.load(Ordering::SeqCst) {
            drop(lock(&self.state));
            self.quiet.notify_all();
        }
    }

    pub(crate) fn load(&self) -> Load {
        let state = lock(&self.state);
        Load { requests: state.queue.len(), rows: state.queue.rows(), running: state.running }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Refuses requests from now on.
    pub(crate) fn close(&self) {
        let state = lock(&self.state);
        self.is_closed.store(true, Ordering::SeqCst);
        drop(state);
        self.quiet.notify_all();
    }

    /// Waits until every admitted request has its answer; false if `limit` passed first.
    pub(crate) fn drain(&self, limit: Duration) -> bool {
        let state = lock(&self.state);
        let is_busy = |_: &mut State| self.unanswered.load(Ordering::SeqCst) > 0;
        let waited = self.quiet.wait_timeout_while(state, limit, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Lets the threads end once the queue is empty. No requests come any more.
    pub(crate) fn retire(&self) {
        lock(&self.state).is_retired = true;
        self.work.notify_all();
    }

    /// Reports when this is freed.
    pub(crate) fn departure(&self) -> crate::departure::Departure {
        self.gone.departure()
    }

    pub(crate) fn reply(&self, outputs: Vec<(String, landfall_tensor::Tensor)>) -> Reply {
        Reply {
            model_name: self.name.to_string(),
            model_version: self.version,
            outputs,
            timing: crate::Timing::default(),
            tokens: None,
        }
    }
}
