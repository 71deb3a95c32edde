//! The program with fake models instead of the engine: for tests of clients, and for measuring what
//! the server itself costs.

#[path = "../tests/server/fake/mod.rs"]
mod fake;

use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    landfall::commands::main_with(Arc::new(fake::FakeFiles))
}
