//! What a file is by its first bytes, where that is not what its name says.

use anyhow::{Result, bail, ensure};

use super::sink::Format;

/// As many first bytes as tell files apart.
pub(super) const HEAD_BYTES: usize = 8;

/// How Arrow's file format begins.
const ARROW_FILE: &[u8] = b"ARROW1";

/// How Arrow's stream format begins: the mark of a message.
const ARROW_STREAM: &[u8] = &[0xff; 4];

/// What a file is that begins so, and what to do with it.
const KNOWN: [(&[u8], &str); 8] = [
    (&[0x1f, 0x8b], "is compressed with gzip; decompress it first, with gunzip"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "is compressed with zstd; decompress it first, with unzstd"),
    (b"PK\x03\x04", "is a ZIP archive or a spreadsheet; extract it, or export it as CSV"),
    (&[0xff, 0xfe], "is UTF-16 text; convert it to UTF-8 first, with iconv"),
    (&[0xfe, 0xff], "is UTF-16 text; convert it to UTF-8 first, with iconv"),
    (b"FEA1", "is a Feather file of version 1; write it again as version 2, the Arrow file format"),
    (b"PAR1", "is a Parquet file; its name must end in .parquet"),
    (ARROW_FILE, "is an Arrow file; its name must end in .arrow"),
];

/// Fails if a file that begins with `head` is not of that format, as far as its beginning tells.
pub(super) fn check(format: Format, head: &[u8]) -> Result<()> {
    let is_text = matches!(format, Format::Csv | Format::Jsonl);
    ensure!(is_text || !head.is_empty(), "the file is empty; is the download complete?");
    let is_right = match format {
        Format::Parquet => head.starts_with(b"PAR1") || head.starts_with(b"PARE"),
        Format::Arrow => head.starts_with(ARROW_FILE) || is_arrow_stream(head),
        Format::Csv | Format::Jsonl => false,
    };
    if is_right {
        return Ok(());
    }
    if let Some((_, what)) = KNOWN.iter().find(|(start, _)| head.starts_with(start)) {
        bail!("the file {what}");
    }
    match format {
        Format::Parquet => bail!("not a Parquet file, which begins with PAR1"),
        Format::Arrow => bail!("not an Arrow file, which begins with ARROW1, nor an Arrow stream"),
        Format::Csv | Format::Jsonl => Ok(()),
    }
}

/// Whether a file that begins so is an Arrow stream, not an Arrow file.
pub(super) fn is_arrow_stream(head: &[u8]) -> bool {
    head.starts_with(ARROW_STREAM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_first_bytes() {
        let error = |format, head: &[u8]| check(format, head).err().map(|error| error.to_string());
        assert_eq!(error(Format::Csv, b"a,b\n1,2"), None);
        assert_eq!(error(Format::Jsonl, b""), None);
        assert_eq!(error(Format::Parquet, b"PAR1\x15\x04"), None);
        assert_eq!(error(Format::Arrow, b"ARROW1\0\0"), None);
        assert_eq!(error(Format::Arrow, b"\xff\xff\xff\xff\x10\0"), None);
        let cases: [(Format, &[u8], &str); 8] = [
            (Format::Csv, b"\x1f\x8b\x08\0", "compressed with gzip"),
            (Format::Jsonl, b"\xff\xfe{\0", "is UTF-16 text"),
            (Format::Csv, b"PAR1", "must end in .parquet"),
            (Format::Parquet, b"ARROW1\0\0", "must end in .arrow"),
            (Format::Parquet, b"", "the file is empty"),
            (Format::Arrow, b"", "the file is empty"),
            (Format::Arrow, b"FEA1", "Feather file of version 1"),
            (Format::Parquet, b"a,b\n1,2", "not a Parquet file"),
        ];
        for (format, head, expected) in cases {
            let error = error(format, head).unwrap();
            assert!(error.contains(expected), "{error}");
        }
    }
}
