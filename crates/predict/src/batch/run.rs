//! Runs of the model: alone or joined, and what becomes of their outputs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use landfall_graph::{Signature, TensorSpec};
use landfall_tensor::{Tensor, TensorError};

use super::core::{Core, Prepared};
use super::job::{Job, Work};
use super::rows;
use crate::clock::{between, nanos};
use crate::lock::contain;
use crate::statistics::RunTimes;
use crate::{ErrorKind, PredictError, PredictionEvent, Reply, Request, Timing};

/// About how long a piece of a large request may run, however many rows that is.
const PIECE: Duration = Duration::from_millis(50);

/// Outputs in the model's order, and how long each stage took.
type Ran = Result<(Vec<Tensor>, RunTimes), PredictError>;

/// Why a model's outputs are not what its signature promises to callers, if they are not.
fn broken_promise(specs: &[TensorSpec], outputs: &[Tensor]) -> Option<String> {
    if outputs.len() != specs.len() {
        let (found, expected) = (outputs.len(), specs.len());
        return Some(format!("the model gave {found} outputs, expected {expected}"));
    }
    specs.iter().zip(outputs).find_map(|(spec, tensor)| {
        let difference = spec.difference(&tensor.view())?;
        Some(format!("the model's output '{}' {difference}", spec.name))
    })
}

/// Bytes of a tensor's elements.
fn payload_bytes(tensor: &Tensor) -> usize {
    if let Ok(texts) = tensor.strings() {
        return texts.iter().map(String::len).sum();
    }
    if let Ok(blobs) = tensor.blobs() {
        return blobs.iter().map(|blob| blob.len()).sum();
    }
    tensor.bytes().map_or(0, <[u8]>::len)
}

impl Core {
    /// Runs queued requests together. If that fails, each runs alone, so that one bad request fails
    /// alone. The caller holds an instance; this gives it back.
    pub(crate) fn run_batch(&self, mut jobs: Vec<Job>, start_ns: u64) {
        if let [job] = jobs.as_slice() {
            let ran = self.run_alone(&job.work.inputs, job.waiting.rows);
            self.release();
            self.finish(jobs.remove(0), ran, start_ns);
            return;
        }
        match self.run_joined(&jobs) {
            Ok((parts, times)) => {
                self.release();
                for (job, part) in jobs.into_iter().zip(parts) {
                    self.finish(job, Ok((part, times)), start_ns);
                }
            }
            Err(_) => {
                for job in jobs {
                    let ran = self.run_alone(&job.work.inputs, job.waiting.rows);
                    self.finish(job, ran, start_ns);
                }
                self.release();
            }
        }
    }

    /// Runs a request that was never queued. The caller holds an instance; this gives it back.
    pub(crate) fn run_held(
        &self,
        prepared: Prepared,
    ) -> (Result<Reply, PredictError>, Option<PredictionEvent>) {
        let start_ns = self.clock.now_ns();
        let rows = prepared.waiting.rows;
        let ran = self.run_alone(&prepared.work.inputs, rows);
        self.release();
        self.conclude(prepared.work, rows, ran, start_ns)
    }

    /// Predicts without queue, statistics or sink: for warm-up and bulk scoring.
    pub(crate) fn predict_direct(
        &self,
        request: Request,
    ) -> Result<Vec<(String, Tensor)>, PredictError> {
        let Prepared { work, waiting } = self.prepare(request, self.clock.now_ns())?;
        let outputs = self.infer(&work.inputs, waiting.rows)?.0;
        self.present(&work, outputs)
    }

    /// Runs one request, in pieces if it has so many rows that the working memory of one run would
    /// know no bound. The instance is held throughout: others wait for all pieces.
    fn run_alone(&self, inputs: &[Tensor], rows: usize) -> Ran {
        let most = self.rows_of_a_piece();
        if rows > most
            && self.is_batching()
            && let Some(ran) = self.run_pieces(inputs, rows, most)?
        {
            return Ok(ran);
        }
        self.run_whole(inputs, rows)
    }

    fn run_whole(&self, inputs: &[Tensor], rows: usize) -> Ran {
        let (outputs, infer) = self.infer(inputs, rows)?;
        let times = RunTimes { infer, ..RunTimes::default() };
        self.statistics.ran(rows, &times, self.clock.now_ns());
        Ok((outputs, times))
    }

    /// Rows that a batch may have, or as many more as run in [`PIECE`].
    fn rows_of_a_piece(&self) -> usize {
        let row_ns = self.row_cost_ns.load(Ordering::Relaxed).max(1);
        self.config.max_batch_rows.max((nanos(PIECE) / row_ns) as usize)
    }

    /// One request in runs of at most `most` rows; `None` if the model turns out not to keep rows
    /// apart.
    fn run_pieces(
        &self,
        inputs: &[Tensor],
        rows: usize,
        most: usize,
    ) -> Result<Option<(Vec<Tensor>, RunTimes)>, PredictError> {
        let internal = |error: TensorError| self.error(ErrorKind::Internal, &error.to_string());
        let pieces = rows.div_ceil(most);
        let mut ran = Vec::with_capacity(pieces);
        let (mut times, mut bytes) = (RunTimes::default(), 0);
        for piece in 0..pieces {
            let range = piece * rows / pieces..(piece + 1) * rows / pieces;
            let taken: Result<Vec<Tensor>, _> =
                inputs.iter().map(|input| rows::take_rows(input, range.clone())).collect();
            let (outputs, own) = self.run_whole(&taken.map_err(internal)?, range.len())?;
            if outputs.iter().any(|output| output.shape().first() != Some(&range.len())) {
                self.is_row_wise.store(false, Ordering::Relaxed);
                return Ok(None);
            }
            times.infer += own.infer;
            bytes += outputs.iter().map(payload_bytes).sum::<usize>();
            self.check_reply(bytes)?;
            ran.push(outputs);
        }
        let start_ns = self.clock.now_ns();
        let outputs = (0..ran[0].len()).map(|output| {
            let parts: Vec<&Tensor> = ran.iter().map(|outputs| &outputs[output]).collect();
            rows::join(&parts, None)
        });
        let outputs: Vec<Tensor> = outputs.collect::<Result<_, _>>().map_err(internal)?;
        times.join = between(start_ns, self.clock.now_ns());
        Ok(Some((outputs, times)))
    }

    /// One run for several requests: the outputs of each.
    fn run_joined(&self, jobs: &[Job]) -> Result<(Vec<Vec<Tensor>>, RunTimes), PredictError> {
        let internal = |reason: String| self.error(ErrorKind::Internal, &reason);
        let Some(layout) = &self.layout else {
            return Err(internal("requests were joined for a model without a batch axis".into()));
        };
        let start_ns = self.clock.now_ns();
        let parts: Vec<&[Tensor]> = jobs.iter().map(|job| job.work.inputs.as_slice()).collect();
        let inputs = rows::join_all(&parts, layout).map_err(|error| internal(error.to_string()))?;
        let total: usize = jobs.iter().map(|job| job.waiting.rows).sum();
        let join = between(start_ns, self.clock.now_ns());
        let (outputs, infer) = self.infer(&inputs, total)?;
        if let Some(odd) = outputs.iter().find(|o| o.shape().first() != Some(&total)) {
            self.is_row_wise.store(false, Ordering::Relaxed);
            return Err(internal(format!("{total} rows gave an output of shape {}", odd.shape())));
        }
        let split_ns = self.clock.now_ns();
        let mut first = 0;
        let mut split = Vec::with_capacity(jobs.len());
        for job in jobs {
            let range = first..first + job.waiting.rows;
            first = range.end;
            let own = rows::split(&outputs, &range, &job.work.inputs, layout);
            split.push(own.map_err(|error| internal(error.to_string()))?);
        }
        let end_ns = self.clock.now_ns();
        let times = RunTimes { join, infer, split: between(split_ns, end_ns) };
        self.statistics.ran(total, &times, end_ns);
        Ok((split, times))
    }

    fn infer(
        &self,
        inputs: &[Tensor],
        rows: usize,
    ) -> Result<(Vec<Tensor>, Duration), PredictError> {
        let start_ns = self.clock.now_ns();
        let outputs = contain(|| self.executable.run(inputs))
            .unwrap_or_else(|text| Err(format!("the model {text}")))
            .map_err(|reason| self.error(ErrorKind::Internal, &reason))?;
        if let Some(reason) = broken_promise(&self.executable.signature().outputs, &outputs) {
            return Err(self.error(ErrorKind::Internal, &reason));
        }
        let infer = between(start_ns, self.clock.now_ns());
        self.learn_cost(nanos(infer) / rows.max(1) as u64);
        Ok((outputs, infer))
    }

    /// Follows falling costs fast (the first runs are cold) and rising ones slowly (a busy
    /// machine). Concurrent updates may lose one another.
    fn learn_cost(&self, sample_ns: u64) {
        let cost_ns = match self.row_cost_ns.load(Ordering::Relaxed) {
            u64::MAX => sample_ns,
            old if sample_ns < old => old.midpoint(sample_ns),
            old => old + (sample_ns - old) / 8,
        };
        self.row_cost_ns.store(cost_ns, Ordering::Relaxed);
    }

    pub(crate) fn signature(&self) -> &Signature {
        match &self.steps {
            Some(steps) => steps.signature(),
            None => self.executable.signature(),
        }
    }

    /// Post-processes a request's outputs and picks those it wants.
    fn present(
        &self,
        work: &Work,
        outputs: Vec<Tensor>,
    ) -> Result<Vec<(String, Tensor)>, PredictError> {
        let outputs = match &self.steps {
            Some(steps) => {
                let outputs = contain(|| steps.postprocess(&work.inputs, outputs));
                self.of_steps("post-processing", outputs)?
            }
            None => outputs,
        };
        let specs = &self.signature().outputs;
        if outputs.len() != specs.len() {
            let (found, expected) = (outputs.len(), specs.len());
            let reason = format!("post-processing gave {found} outputs, expected {expected}");
            return Err(self.error(ErrorKind::Internal, &reason));
        }
        let named = |&index: &usize| (specs[index].name.clone(), outputs[index].clone());
        Ok(work.wanted.iter().map(named).collect())
    }

    /// Refuses outputs of so many bytes if they would make too large a reply.
    fn check_reply(&self, bytes: usize) -> Result<(), PredictError> {
        let most = self.config.max_reply_bytes;
        if bytes <= most {
            return Ok(());
        }
        let reason = format!(
            "the outputs have {bytes} bytes or more, the most allowed is {most} \
             (max_reply_bytes): ask for fewer rows or outputs"
        );
        Err(self.error(ErrorKind::InvalidArgument, &reason))
    }

    /// Turns outputs into a reply, counts it, and makes its event.
    fn conclude(
        &self,
        work: Work,
        rows: usize,
        ran: Ran,
        start_ns: u64,
    ) -> (Result<Reply, PredictError>, Option<PredictionEvent>) {
        let before_ns = self.clock.now_ns();
        let times = ran.as_ref().map(|(_, times)| *times).unwrap_or_default();
        let tokens = work.tokens;
        let result = ran.and_then(|(outputs, _)| self.present(&work, outputs));
        let result = result.and_then(|outputs| {
            let bytes = outputs.iter().map(|(_, tensor)| payload_bytes(tensor)).sum();
            self.check_reply(bytes).map(|()| outputs)
        });
        let end_ns = match self.steps {
            Some(_) => self.clock.now_ns(),
            None => before_ns,
        };
        let queued_ns = work.admitted_ns.saturating_add(nanos(work.preprocess));
        let timing = Timing {
            queue: between(queued_ns, start_ns),
            preprocess: work.preprocess,
            compute: times.infer,
            postprocess: between(before_ns, end_ns),
        };
        let total = between(work.admitted_ns, end_ns);
        let reply = match result {
            Ok(outputs) => {
                self.statistics.succeeded(rows, &timing, &times, total);
                Ok(Reply { timing, tokens, ..self.reply(outputs) })
            }
            Err(error) => {
                self.statistics.failed(total);
                Err(error)
            }
        };
        let event = self.event(work, &reply, timing);
        (reply, event)
    }

    fn event(
        &self,
        work: Work,
        reply: &Result<Reply, PredictError>,
        timing: Timing,
    ) -> Option<PredictionEvent> {
        let origin = work.origin?;
        Some(PredictionEvent {
            model: self.name.clone(),
            version: self.version,
            request_id: origin.id,
            key: origin.key,
            inputs: origin.inputs,
            outcome: reply.as_ref().map(|reply| reply.outputs.clone()).map_err(Clone::clone),
            timing,
        })
    }

    /// Hands an event to the sink, whose panic is its own.
    pub(crate) fn record(&self, event: Option<PredictionEvent>) {
        if let (Some(sink), Some(event)) = (&self.sink, event) {
            drop(contain(|| sink.record(event)));
        }
    }

    fn finish(&self, mut job: Job, ran: Ran, start_ns: u64) {
        let work = std::mem::take(&mut job.work);
        let (reply, event) = self.conclude(work, job.waiting.rows, ran, start_ns);
        job.answer(reply);
        self.record(event);
        self.answered();
    }

    /// Answers an admitted request that never ran.
    pub(crate) fn give_up(&self, mut job: Job, error: PredictError, now_ns: u64) {
        let work = std::mem::take(&mut job.work);
        let timing = Timing {
            queue: between(work.admitted_ns.saturating_add(nanos(work.preprocess)), now_ns),
            preprocess: work.preprocess,
            ..Timing::default()
        };
        self.statistics.failed(between(work.admitted_ns, now_ns));
        let reply = Err(error);
        let event = self.event(work, &reply, timing);
        job.answer(reply);
        self.record(event);
        self.answered();
    }
}
