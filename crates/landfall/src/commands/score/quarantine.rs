//! Rows that cannot be scored, as JSON lines: file, row, reason, and what the row holds.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow_array::RecordBatch;
use arrow_json::WriterBuilder;
use arrow_json::writer::LineDelimited;
use serde_json::Value;

use super::source::BadRow;
use crate::files::Draft;

/// What a row that goes to the quarantine holds, cut where it is long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowData {
    text: String,
    is_json: bool,
    /// Bytes of the whole.
    bytes: u64,
}

impl RowData {
    /// The most that is kept of a row.
    pub(super) const MAX_BYTES: usize = 64 << 10;

    /// The beginning of text as it was found, of which there are so many bytes.
    pub(super) fn text(found: &[u8], bytes: u64) -> RowData {
        let kept = &found[..found.len().min(RowData::MAX_BYTES)];
        RowData { text: String::from_utf8_lossy(kept).into_owned(), is_json: false, bytes }
    }

    /// One JSON value as it was found. What is no JSON counts as text.
    pub(super) fn json(found: &[u8]) -> RowData {
        match serde_json::from_slice::<serde::de::IgnoredAny>(found) {
            Ok(_) => RowData::checked_json(found),
            Err(_) => RowData::text(found, found.len() as u64),
        }
    }

    /// One JSON value, known to be that.
    pub(super) fn checked_json(found: &[u8]) -> RowData {
        let data = RowData::text(found, found.len() as u64);
        RowData { is_json: found.len() <= RowData::MAX_BYTES, ..data }
    }

    /// As a field of a JSON object, followed by the size if it was cut.
    fn field(&self) -> String {
        // A line break between the parts of a JSON value would end the line here.
        let data = match self.is_json {
            true => self.text.replace(['\r', '\n'], " "),
            false => Value::from(self.text.as_str()).to_string(),
        };
        match self.bytes > RowData::MAX_BYTES as u64 {
            true => format!("\"data\":{data},\"data_bytes\":{}", self.bytes),
            false => format!("\"data\":{data}"),
        }
    }
}

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
        let [name, reason] = [&*file.to_string_lossy(), bad.reason.as_str()].map(Value::from);
        let (row, data) = (bad.row, bad.data.field());
        let line = format!("{{\"file\":{name},\"row\":{row},\"reason\":{reason},{data}}}");
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
pub(super) fn row_json(batch: &RecordBatch, row: usize) -> RowData {
    let mut writer =
        WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    let written = writer.write(&batch.slice(row, 1)).and_then(|()| writer.finish());
    match written {
        Ok(()) => RowData::json(writer.into_inner().trim_ascii()),
        Err(error) => {
            let text = format!("the row cannot be shown: {error}");
            RowData::text(text.as_bytes(), text.len() as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_as_they_were_found() {
        let line = r#"{"x": 1e3, "y":-0,"z":null, "x":9007199254740993.0}"#;
        assert_eq!(RowData::json(line.as_bytes()).field(), format!("\"data\":{line}"));
        let broken = RowData::json(b"{\"x\": \xff").field();
        assert_eq!(broken, "\"data\":\"{\\\"x\\\": \u{fffd}\"");
        assert_eq!(RowData::json(b"[1,\r2]").field(), "\"data\":[1, 2]");
    }

    #[test]
    fn long_rows_are_cut_and_say_so() {
        let line = format!("[{}1]", "1,".repeat(RowData::MAX_BYTES));
        let field = RowData::json(line.as_bytes()).field();
        assert!(field.starts_with("\"data\":\"[1,1,"), "{}", &field[..20]);
        assert!(field.ends_with(&format!(",\"data_bytes\":{}", line.len())));
        assert!(field.len() < RowData::MAX_BYTES + 100);
    }
}
