//! What one-shot commands say: the only place where they write to standard output.
//!
//! A reader that has gone, as `head -1` has after a line, got what it wanted: that ends a command
//! as if all had been read. A disk that is full is an error.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};

/// Prints some text, to its end.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}
