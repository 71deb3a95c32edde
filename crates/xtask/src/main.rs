//! Developer tasks: the whole test run, house rules, layers, conformance tables, import fuzzing.

mod layers;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Developer tasks of the Landfall workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Check the house rules over all Rust sources.
    Tidy,
    /// Check that crates depend only on what the architecture allows.
    Layers {
        /// Print the table of allowed dependencies.
        #[arg(long)]
        print: bool,
    },
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
        Task::Tidy => tidy::run(&root),
        Task::Layers { print } => layers::run(&root, print),
    }
}

/// The workspace's folder: two above this crate's manifest.
fn repository_root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.ancestors().nth(2).context("xtask must stand in crates/xtask")?;
    Ok(root.to_owned())
}
