//! `landfall inspect`: what a model file holds and how it would run here.

mod gather;
mod report;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::Failure;
use super::arguments::threads;
use super::output::print;
use crate::engine::EngineOptions;
use crate::sample::{Extents, parse_extent};

const EXAMPLES: &str = "\
Examples:
  landfall inspect model.onnx
  landfall inspect minilm.onnx --shape sequence=128 --json

Free axes count as 1 unless --shape says otherwise: operations, kernels and memory depend on them.
A model with nodes that Landfall cannot run is inspected all the same; they are listed.";

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
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &InspectArguments) -> Result<(), Failure> {
    let options = EngineOptions::from_environment(arguments.threads).map_err(Failure::Input)?;
    let extents =
        Extents { named: arguments.shape.iter().cloned().collect(), ..Extents::default() };
    let inspection = gather::inspect(&arguments.model, &options, &extents);
    let inspection = inspection.map_err(Failure::Input)?;
    if !arguments.json {
        return print(&report::text(&inspection)).map_err(Failure::No);
    }
    let json = serde_json::to_string_pretty(&inspection).context("cannot write JSON");
    json.and_then(|json| print(&format!("{json}\n"))).map_err(Failure::No)
}
