//! Developer tasks: the whole test run, house rules, layers, conformance tables, import fuzzing.

mod engine;
mod fuzz_import;
mod layers;
mod onnx_support;
mod stages;
mod test_arm;
mod tidy;

use std::alloc::System;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use cap::Cap;
use clap::{Parser, Subcommand};

/// Counts what is allocated, so that fuzzing can run under a memory cap.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Developer tasks of the Landfall workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run everything that must hold: formatting, rules, lints, tests, conformance, real clients.
    Test(stages::Options),
    /// Run the tests of tensors, kernels and runtime, and the example model, as an emulated AArch64
    /// processor does.
    TestArm,
    /// Check the house rules over all Rust sources.
    Tidy,
    /// Check that crates depend only on what the architecture allows.
    Layers {
        /// Print the table of allowed dependencies.
        #[arg(long)]
        print: bool,
    },
    /// Run the ONNX conformance cases; print, write or check the table.
    OnnxSupport(onnx_support::Options),
    /// Feed mutated models to the importer under a memory cap and a time limit.
    FuzzImport(fuzz_import::Options),
    #[command(hide = true)]
    FuzzWorker(fuzz_import::WorkerOptions),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let root = repository_root()?;
    match task {
        Task::Test(options) => stages::run(&root, &options),
        Task::TestArm => test_arm::run(&root),
        Task::Tidy => tidy::run(&root),
        Task::Layers { print } => layers::run(&root, print),
        Task::OnnxSupport(options) => onnx_support::run(&root, &options),
        Task::FuzzImport(options) => fuzz_import::run(&root, &options),
        Task::FuzzWorker(options) => fuzz_import::work(&options),
    }
}

/// The workspace's folder: two above this crate's manifest.
fn repository_root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.ancestors().nth(2).context("xtask must stand in crates/xtask")?;
    Ok(root.to_owned())
}

/// Cargo's target folder, where everything made by these tasks goes too.
fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}
