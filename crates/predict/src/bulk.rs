//! Scoring many rows: the model and its declared steps as when serving, without the queue.
//!
//! Chunks of columns are cut into batches, batches run on several threads, results come back in the
//! order of the rows. Memory is bounded by the batches in flight: the source is read only as
//! results are taken. A batch that fails is bisected until the rows at fault stand alone; they are
//! reported and the others are scored.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use landfall_graph::{DimSpec, Signature};
use landfall_tensor::Tensor;

use crate::batch::rows::{join, take_rows};
use crate::lock::lock;
use crate::{ErrorKind, PredictError, Request, Servable, validate};

/// Batches in flight for each thread: one being run, one waiting.
const DEPTH: usize = 2;

/// Columns of rows: tensors of shape `(row, …)` by input name, of equally many rows.
pub type Columns = Vec<(String, Tensor)>;

/// How to score.
#[derive(Debug, Clone, Copy)]
pub struct BulkOptions {
    /// The most rows of one run.
    pub batch_rows: usize,
    /// Runs at one time; each uses as many threads as the model was loaded with.
    pub threads: usize,
}

impl Default for BulkOptions {
    fn default() -> BulkOptions {
        BulkOptions { batch_rows: 256, threads: 1 }
    }
}

/// Results of consecutive rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Position of the first row in the whole source.
    pub first_row: u64,
    /// Rows read, good and bad.
    pub rows: usize,
    /// Outputs of the good rows, `(row, …)`, in their order; empty if there is none.
    pub outputs: Columns,
    /// The bad rows, ascending.
    pub quarantined: Vec<Quarantined>,
}

/// A row that cannot be scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its position in the whole source.
    pub row: u64,
    /// What went wrong with it.
    pub reason: String,
}

/// Why scoring stopped.
#[derive(Debug, thiserror::Error)]
pub enum BulkError<E> {
    /// The source failed.
    #[error("{0}")]
    Source(E),
    /// The columns do not fit the model, or the results of its rows do not fit together.
    #[error(transparent)]
    Columns(PredictError),
}

/// Scores the rows of `chunks`. The iterator that comes back yields results in the order of the
/// rows and ends after the first error. Fails if the model does not work row by row: every input
/// and output needs a free leading axis, or one of extent 1.
pub fn score<I, E>(
    servable: &Arc<Servable>,
    chunks: I,
    options: BulkOptions,
) -> Result<Score<I, E>, PredictError>
where
    I: Iterator<Item = Result<Columns, E>>,
{
    let fail = |reason: &str| {
        let model = format!("model '{}' version {}", servable.name(), servable.version());
        PredictError::new(ErrorKind::InvalidArgument, format!("{model}: {reason}"))
    };
    let batch_rows = match (servable.is_batching(), has_single_rows(servable.signature())) {
        (true, _) => options.batch_rows.max(1),
        (false, true) => 1,
        (false, false) => {
            return Err(fail("its leading axis is not one of rows, so rows cannot be scored"));
        }
    };
    let threads = options.threads.max(1);
    // Every batch in flight fits, so sending never blocks.
    let (sender, receiver) = mpsc::sync_channel::<Task>(DEPTH * threads);
    let receiver = Arc::new(Mutex::new(receiver));
    let mut workers = Vec::new();
    for _ in 0..threads {
        let (servable, receiver) = (servable.clone(), receiver.clone());
        let worker = std::thread::Builder::new()
            .name("bulk".to_owned())
            .spawn(move || work(&servable, &receiver))
            .map_err(|error| fail(&format!("cannot start a thread: {error}")))?;
        workers.push(worker);
    }
    Ok(Score {
        servable: servable.clone(),
        chunks,
        batch_rows,
        chunk: None,
        next_row: 0,
        in_flight: VecDeque::new(),
        is_over: false,
        tasks: Some(sender),
        workers,
    })
}

/// Whether the leading axis of everything has extent 1, as models exported with a fixed batch have.
fn has_single_rows(signature: &Signature) -> bool {
    !signature.inputs.is_empty()
        && signature.inputs.iter().chain(&signature.outputs).all(|spec| {
            let dims = spec.dims.as_deref().unwrap_or_default();
            dims.first() == Some(&DimSpec::Known(1))
        })
}

struct Task {
    columns: Columns,
    rows: usize,
    first_row: u64,
    result: mpsc::SyncSender<Result<Scored, PredictError>>,
}

enum Slot<E> {
    Pending(mpsc::Receiver<Result<Scored, PredictError>>),
    Failed(BulkError<E>),
}

/// An iterator over scored batches; see [`score`].
pub struct Score<I, E> {
    servable: Arc<Servable>,
    chunks: I,
    batch_rows: usize,
    /// The chunk being cut, its rows, and those already taken.
    chunk: Option<(Columns, usize, usize)>,
    next_row: u64,
    in_flight: VecDeque<Slot<E>>,
    is_over: bool,
    tasks: Option<mpsc::SyncSender<Task>>,
    workers: Vec<JoinHandle<()>>,
}

impl<I, E> Score<I, E>
where
    I: Iterator<Item = Result<Columns, E>>,
{
    /// Sends one more batch to the threads, or learns that there is none.
    fn send_one(&mut self) -> Result<(), BulkError<E>> {
        let Some((columns, rows, taken)) = &mut self.chunk else {
            match self.chunks.next() {
                Some(Ok(columns)) => {
                    let rows = count_rows(&columns).map_err(BulkError::Columns)?;
                    self.chunk = Some((columns, rows, 0));
                }
                Some(Err(error)) => return Err(BulkError::Source(error)),
                None => self.is_over = true,
            }
            return Ok(());
        };
        let range = *taken..(*taken + self.batch_rows).min(*rows);
        if range.is_empty() {
            self.chunk = None;
            return Ok(());
        }
        *taken = range.end;
        let columns = slice(columns, &range).map_err(BulkError::Columns)?;
        check(&self.servable, &columns).map_err(BulkError::Columns)?;
        let (result, pending) = mpsc::sync_channel(1);
        let first_row = self.next_row;
        self.next_row += range.len() as u64;
        if let Some(tasks) = &self.tasks {
            // A closed channel means dead workers, which the pending result reports.
            drop(tasks.send(Task { columns, rows: range.len(), first_row, result }));
        }
        self.in_flight.push_back(Slot::Pending(pending));
        Ok(())
    }
}

impl<I, E> Iterator for Score<I, E>
where
    I: Iterator<Item = Result<Columns, E>>,
{
    type Item = Result<Scored, BulkError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over && self.in_flight.len() < DEPTH * self.workers.len() {
            if let Err(error) = self.send_one() {
                self.is_over = true;
                self.in_flight.push_back(Slot::Failed(error));
            }
        }
        let result = match self.in_flight.pop_front()? {
            Slot::Failed(error) => Err(error),
            Slot::Pending(pending) => match pending.recv() {
                Ok(result) => result.map_err(BulkError::Columns),
                Err(_) => Err(BulkError::Columns(PredictError::new(
                    ErrorKind::Internal,
                    "a scoring thread died: a bug in Landfall",
                ))),
            },
        };
        if result.is_err() {
            self.is_over = true;
            self.in_flight.clear();
        }
        Some(result)
    }
}

impl<I, E> Drop for Score<I, E> {
    fn drop(&mut self) {
        self.tasks = None;
        self.in_flight.clear();
        self.workers.drain(..).for_each(|worker| drop(worker.join()));
    }
}

fn work(servable: &Servable, tasks: &Mutex<mpsc::Receiver<Task>>) {
    loop {
        let Ok(task) = lock(tasks).recv() else { return };
        let mut part = Part { servable, task: &task, good: Vec::new(), bad: Vec::new() };
        part.bisect(0..task.rows);
        // Nobody listens any more if the iterator was dropped.
        drop(task.result.send(part.finish()));
    }
}

struct Part<'a> {
    servable: &'a Servable,
    task: &'a Task,
    good: Vec<Columns>,
    bad: Vec<Quarantined>,
}

impl Part<'_> {
    fn bisect(&mut self, range: Range<usize>) {
        match (self.run(&range), range.len()) {
            (Ok(outputs), _) => self.good.push(outputs),
            (Err(error), 0 | 1) => self.bad.push(Quarantined {
                row: self.task.first_row + range.start as u64,
                reason: error.message,
            }),
            (Err(_), rows) => {
                let middle = range.start + rows / 2;
                self.bisect(range.start..middle);
                self.bisect(middle..range.end);
            }
        }
    }

    fn run(&self, range: &Range<usize>) -> Result<Columns, PredictError> {
        let inputs = slice(&self.task.columns, range)?;
        let outputs = self.servable.predict_direct(Request { inputs, ..Request::default() })?;
        let rows = range.len();
        match outputs.iter().find(|(_, tensor)| tensor.shape().first() != Some(&rows)) {
            Some((name, tensor)) => Err(PredictError::new(
                ErrorKind::Internal,
                format!("{rows} rows gave output '{name}' of shape {}", tensor.shape()),
            )),
            None => Ok(outputs),
        }
    }

    fn finish(self) -> Result<Scored, PredictError> {
        let mut outputs = Columns::new();
        if let Some(first) = self.good.first() {
            for (index, (name, _)) in first.iter().enumerate() {
                let parts: Vec<&Tensor> = self.good.iter().map(|part| &part[index].1).collect();
                let joined = match parts.as_slice() {
                    [only] => Ok((*only).clone()),
                    _ => join(&parts, None),
                };
                let joined = joined.map_err(|error| {
                    let reason = format!("results of different rows do not fit together: {error}");
                    PredictError::new(ErrorKind::Internal, reason)
                })?;
                outputs.push((name.clone(), joined));
            }
        }
        Ok(Scored {
            first_row: self.task.first_row,
            rows: self.task.rows,
            outputs,
            quarantined: self.bad,
        })
    }
}

fn slice(columns: &Columns, range: &Range<usize>) -> Result<Columns, PredictError> {
    let part = |(name, tensor): &(String, Tensor)| {
        take_rows(tensor, range.clone())
            .map(|part| (name.clone(), part))
            .map_err(|error| PredictError::new(ErrorKind::Internal, error.to_string()))
    };
    columns.iter().map(part).collect()
}

fn count_rows(columns: &Columns) -> Result<usize, PredictError> {
    let mut count: Option<(usize, &str)> = None;
    for (name, tensor) in columns {
        let rows = tensor.shape().first().copied();
        match (rows, count) {
            (Some(rows), None) => count = Some((rows, name)),
            (Some(rows), Some((first, _))) if rows == first => {}
            (_, first) => {
                let expected = match first {
                    Some((rows, other)) => format!("{rows} rows as in column '{other}'"),
                    None => "a leading axis of rows".to_owned(),
                };
                return Err(PredictError::new(
                    ErrorKind::InvalidArgument,
                    format!("column '{name}' has shape {}, expected {expected}", tensor.shape()),
                ));
            }
        }
    }
    Ok(count.map_or(0, |(rows, _)| rows))
}

/// A misfit of whole columns is no fault of single rows.
fn check(servable: &Servable, columns: &Columns) -> Result<(), PredictError> {
    let request = Request { inputs: columns.clone(), ..Request::default() };
    let owner = || format!("model '{}' version {}", servable.name(), servable.version());
    validate::check(owner, servable.signature(), &request).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;
    use crate::ServingConfig;
    use crate::fakes::{Doubler, ManualClock, PANIC, known, rows, start};

    fn servable(model: Arc<Doubler>) -> Arc<Servable> {
        start(model, ServingConfig::default(), Arc::new(ManualClock::default()))
    }

    fn chunk(values: &[f32]) -> Result<Columns, Infallible> {
        Ok(rows(values, 1).inputs)
    }

    fn collect(model: Arc<Doubler>, chunks: Vec<Vec<f32>>, threads: usize) -> Vec<Scored> {
        let options = BulkOptions { batch_rows: 4, threads };
        let chunks = chunks.into_iter().map(|values| chunk(&values));
        let scored = score(&servable(model), chunks, options).unwrap();
        scored.map(Result::unwrap).collect()
    }

    fn outputs(scored: &[Scored]) -> Vec<f32> {
        let column = |s: &Scored| {
            s.outputs.iter().flat_map(|(_, t)| t.as_slice::<f32>().unwrap().to_vec()).collect()
        };
        scored.iter().flat_map(|s| -> Vec<f32> { column(s) }).collect()
    }

    #[test]
    fn results_keep_the_order_of_the_rows() {
        let values: Vec<f32> = (0..1000).map(|v| v as f32).collect();
        let chunks = values.chunks(37).map(<[f32]>::to_vec).collect();
        let scored = collect(Doubler::new(), chunks, 3);
        let expected: Vec<f32> = values.iter().map(|v| 2.0 * v + 1.0).collect();
        assert_eq!(outputs(&scored), expected);
        let mut next = 0;
        for part in &scored {
            assert_eq!(part.first_row, next);
            assert!(part.rows <= 4 && part.quarantined.is_empty());
            next += part.rows as u64;
        }
        assert_eq!(next, 1000);
    }

    #[test]
    fn bad_rows_are_quarantined_and_the_others_scored() {
        let chunks = vec![vec![1.0, 2.0, -3.0, 4.0, 5.0], vec![-1.0, PANIC], vec![6.0]];
        let scored = collect(Doubler::new(), chunks, 2);
        assert_eq!(outputs(&scored), [3.0, 5.0, 9.0, 11.0, 13.0]);
        let bad: Vec<(u64, &str)> = scored
            .iter()
            .flat_map(|part| part.quarantined.iter().map(|q| (q.row, q.reason.as_str())))
            .collect();
        assert_eq!(bad.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [2, 5, 6]);
        assert!(bad[0].1.ends_with("node 'sqrt': -3 is negative"), "{}", bad[0].1);
        assert!(bad[2].1.ends_with("the model panicked: told to panic"), "{}", bad[2].1);
    }

    #[test]
    fn the_source_is_read_only_as_results_are_taken() {
        let read = AtomicUsize::new(0);
        let chunks = (0..100).map(|i| {
            read.fetch_add(1, SeqCst);
            chunk(&[i as f32])
        });
        let options = BulkOptions { batch_rows: 4, threads: 2 };
        let mut scored = score(&servable(Doubler::new()), chunks, options).unwrap();
        for taken in 1..=10 {
            assert_eq!(scored.next().unwrap().unwrap().rows, 1);
            assert!(read.load(SeqCst) <= taken + 4, "{} read", read.load(SeqCst));
        }
    }

    #[test]
    fn columns_that_do_not_fit_stop_the_scoring() {
        let mut two = rows(&[1.0, 2.0], 1).inputs;
        two.push(("z".to_owned(), two[0].1.clone()));
        let chunks = [chunk(&[1.0]), Ok(two), chunk(&[2.0])].into_iter();
        let mut scored = score(&servable(Doubler::new()), chunks, BulkOptions::default()).unwrap();
        assert_eq!(scored.next().unwrap().unwrap().rows, 1);
        let error = scored.next().unwrap().unwrap_err();
        assert!(error.to_string().contains("unknown input 'z'"), "{error}");
        assert!(scored.next().is_none());
    }

    #[test]
    fn a_source_error_comes_after_the_rows_before_it() {
        let columns = rows(&[1.0], 1).inputs;
        let chunks = [Ok(columns), Err("flights.parquet: truncated")].into_iter();
        let mut scored = score(&servable(Doubler::new()), chunks, BulkOptions::default()).unwrap();
        assert!(scored.next().unwrap().is_ok());
        let error = scored.next().unwrap().unwrap_err();
        assert!(matches!(error, BulkError::Source("flights.parquet: truncated")));
    }

    #[test]
    fn models_of_one_row_are_run_row_by_row_and_others_refused() {
        let single = Doubler::with_signature(&[known(1), known(1)]);
        let scored = collect(single, vec![vec![1.0, 2.0, -1.0, 3.0]], 1);
        assert_eq!(outputs(&scored), [3.0, 5.0, 7.0]);
        let fixed = servable(Doubler::with_signature(&[known(8), known(1)]));
        let error = score(&fixed, [chunk(&[1.0])].into_iter(), BulkOptions::default()).err();
        assert!(error.unwrap().message.contains("not one of rows"));
    }
}
