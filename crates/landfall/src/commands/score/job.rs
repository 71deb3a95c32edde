//! Some files through a model into one output.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, PrimitiveArray, RecordBatch};
use arrow_schema::{Schema, SchemaRef};
use indicatif::ProgressBar;
use landfall_graph::DimSpec;
use landfall_predict::{BulkError, BulkOptions, Columns, Scored, Servable, score};
use landfall_tensor::{Shape, Tensor};

use super::mapping::Mapping;
use super::quarantine::{Quarantine, row_json};
use super::sink::{Format, Sink, columns};
use super::source::{self, BadRow, Chunk, ListColumn, Place, Source};

/// What to do with every file.
pub(super) struct Job {
    pub(super) servable: Arc<Servable>,
    pub(super) mapping: Mapping,
    /// Columns to write beside the outputs.
    pub(super) keep: Vec<String>,
    pub(super) bulk: BulkOptions,
    pub(super) progress: ProgressBar,
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) scored: u64,
    pub(super) quarantined: u64,
    pub(super) outputs: Vec<PathBuf>,
    pub(super) quarantine_files: Vec<PathBuf>,
}

/// Rows on their way through the model.
struct Fed {
    /// Position of the first among all rows fed.
    first: u64,
    batch: RecordBatch,
    file: Arc<Path>,
    /// Where each row comes from.
    rows: Vec<Place>,
}

/// What reading and writing share; they take turns on one thread.
struct Shared {
    fed: VecDeque<Fed>,
    next: u64,
    quarantine: Quarantine,
    /// Columns of the file being read.
    schema: Option<SchemaRef>,
}

impl Job {
    /// Fails if columns to keep have the names of outputs.
    pub(super) fn check(&self) -> Result<()> {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let outputs = self.servable.signature().outputs.iter().map(|spec| spec.name.as_str());
        for name in self.keep.iter().map(String::as_str).chain(outputs) {
            ensure!(names.insert(name), "--keep: the output would have two columns '{name}'");
        }
        Ok(())
    }

    /// Scores the rows of some files, in order.
    pub(super) fn run(
        &self,
        files: &[PathBuf],
        output: &Path,
        quarantine: &Path,
        totals: &mut Totals,
    ) -> Result<()> {
        let quarantine = Quarantine::new(quarantine)?;
        let shared = Shared { fed: VecDeque::new(), next: 0, quarantine, schema: None };
        let shared = Rc::new(RefCell::new(shared));
        let feed = self.feed(files, Rc::clone(&shared));
        let scored = score(&self.servable, feed, self.bulk).map_err(|error| anyhow!(error))?;
        let mut sink: Option<Sink> = None;
        let format = Format::of(output)?;
        for part in scored {
            let part = part.map_err(|error| match error {
                BulkError::Source(error) => error,
                BulkError::Columns(error) => anyhow!(error),
            })?;
            self.progress.inc(part.rows as u64);
            let Some(batch) = self.output(&part, &mut shared.borrow_mut(), format)? else {
                continue;
            };
            let sink = match &mut sink {
                Some(sink) => sink,
                None => sink.insert(Sink::create(output, &batch.schema())?),
            };
            sink.write(&batch)?;
            totals.scored += batch.num_rows() as u64;
        }
        let Ok(shared) = Rc::try_unwrap(shared) else {
            bail!("the files are still being read: a bug in Landfall");
        };
        let Shared { quarantine, schema, .. } = shared.into_inner();
        if let (None, 0, Some(schema)) = (&sink, quarantine.rows(), schema) {
            let batch = self.empty(&schema, format)?;
            sink.insert(Sink::create(output, &batch.schema())?).write(&batch)?;
        }
        totals.quarantined += quarantine.rows();
        // First: rows that are missing in an output are to be found by then.
        totals.quarantine_files.extend(quarantine.finish()?);
        if let Some(sink) = sink {
            sink.finish()?;
            totals.outputs.push(output.to_owned());
        }
        Ok(())
    }

    /// What the output of no rows looks like. An extent that the model leaves open counts as 1.
    fn empty(&self, schema: &SchemaRef, format: Format) -> Result<RecordBatch> {
        let outputs = self.servable.signature().outputs.iter().map(|spec| {
            let row = spec.dims.iter().flatten().skip(1);
            let row = row.map(|dim| if let DimSpec::Known(extent) = dim { *extent } else { 1 });
            let shape: Shape = std::iter::once(0).chain(row).collect();
            Ok((spec.name.clone(), Tensor::zeros(spec.dtype, shape)?))
        });
        let outputs: Columns = outputs.collect::<Result<_>>()?;
        self.beside_kept(&RecordBatch::new_empty(Arc::clone(schema)), &outputs, format)
    }

    /// The inputs of every chunk, remembered until its results are written.
    fn feed(
        &self,
        files: &[PathBuf],
        shared: Rc<RefCell<Shared>>,
    ) -> impl Iterator<Item = Result<Columns>> {
        let mut wanted = self.mapping.names();
        let kept = self.keep.iter().filter(|name| !wanted.contains(name));
        let kept: Vec<String> = kept.cloned().collect();
        wanted.extend(kept);
        let lists = self.mapping.lists();
        files.iter().flat_map(move |path| {
            let file: Arc<Path> = Arc::from(path.as_path());
            let (chunks, failed) = match self.open(path, &wanted, &lists) {
                Ok(source) => {
                    shared.borrow_mut().schema = Some(source.schema);
                    self.progress.inc_length(source.rows.unwrap_or(0));
                    (Some(source.chunks), None)
                }
                Err(error) => (None, Some(Err(error))),
            };
            let shared = Rc::clone(&shared);
            let fed = chunks.into_iter().flatten().map(move |chunk| {
                let mut shared = shared.borrow_mut();
                chunk.and_then(|chunk| self.map(&file, chunk, &mut shared))
            });
            fed.chain(failed)
        })
    }

    /// A file whose columns have types that the model takes.
    fn open(&self, path: &Path, wanted: &[String], lists: &[ListColumn]) -> Result<Source> {
        let source = source::open(path, wanted, lists)?;
        self.mapping.check(&source.schema).with_context(|| path.display().to_string())?;
        Ok(source)
    }

    fn map(&self, file: &Arc<Path>, chunk: Chunk, shared: &mut Shared) -> Result<Columns> {
        for bad in &chunk.bad {
            shared.quarantine.add(file, bad)?;
        }
        let mapped = self.mapping.map(&chunk.batch)?;
        let total = chunk.rows.len();
        let mut good = Vec::with_capacity(total);
        let mut rows = Vec::with_capacity(total);
        for (index, (place, problem)) in chunk.rows.into_iter().zip(mapped.problems).enumerate() {
            let Some(reason) = problem else {
                good.push(index as u64);
                rows.push(place);
                continue;
            };
            let data = place.line.unwrap_or_else(|| row_json(&chunk.batch, index));
            shared.quarantine.add(file, &BadRow { row: place.row, reason, data })?;
        }
        let batch = match good.len() == total {
            true => chunk.batch,
            false => select(&chunk.batch, good)?,
        };
        let first = shared.next;
        shared.next += rows.len() as u64;
        shared.fed.push_back(Fed { first, batch, file: Arc::clone(file), rows });
        Ok(mapped.columns)
    }

    /// The rows of a result as they are written; none if none is good.
    fn output(
        &self,
        part: &Scored,
        shared: &mut Shared,
        format: Format,
    ) -> Result<Option<RecordBatch>> {
        let Shared { fed, quarantine, .. } = shared;
        while fed.front().is_some_and(|fed| fed.first + fed.rows.len() as u64 <= part.first_row) {
            fed.pop_front();
        }
        let Some(fed) = fed.front() else { bail!("results of no rows: a bug in Landfall") };
        let start = (part.first_row - fed.first) as usize;
        for bad in &part.quarantined {
            let index = (bad.row - fed.first) as usize;
            let Place { row, line } = &fed.rows[index];
            let data = line.clone().unwrap_or_else(|| row_json(&fed.batch, index));
            let reason = bad.reason.clone();
            quarantine.add(&fed.file, &BadRow { row: *row, reason, data })?;
        }
        if part.outputs.is_empty() {
            return Ok(None);
        }
        let is_bad = |row: u64| part.quarantined.iter().any(|bad| bad.row == row);
        let rows = fed.batch.slice(start, part.rows);
        let good = (0..part.rows as u64).filter(|&row| !is_bad(part.first_row + row));
        let rows = match part.quarantined.is_empty() {
            true => rows,
            false => select(&rows, good.collect())?,
        };
        Ok(Some(self.beside_kept(&rows, &part.outputs, format)?))
    }

    /// The columns to keep, then the outputs.
    fn beside_kept(
        &self,
        rows: &RecordBatch,
        outputs: &Columns,
        format: Format,
    ) -> Result<RecordBatch> {
        let mut fields = Vec::new();
        let mut arrays: Vec<ArrayRef> = Vec::new();
        for name in &self.keep {
            let (index, field) = rows.schema_ref().column_with_name(name).map_or_else(
                || Err(anyhow!("there is no column '{name}'")),
                |(index, field)| Ok((index, field.clone())),
            )?;
            fields.push(field);
            arrays.push(Arc::clone(rows.column(index)));
        }
        for (name, tensor) in outputs {
            for (field, array) in columns(name, tensor, format)? {
                fields.push(field);
                arrays.push(array);
            }
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
    }
}

/// Some rows of a batch.
fn select(batch: &RecordBatch, rows: Vec<u64>) -> Result<RecordBatch> {
    let indices = PrimitiveArray::<UInt64Type>::from(rows);
    Ok(arrow_select::take::take_record_batch(batch, &indices)?)
}
