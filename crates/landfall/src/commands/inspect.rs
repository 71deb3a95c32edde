//! `landfall inspect`: what a model file holds and how it would run here.

mod gather;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use landfall_package::{Package, PackageError};
use landfall_tensor::Precision;

use super::Failure;
use super::arguments::{precision, threads};
use super::output::print;
use crate::engine::{EngineOptions, FileKind, located};
use crate::sample::{Extents, parse_extent};

const EXAMPLES: &str = "\
Examples:
  landfall inspect model.onnx
  landfall inspect minilm.onnx --shape sequence=128 --json

Free axes count as 1 unless --shape says otherwise: operations, kernels and memory depend on them.
A model with nodes that Landfall cannot run is inspected all the same; they are listed.
--verify ends with 1 and the name of the entry if a package is damaged.";

/// Show a model's signature, operators, size and how each node would run.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct InspectArguments {
    /// A model file: .onnx or .landfall
    model: PathBuf,
    /// Extent of a free axis by name; repeatable
    #[arg(long, value_name = "AXIS=N", value_parser = parse_extent)]
    shape: Vec<(String, usize)>,
    /// Threads to plan for; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = threads)]
    threads: usize,
    /// Precision of matrix products and convolutions: f32 or bf16 [default: what the model's author
    /// declares, or f32]
    #[arg(long, value_name = "NAME", value_parser = precision)]
    precision: Option<Precision>,
    /// Check every byte of a package against its digests first
    #[arg(long)]
    verify: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &InspectArguments) -> Result<(), Failure> {
    let options = EngineOptions::from_environment(arguments.threads).map_err(Failure::Input)?;
    let options = EngineOptions { precision: arguments.precision, ..options };
    let extents =
        Extents { named: arguments.shape.iter().cloned().collect(), ..Extents::default() };
    if arguments.verify {
        verify(&arguments.model)?;
    }
    let inspection = gather::inspect(&arguments.model, &options, &extents);
    let inspection = inspection.map_err(Failure::Input)?;
    if !arguments.json {
        return print(&report::text(&inspection)).map_err(Failure::No);
    }
    let json = serde_json::to_string_pretty(&inspection).context("cannot write JSON");
    json.and_then(|json| print(&format!("{json}\n"))).map_err(Failure::No)
}

/// Fails with "no" if a package is damaged, wherever it is.
fn verify(path: &Path) -> Result<(), Failure> {
    if FileKind::of(path).map_err(Failure::Input)? != FileKind::Package {
        let problem = "--verify: only packages (.landfall) hold digests";
        return Err(Failure::Input(anyhow!("{}: {problem}", path.display())));
    }
    let package = Package::open(path).map_err(|error| {
        let is_unread = matches!(&error, PackageError::File { problem, .. }
            if matches!(**problem, PackageError::Io { .. } | PackageError::Format { .. }));
        let error = located(path, FileKind::Package, error.into());
        if is_unread { Failure::Input(error) } else { Failure::No(error) }
    })?;
    package.verify().with_context(|| path.display().to_string()).map_err(Failure::No)
}
