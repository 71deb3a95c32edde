//! Writing an archive.

use std::borrow::Cow;
use std::io::{self, Write};

use super::{
    ALIGNMENT, ALIGNMENT_FIELD, CENTRAL_HEADER, END, END64, END64_BYTES, END64_LOCATOR,
    LOCAL_HEADER, LOCAL_HEADER_BYTES, VERSION_PLAIN, VERSION_ZIP64, ZIP64_FIELD,
};

/// 1980-01-01, the earliest date that ZIP can express.
const DOS_DATE: u16 = (1 << 5) | 1;
/// Made on Unix.
const HOST_UNIX: u16 = 3 << 8;
/// A regular file that all may read and the owner may write.
const UNIX_MODE: u32 = 0o100_644 << 16;
/// Bytes hashed at once: small enough to stay in the second-level cache for both hashes.
const HASH_BLOCK: usize = 128 << 10;

/// An entry to write, with the hashes of its bytes.
pub(crate) struct Part<'a> {
    pub(crate) name: String,
    pub(crate) bytes: Cow<'a, [u8]>,
    pub(crate) crc32: u32,
    pub(crate) blake3: blake3::Hash,
}

impl<'a> Part<'a> {
    pub(crate) fn new(name: String, bytes: impl Into<Cow<'a, [u8]>>) -> Part<'a> {
        let bytes = bytes.into();
        let mut crc = crc32fast::Hasher::new();
        let mut digest = blake3::Hasher::new();
        for block in bytes.chunks(HASH_BLOCK) {
            crc.update(block);
            digest.update(block);
        }
        Part { name, crc32: crc.finalize(), blake3: digest.finalize(), bytes }
    }
}

/// From where on the ZIP64 fields are used. Lower values than the format's are for tests.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: u64::from(u32::MAX), entries: u64::from(u16::MAX) }
    }
}

impl Limits {
    fn field32(self, value: u64) -> u32 {
        if value >= self.bytes { u32::MAX } else { value as u32 }
    }
}

/// Writes the parts in their order, then the directory.
pub(crate) fn write(out: &mut dyn Write, parts: &[Part<'_>], limits: Limits) -> io::Result<()> {
    let mut at = 0u64;
    let mut directory = Vec::new();
    for part in parts {
        let header = local_header(part, at, limits);
        out.write_all(&header)?;
        out.write_all(&part.bytes)?;
        central_header(&mut directory, part, at, limits);
        at += header.len() as u64 + part.bytes.len() as u64;
    }
    out.write_all(&directory)?;
    out.write_all(&end(parts.len() as u64, at, directory.len() as u64, limits))
}

fn local_header(part: &Part<'_>, at: u64, limits: Limits) -> Vec<u8> {
    let size = part.bytes.len() as u64;
    let large = size >= limits.bytes;
    let mut extra = Vec::new();
    if large {
        push16(&mut extra, ZIP64_FIELD);
        push16(&mut extra, 16);
        push64(&mut extra, size);
        push64(&mut extra, size);
    }
    let unpadded = at + LOCAL_HEADER_BYTES + part.name.len() as u64 + extra.len() as u64 + 6;
    let padding = (unpadded.next_multiple_of(ALIGNMENT as u64) - unpadded) as usize;
    push16(&mut extra, ALIGNMENT_FIELD);
    push16(&mut extra, 2 + padding as u16);
    push16(&mut extra, ALIGNMENT as u16);
    extra.resize(extra.len() + padding, 0);

    let mut header = Vec::with_capacity(LOCAL_HEADER_BYTES as usize + extra.len());
    push32(&mut header, LOCAL_HEADER);
    push16(&mut header, if large { VERSION_ZIP64 } else { VERSION_PLAIN });
    common_fields(&mut header, part, limits);
    push16(&mut header, part.name.len() as u16);
    push16(&mut header, extra.len() as u16);
    header.extend_from_slice(part.name.as_bytes());
    header.extend_from_slice(&extra);
    header
}

/// Flags, method, time, date, checksum and sizes: the same in both headers.
fn common_fields(out: &mut Vec<u8>, part: &Part<'_>, limits: Limits) {
    let size = limits.field32(part.bytes.len() as u64);
    push16(out, 0);
    push16(out, 0);
    push16(out, 0);
    push16(out, DOS_DATE);
    push32(out, part.crc32);
    push32(out, size);
    push32(out, size);
}

fn central_header(out: &mut Vec<u8>, part: &Part<'_>, at: u64, limits: Limits) {
    let size = part.bytes.len() as u64;
    let mut wide = Vec::new();
    if size >= limits.bytes {
        push64(&mut wide, size);
        push64(&mut wide, size);
    }
    if at >= limits.bytes {
        push64(&mut wide, at);
    }
    let version = if wide.is_empty() { VERSION_PLAIN } else { VERSION_ZIP64 };
    push32(out, CENTRAL_HEADER);
    push16(out, HOST_UNIX | version);
    push16(out, version);
    common_fields(out, part, limits);
    push16(out, part.name.len() as u16);
    push16(out, if wide.is_empty() { 0 } else { 4 + wide.len() as u16 });
    push16(out, 0);
    push16(out, 0);
    push16(out, 0);
    push32(out, UNIX_MODE);
    push32(out, limits.field32(at));
    out.extend_from_slice(part.name.as_bytes());
    if !wide.is_empty() {
        push16(out, ZIP64_FIELD);
        push16(out, wide.len() as u16);
        out.extend_from_slice(&wide);
    }
}

fn end(entries: u64, at: u64, size: u64, limits: Limits) -> Vec<u8> {
    let mut out = Vec::new();
    if entries >= limits.entries || at >= limits.bytes || size >= limits.bytes {
        push32(&mut out, END64);
        push64(&mut out, END64_BYTES - 12);
        push16(&mut out, HOST_UNIX | VERSION_ZIP64);
        push16(&mut out, VERSION_ZIP64);
        push64(&mut out, 0);
        push64(&mut out, entries);
        push64(&mut out, entries);
        push64(&mut out, size);
        push64(&mut out, at);
        push32(&mut out, END64_LOCATOR);
        push32(&mut out, 0);
        push64(&mut out, at + size);
        push32(&mut out, 1);
    }
    let count = if entries >= limits.entries { u16::MAX } else { entries as u16 };
    push32(&mut out, END);
    push32(&mut out, 0);
    push16(&mut out, count);
    push16(&mut out, count);
    push32(&mut out, limits.field32(size));
    push32(&mut out, limits.field32(at));
    push16(&mut out, 0);
    out
}

fn push16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn push32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn push64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}
