//! Rows that cannot be scored, as JSON lines: file, row, reason, and what the row holds.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow_array::RecordBatch;
use arrow_json::LineDelimitedWriter;
use serde_json::{Value, json};

use super::source::BadRow;
use crate::files::Draft;

/// The quarantine file of one output; it appears at the end, and only if a row is in it.
pub(super) struct Quarantine {
    path: PathBuf,
    // Closed before the draft is dropped, which may remove it.
    file: BufWriter<File>,
    draft: Draft,
    rows: u64,
}

impl Quarantine {
    /// A quarantine that will be at `path`. Fails at once if no file can be written there.
    pub(super) fn new(path: &Path) -> Result<Quarantine> {
        let created = Draft::create(path);
        let (draft, file) = created.with_context(|| path.display().to_string())?;
        Ok(Quarantine { path: path.to_owned(), file: BufWriter::new(file), draft, rows: 0 })
    }

    /// Adds a row of a file.
    pub(super) fn add(&mut self, file: &Path, bad: &BadRow) -> Result<()> {
        let data = serde_json::from_str(&bad.data).unwrap_or(Value::String(bad.data.clone()));
        let file_name = file.display().to_string();
        let line = json!({"file": file_name, "row": bad.row, "reason": bad.reason, "data": data});
        self.rows += 1;
        writeln!(self.file, "{line}").with_context(|| self.path.display().to_string())
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Gives the file its name; where it is, if there is a row in it. If there is none, an older
    /// file of that name goes: it would be taken for this run's.
    pub(super) fn finish(self) -> Result<Option<PathBuf>> {
        let path = self.path.clone();
        let ended = match self.rows {
            0 => remove_stale(&path).map(|()| None),
            _ => self.commit().map(|()| Some(path.clone())),
        };
        ended.with_context(|| path.display().to_string())
    }

    fn commit(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        self.draft.commit()
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
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
