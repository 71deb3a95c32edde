//! The records of CSV, one after the other and of bounded size, with the text that they had.
//!
//! A record ends at a line break outside quotation marks. One mark that is never closed would make
//! a record of all the rest, so that a record may have only so many bytes, and one that the end of
//! the file cuts off is told from one that ends there.

use std::io::BufRead;

use anyhow::{Result, bail};
use csv_core::{ReadRecordResult, Reader};

use super::quarantine::RowData;
use super::text_rows::MAX_ROW_BYTES;

/// One record.
pub(super) struct Record<'a> {
    text: &'a [u8],
    ends: &'a [usize],
    /// The lines that it begins and ends on, from 1.
    pub(super) lines: (u64, u64),
    /// Whether the file ends inside quotation marks.
    pub(super) is_cut: bool,
    raw: &'a [u8],
    /// How many bytes it has in the file.
    pub(super) bytes: u64,
}

impl Record<'_> {
    /// How many cells it has.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A cell, without quotation marks.
    pub(super) fn cell(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }

    /// The record as it stands in the file.
    pub(super) fn data(&self) -> RowData {
        RowData::text(self.raw, self.bytes)
    }
}

/// Reads records.
pub(super) struct Records<R> {
    input: R,
    core: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
    /// What the record has in the file, its beginning if it is long.
    raw: Vec<u8>,
    max_bytes: u64,
}

impl<R: BufRead> Records<R> {
    /// Those of a file.
    pub(super) fn new(input: R) -> Records<R> {
        Records::bounded(input, MAX_ROW_BYTES)
    }

    fn bounded(input: R, max_bytes: u64) -> Records<R> {
        Records {
            input,
            core: Reader::new(),
            text: vec![0; 1 << 10],
            ends: vec![0; 1 << 6],
            raw: Vec::new(),
            max_bytes,
        }
    }

    /// The next record; none at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Record<'_>>> {
        let first_line = self.core.line();
        self.raw.clear();
        let (mut bytes, mut text_len, mut ends_len, mut is_cut) = (0, 0, 0, None);
        loop {
            let input = self.input.fill_buf()?;
            // A break at the end of the file ends a record, unless that is inside quotation marks.
            let is_probe = input.is_empty() && is_cut.is_none();
            let fed = if is_probe { b"\r" } else { input };
            let (text, ends) = (&mut self.text[text_len..], &mut self.ends[ends_len..]);
            let (result, taken, written, ended) = self.core.read_record(fed, text, ends);
            if is_probe && taken > 0 {
                is_cut = Some(result == ReadRecordResult::InputEmpty);
            }
            let read = taken.min(input.len());
            let room = RowData::MAX_BYTES.saturating_sub(self.raw.len());
            self.raw.extend_from_slice(&input[..read.min(room)]);
            self.input.consume(read);
            bytes += read as u64;
            text_len += written;
            ends_len += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(None),
            }
            if bytes > self.max_bytes {
                bail!(
                    "line {}: a record of more than {} bytes begins here; a quotation mark that \
                     opens in it may be never closed. Correct the line and score the file again",
                    first_line + self.breaks_before(),
                    self.max_bytes
                );
            }
        }
        let raw = self.raw.trim_ascii();
        Ok(Some(Record {
            text: &self.text[..text_len],
            ends: &self.ends[..ends_len],
            lines: (first_line + self.breaks_before(), self.last_line()),
            is_cut: is_cut.unwrap_or(false),
            raw,
            bytes,
        }))
    }

    /// Blank lines before the record, and a line feed that belongs to the one before.
    fn breaks_before(&self) -> u64 {
        let breaks = self.raw.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
        breaks.filter(|&&byte| byte == b'\n').count() as u64
    }

    /// The line of the record's last byte but for the break.
    fn last_line(&self) -> u64 {
        self.core.line() - u64::from(self.raw.ends_with(b"\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// A record's cells, its lines, and whether it is cut.
    type Found = (String, (u64, u64), bool);

    fn read(text: &str, max_bytes: u64) -> Result<Vec<Found>> {
        // Few bytes at a time, as if the file were large.
        let input = BufReader::with_capacity(3, text.as_bytes());
        let mut records = Records::bounded(input, max_bytes);
        let mut found = Vec::new();
        while let Some(record) = records.next()? {
            let cells = (0..record.len()).map(|i| String::from_utf8_lossy(record.cell(i)));
            let cells = cells.collect::<Vec<_>>().join("|");
            found.push((cells, record.lines, record.is_cut));
        }
        Ok(found)
    }

    #[test]
    fn records_tell_their_lines_and_whether_they_were_cut() {
        let text = "a,b\r\n\r\n1,\"x\ny\"\r\n,\n\"2\"\"\",\"\"\n3,\"rest\nof,it\n";
        let found = read(text, 100).unwrap();
        let expected = [
            ("a|b", (1, 1), false),
            ("1|x\ny", (3, 4), false),
            ("|", (5, 5), false),
            ("2\"|", (6, 6), false),
            ("3|rest\nof,it\n\r", (7, 8), true),
        ];
        let expected = expected.map(|(cells, lines, is_cut)| (cells.to_owned(), lines, is_cut));
        assert_eq!(found, expected);
        assert_eq!(read("1,\"2\"", 100).unwrap(), [("1|2".to_owned(), (1, 1), false)]);
        assert_eq!(read("1,\"", 100).unwrap(), [("1|\r".to_owned(), (1, 1), true)]);
        assert_eq!(read("", 100).unwrap(), []);
        assert_eq!(read("\n\n", 100).unwrap(), []);
    }

    #[test]
    fn a_record_has_a_bound() {
        let text = format!("a,b\n1,2\n3,\"{}", "4,5\n".repeat(50));
        let error = read(&text, 64).unwrap_err().to_string();
        assert!(error.starts_with("line 3: a record of more than 64 bytes"), "{error}");
        assert_eq!(read("a,b\n1,2\n", 8).unwrap().len(), 2);
    }
}
