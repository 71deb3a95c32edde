//! `landfall score`: a model over the rows of files.
//!
//! Rows stream through: a chunk is read, mapped to inputs and cut into batches only as results are
//! written, so memory does not grow with the files. A row that cannot be read, mapped or scored
//! goes to the quarantine file with the reason, and the others go on.

mod column_types;
mod content;
mod csv_records;
mod csv_rows;
mod job;
mod json_cells;
mod json_rows;
mod mapping;
mod numbers;
mod quarantine;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod text_rows;
mod values;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use landfall_predict::{BulkOptions, Servable};
use landfall_tensor::{FileAccess, Precision};

use super::Failure;
use super::arguments::{positive, precision, threads};
use super::interrupt::interruptible;
use super::output::print;
use super::paths::Paths;
use crate::clock::MachineClock;
use crate::config::ModelFile;
use crate::loading::{ModelFiles, OpenModel};
use crate::machine;
use job::{Job, Totals};
use mapping::Mapping;
use sink::Format;

const EXAMPLES: &str = "\
Examples:
  landfall score flights.onnx --input flights.parquet --output scored.parquet --keep flight_id
      columns named as the model's inputs go in; flight_id and the outputs come out
  landfall score model.landfall --input day1.csv day2.csv --output scored/ --columns a,b,c
      the three columns make up the rows of the model's only input [N,3]

Formats go by the file's ending: .parquet, .csv, .jsonl (.ndjson), .arrow (.feather). Nulls are NaN
for float inputs; in other inputs they send the row to the quarantine file, as does a fraction for
an integer. An input of several values a row, such as [N,3,4], takes a column of lists: of all 12
values, or of 3 lists of 4; CSV has no lists. Dates and times are no numbers: write the numbers that
the model was trained on. A row of CSV or JSON has at most 64 MiB.";

/// Predict for every row of files.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ScoreArguments {
    /// A model file: .onnx or .landfall
    model: PathBuf,
    /// Files to read, or folders whose files to read
    #[arg(long, short, value_name = "FILE", num_args = 1.., required = true)]
    input: Vec<PathBuf>,
    /// The file to write, or a folder to write one Parquet file for each input into
    #[arg(long, short, value_name = "PATH")]
    output: PathBuf,
    /// The columns that make up the model's only input, in order
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    columns: Vec<String>,
    /// Columns to write beside the outputs
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    keep: Vec<String>,
    /// Where rows go that cannot be scored [default: the output's name and .quarantine.jsonl]; a
    /// file of that name is gone afterwards if all rows could be scored
    #[arg(long, value_name = "FILE")]
    quarantine: Option<PathBuf>,
    /// The most rows of one run
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = positive)]
    batch_rows: usize,
    /// Threads, each scoring batches of its own; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = threads)]
    threads: usize,
    /// Precision of matrix products and convolutions: f32 or bf16 [default: what the model's author
    /// declares, or f32]
    #[arg(long, value_name = "NAME", value_parser = precision)]
    precision: Option<Precision>,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: ScoreArguments) -> Result<(), Failure> {
    let begun = Instant::now();
    let is_json = arguments.json;
    let totals = interruptible(move || score(&arguments).map_err(Failure::Input))?;
    print(&report(is_json, &totals, begun.elapsed())).map_err(Failure::No)?;
    if totals.scored == 0 && totals.quarantined > 0 {
        return Err(Failure::No(anyhow!("no row could be scored; see the quarantine file")));
    }
    Ok(())
}

fn report(is_json: bool, totals: &Totals, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if is_json {
        let json = serde_json::json!({
            "rows_scored": totals.scored,
            "rows_quarantined": totals.quarantined,
            "seconds": seconds,
            "outputs": totals.outputs,
            "quarantine": totals.quarantine_files,
        });
        return format!("{json}\n");
    }
    let rate = totals.scored as f64 / seconds.max(f64::MIN_POSITIVE);
    let list = |paths: &[PathBuf]| -> String {
        paths.iter().map(|path| format!("  {}\n", path.display())).collect()
    };
    let mut text =
        format!("scored {} rows in {seconds:.2} s ({rate:.0} a second)\n", totals.scored);
    text.push_str(&list(&totals.outputs));
    if totals.quarantined > 0 {
        text.push_str(&format!("{} rows could not be scored\n", totals.quarantined));
        text.push_str(&list(&totals.quarantine_files));
    }
    text
}

fn score(arguments: &ScoreArguments) -> Result<Totals> {
    let inputs = input_files(&arguments.input)?;
    let plan = outputs(arguments, &inputs)?;
    let servable = servable(&arguments.model, arguments.precision)?;
    let mapping = Mapping::new(servable.signature(), &arguments.columns)?;
    let threads = if arguments.threads == 0 { machine::cores() } else { arguments.threads };
    let job = Job {
        servable,
        mapping,
        keep: arguments.keep.clone(),
        bulk: BulkOptions { batch_rows: arguments.batch_rows, threads },
        progress: progress(),
    };
    job.check()?;
    let mut totals = Totals::default();
    for (files, output, quarantine) in plan {
        job.run(&files, &output, &quarantine, &mut totals)?;
    }
    job.progress.finish_and_clear();
    Ok(totals)
}

/// The model, one thread a run: rows are spread over threads by batches.
fn servable(path: &Path, precision: Option<Precision>) -> Result<Arc<Servable>> {
    let settings = ModelFile::with_threads(1).with_precision(precision);
    let loaded =
        ModelFiles.open(path, FileAccess::Mapped, &settings).map_err(|error| anyhow!(error))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let started = Servable::start(&name, 1, loaded, Arc::new(MachineClock::start()), None);
    started.map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// Every file to read; those of a folder in the order of their names.
fn input_files(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in given {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = entries.with_context(|| path.display().to_string())?;
        let mut inside: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        inside.retain(|file| Format::of(file).is_ok());
        inside.sort();
        ensure!(!inside.is_empty(), "{}: no file that can be scored", path.display());
        files.extend(inside);
    }
    for file in &files {
        Format::of(file)?;
    }
    Ok(files)
}

type Part = (Vec<PathBuf>, PathBuf, PathBuf);

/// Which files go to which output and quarantine file. None of them is another, nor the model.
fn outputs(arguments: &ScoreArguments, inputs: &[PathBuf]) -> Result<Vec<Part>> {
    let parts = parts(arguments, inputs)?;
    let mut paths = Paths::default().read("the model", &arguments.model);
    for input in inputs {
        paths = paths.read("--input", input);
    }
    for (_, output, quarantine) in &parts {
        paths = paths.write("--output", output)?.write("--quarantine", quarantine)?;
    }
    Ok(parts)
}

fn parts(arguments: &ScoreArguments, inputs: &[PathBuf]) -> Result<Vec<Part>> {
    let output = &arguments.output;
    ensure!(
        output.as_os_str() != "-",
        "--output: '-' is no file; results are not written to standard output. Name a file that \
         ends in .parquet, .csv, .jsonl or .arrow, or ./- for a folder of that name"
    );
    let kind = output.metadata().ok().map(|metadata| metadata.file_type());
    ensure!(
        kind.is_none_or(|kind| kind.is_dir() || kind.is_file()),
        "--output: {} is not a regular file; expected a file that ends in .parquet, .csv, .jsonl \
         or .arrow, or a folder",
        output.display()
    );
    if kind.is_some_and(|kind| kind.is_file()) || (kind.is_none() && output.extension().is_some()) {
        Format::of(output)?;
        let quarantine = arguments.quarantine.clone().unwrap_or_else(|| quarantine_of(output));
        return Ok(vec![(inputs.to_vec(), output.clone(), quarantine)]);
    }
    ensure!(
        arguments.quarantine.is_none(),
        "--quarantine: a folder of outputs has one for each; leave it out"
    );
    std::fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    let mut seen = BTreeSet::new();
    let mut parts = Vec::with_capacity(inputs.len());
    for input in inputs {
        let stem = input.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !seen.insert(stem.clone()) {
            bail!("two inputs are named '{stem}': their outputs would be one file");
        }
        let scored = output.join(format!("{stem}.parquet"));
        let quarantine = quarantine_of(&scored);
        parts.push((vec![input.clone()], scored, quarantine));
    }
    Ok(parts)
}

/// The name keeps the output's ending: outputs that differ in nothing else share no quarantine.
fn quarantine_of(output: &Path) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(".quarantine.jsonl");
    output.with_file_name(name)
}

/// A bar on a terminal, nothing in a pipe.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:40} {human_pos}/{human_len} rows, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
