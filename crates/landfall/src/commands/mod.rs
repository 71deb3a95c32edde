//! The command line: one file per command.
//!
//! Every command ends with 0 if it did what was asked, 1 if it ran and the answer is no, 2 if its
//! arguments or input are wrong, and 128 and its number if a signal ended it.

mod arguments;
mod bench;
mod demo;
mod inspect;
#[cfg(feature = "score")]
mod interrupt;
mod output;
mod package;
mod paths;
mod run;
#[cfg(feature = "score")]
mod score;
mod serve;
mod table;
mod tune;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
#[cfg(feature = "score")]
use tokio::signal::unix::SignalKind;

use crate::loading::{ModelFiles, OpenModel};

/// Take a trained model from a file to production predictions.
#[derive(Debug, Parser)]
#[command(name = "landfall", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArguments),
    Inspect(inspect::InspectArguments),
    Bench(bench::BenchArguments),
    Package(package::PackageArguments),
    Tune(tune::TuneArguments),
    Serve(serve::ServeArguments),
    #[cfg(feature = "score")]
    Score(score::ScoreArguments),
    Demo(demo::DemoArguments),
}

/// Why a command did not do what was asked.
#[derive(Debug)]
enum Failure {
    /// It ran, and the answer is no.
    No(anyhow::Error),
    /// Its arguments or input are wrong.
    Input(anyhow::Error),
    /// A signal ended it.
    #[cfg(feature = "score")]
    Signal(anyhow::Error, SignalKind),
}

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    main_with(Arc::new(ModelFiles))
}

/// The same with another way to open models, for tests of the program as a whole.
pub fn main_with(opener: Arc<dyn OpenModel>) -> ExitCode {
    // Prints help and usage errors itself; the latter end with 2.
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Package(arguments) => package::run(&arguments),
        Command::Tune(arguments) => tune::run(&arguments),
        Command::Serve(arguments) => serve::run(arguments, opener),
        #[cfg(feature = "score")]
        Command::Score(arguments) => score::run(arguments),
        Command::Demo(arguments) => demo::run(&arguments),
    };
    let (error, code) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::No(error)) => (error, 1),
        Err(Failure::Input(error)) => (error, 2),
        #[cfg(feature = "score")]
        Err(Failure::Signal(error, signal)) => (error, 128 + signal.as_raw_value() as u8),
    };
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
