//! Rows that cannot be scored, as JSON lines: file, row, reason, and what the row holds.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow_array::RecordBatch;
use arrow_json::LineDelimitedWriter;
use serde_json::{Value, json};

use super::source::BadRow;
use crate::files::beside;

/// The quarantine file of one output; it appears at the end, and only if a row is in it.
pub(super) struct Quarantine {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
    rows: u64,
}

impl Quarantine {
    /// A quarantine that will be at `path`.
    pub(super) fn new(path: &Path) -> Quarantine {
        let temporary = beside(path);
        Quarantine { path: path.to_owned(), temporary, file: None, rows: 0 }
    }

    /// Adds a row of a file.
    pub(super) fn add(&mut self, file: &Path, bad: &BadRow) -> Result<()> {
        self.append(file, bad).with_context(|| self.path.display().to_string())
    }

    fn append(&mut self, source: &Path, bad: &BadRow) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(BufWriter::new(File::create_new(&self.temporary)?)),
        };
        let data = serde_json::from_str(&bad.data).unwrap_or(Value::String(bad.data.clone()));
        let file_name = source.display().to_string();
        let line = json!({"file": file_name, "row": bad.row, "reason": bad.reason, "data": data});
        self.rows += 1;
        Ok(writeln!(file, "{line}")?)
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Gives the file its name; where it is, if there is one.
    pub(super) fn finish(mut self) -> Result<Option<PathBuf>> {
        let Some(mut file) = self.file.take() else { return Ok(None) };
        let path = self.path.clone();
        let ended = file.flush().and_then(|()| std::fs::rename(&self.temporary, &path));
        ended.with_context(|| path.display().to_string())?;
        Ok(Some(path))
    }
}

impl Drop for Quarantine {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// One row of a batch as a JSON object.
pub(super) fn row_json(batch: &RecordBatch, row: usize) -> String {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    let written = writer.write(&batch.slice(row, 1)).and_then(|()| writer.finish());
    match written {
        Ok(()) => String::from_utf8_lossy(&writer.into_inner()).trim().to_owned(),
        Err(error) => format!("the row cannot be shown: {error}"),
    }
}
