//! Reading an archive's directory, trusting nothing in it.

use std::collections::HashSet;
use std::ops::Range;

use super::{
    CENTRAL_HEADER, CENTRAL_HEADER_BYTES, END, END_BYTES, END64, END64_BYTES, END64_LOCATOR,
    END64_LOCATOR_BYTES, Entry, LOCAL_HEADER, MAX_ENTRIES, ZIP64_FIELD, name_problem,
};
use crate::PackageError;

/// The entries of an archive, in the order of their data, which is proven to lie inside the file
/// without overlap. Reads the headers only, not the data.
pub(crate) fn read(file: &[u8]) -> Result<Vec<Entry>, PackageError> {
    let directory = find_directory(file)?;
    let mut central = Reader { bytes: file, at: directory.range.start, end: directory.range.end };
    let mut entries = Vec::with_capacity(directory.entries);
    let mut names = HashSet::new();
    let mut at = 0;
    for _ in 0..directory.entries {
        let header_at = central.at;
        let record = Record::read_central(&mut central)?;
        if record.offset != at as u64 {
            let found = record.offset;
            let message = format!(
                "entry '{}' starts at byte {found}, expected {at}: entries must neither overlap \
                 nor leave gaps",
                record.name
            );
            return Err(error(header_at, message));
        }
        let data = check_local(file, at, directory.range.start, &record)?;
        if !names.insert(record.name.clone()) {
            return Err(error(header_at, format!("entry '{}' occurs twice", record.name)));
        }
        at = data.end;
        entries.push(Entry { name: record.name, data, crc32: record.crc32 });
    }
    if central.at != directory.range.end {
        return Err(error(central.at, "the directory is longer than its entries"));
    }
    if at != directory.range.start {
        return Err(error(at, "bytes that belong to no entry before the directory"));
    }
    Ok(entries)
}

struct Directory {
    range: Range<usize>,
    entries: usize,
}

fn find_directory(file: &[u8]) -> Result<Directory, PackageError> {
    let missing = "no end-of-archive record in the last 22 bytes: the file is truncated, has bytes \
                   appended, or is not a package";
    let end_at = file.len().checked_sub(END_BYTES as usize).ok_or_else(|| error(0, missing))?;
    let mut end = Reader { bytes: file, at: end_at, end: file.len() };
    if end.u32()? != END {
        return Err(error(end_at, missing));
    }
    let disks = end.u32()?;
    let on_disk = u64::from(end.u16()?);
    let mut entries = u64::from(end.u16()?);
    let mut size = u64::from(end.u32()?);
    let mut offset = u64::from(end.u32()?);
    let comment = end.u16()?;
    if disks != 0 || on_disk != entries || comment != 0 {
        return Err(error(
            end_at,
            "archives of several volumes or with a comment are not packages",
        ));
    }
    let mut directory_end = end_at;
    let wide32 = u64::from(u32::MAX);
    if entries == u64::from(u16::MAX) || size == wide32 || offset == wide32 {
        let (start, wide) = read_end64(file, end_at)?;
        let agree = |narrow: u64, limit: u64, wide: u64| narrow == limit || narrow == wide;
        if !(agree(entries, u64::from(u16::MAX), wide.entries)
            && agree(size, wide32, wide.size)
            && agree(offset, wide32, wide.offset))
        {
            return Err(error(start, "the two end-of-archive records disagree"));
        }
        (entries, size, offset) = (wide.entries, wide.size, wide.offset);
        directory_end = start;
    }
    if offset.checked_add(size) != Some(directory_end as u64) {
        let message = format!("the directory ({size} bytes from {offset}) must end here");
        return Err(error(directory_end, message));
    }
    if entries > MAX_ENTRIES || entries.saturating_mul(CENTRAL_HEADER_BYTES) > size {
        let message = format!("{entries} entries do not fit a directory of {size} bytes");
        return Err(error(end_at, message));
    }
    Ok(Directory { range: offset as usize..directory_end, entries: entries as usize })
}

struct End64 {
    entries: u64,
    size: u64,
    offset: u64,
}

fn read_end64(file: &[u8], end_at: usize) -> Result<(usize, End64), PackageError> {
    let missing = "the ZIP64 end-of-archive record is missing";
    let locator_at =
        end_at.checked_sub(END64_LOCATOR_BYTES as usize).ok_or_else(|| error(end_at, missing))?;
    let start =
        locator_at.checked_sub(END64_BYTES as usize).ok_or_else(|| error(end_at, missing))?;
    let mut locator = Reader { bytes: file, at: locator_at, end: end_at };
    let fits = locator.u32()? == END64_LOCATOR
        && locator.u32()? == 0
        && locator.u64()? == start as u64
        && locator.u32()? == 1;
    let mut record = Reader { bytes: file, at: start, end: locator_at };
    if !fits || record.u32()? != END64 || record.u64()? != END64_BYTES - 12 {
        return Err(error(locator_at, missing));
    }
    record.u32()?;
    let disks = record.u64()?;
    let on_disk = record.u64()?;
    let entries = record.u64()?;
    let size = record.u64()?;
    let offset = record.u64()?;
    if disks != 0 || on_disk != entries {
        return Err(error(start, "archives of several volumes are not packages"));
    }
    Ok((start, End64 { entries, size, offset }))
}

/// What both headers of an entry say.
struct Record {
    name: String,
    crc32: u32,
    size: u64,
    offset: u64,
}

impl Record {
    fn read_central(reader: &mut Reader<'_>) -> Result<Record, PackageError> {
        let at = reader.at;
        if reader.u32()? != CENTRAL_HEADER {
            return Err(error(at, "expected a directory entry"));
        }
        reader.u16()?;
        let fields = Fields::read(reader)?;
        let comment = reader.u16()?;
        let disk = reader.u16()?;
        reader.take(6)?;
        let mut offset = u64::from(reader.u32()?);
        if comment != 0 || disk != 0 {
            return Err(error(at, "entries with comments or on other volumes are not allowed"));
        }
        let name = fields.name(reader)?;
        let mut wide = fields.zip64(reader)?;
        let size = fields.size(&mut wide)?;
        if offset == u64::from(u32::MAX) {
            offset = wide.u64()?;
        }
        Ok(Record { name, crc32: fields.crc32, size, offset })
    }
}

/// Checks the header before an entry's data against the directory; the data's range.
fn check_local(
    file: &[u8],
    at: usize,
    end: usize,
    record: &Record,
) -> Result<Range<usize>, PackageError> {
    let mut reader = Reader { bytes: file, at, end };
    if reader.u32()? != LOCAL_HEADER {
        return Err(error(at, format!("expected the header of entry '{}'", record.name)));
    }
    let fields = Fields::read(&mut reader)?;
    let name = fields.name(&mut reader)?;
    let mut wide = fields.zip64(&mut reader)?;
    let size = fields.size(&mut wide)?;
    if name != record.name || fields.crc32 != record.crc32 || size != record.size {
        let message = format!("the header of entry '{}' contradicts the directory", record.name);
        return Err(error(at, message));
    }
    let start = reader.at;
    let left = end - start;
    match usize::try_from(size) {
        Ok(size) if size <= left => Ok(start..start + size),
        _ => {
            Err(error(start, format!("entry '{name}' has {size} bytes, but only {left} are left")))
        }
    }
}

/// The fields that both kinds of header share, in the same order.
struct Fields {
    at: usize,
    crc32: u32,
    stored: u32,
    original: u32,
    name_bytes: usize,
    extra_bytes: usize,
}

impl Fields {
    fn read(reader: &mut Reader<'_>) -> Result<Fields, PackageError> {
        let at = reader.at;
        reader.u16()?;
        let flags = reader.u16()?;
        let method = reader.u16()?;
        reader.u32()?;
        let crc32 = reader.u32()?;
        let stored = reader.u32()?;
        let original = reader.u32()?;
        let name_bytes = usize::from(reader.u16()?);
        let extra_bytes = usize::from(reader.u16()?);
        if flags != 0 {
            let message = format!("flags {flags:#06x} (encryption, streaming) are not allowed");
            return Err(error(at, message));
        }
        if method != 0 {
            let message = format!("compression method {method}; packages store entries plainly");
            return Err(error(at, message));
        }
        Ok(Fields { at, crc32, stored, original, name_bytes, extra_bytes })
    }

    fn name(&self, reader: &mut Reader<'_>) -> Result<String, PackageError> {
        let at = reader.at;
        let bytes = reader.take(self.name_bytes)?;
        let name = std::str::from_utf8(bytes).map_err(|_| error(at, "a name is not text"))?;
        match name_problem(name) {
            Some(problem) => Err(error(at, format!("entry {name:?}: {problem}"))),
            None => Ok(name.to_owned()),
        }
    }

    /// The content of the ZIP64 field among the extra fields; empty if there is none.
    fn zip64<'a>(&self, reader: &mut Reader<'a>) -> Result<Reader<'a>, PackageError> {
        let end = reader.at + self.extra_bytes;
        let mut extra = Reader { bytes: reader.bytes, at: reader.at, end: end.min(reader.end) };
        reader.take(self.extra_bytes)?;
        let mut wide = Reader { bytes: reader.bytes, at: end, end };
        while extra.at < extra.end {
            let id = extra.u16()?;
            let len = usize::from(extra.u16()?);
            let start = extra.at;
            extra.take(len)?;
            if id == ZIP64_FIELD {
                wide = Reader { bytes: reader.bytes, at: start, end: start + len };
            }
        }
        Ok(wide)
    }

    fn size(&self, wide: &mut Reader<'_>) -> Result<u64, PackageError> {
        let original = match self.original {
            u32::MAX => wide.u64()?,
            size => u64::from(size),
        };
        let stored = match self.stored {
            u32::MAX => wide.u64()?,
            size => u64::from(size),
        };
        if original != stored {
            return Err(error(self.at, "a stored entry has two different sizes"));
        }
        Ok(original)
    }
}

/// Reads little-endian integers within a range of the file.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], PackageError> {
        let stop = self.at.checked_add(len).filter(|&stop| stop <= self.end);
        let slice = stop.and_then(|stop| self.bytes.get(self.at..stop));
        let slice = slice.ok_or_else(|| error(self.at, "the record is cut off here"))?;
        self.at += len;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PackageError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u16(&mut self) -> Result<u16, PackageError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, PackageError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, PackageError> {
        self.array().map(u64::from_le_bytes)
    }
}

fn error(at: usize, message: impl Into<String>) -> PackageError {
    PackageError::Archive { at: at as u64, message: message.into() }
}
