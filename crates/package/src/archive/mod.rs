//! The subset of ZIP that packages use, written and read strictly.
//!
//! Stored entries only, no encryption, no comments, no data descriptors, ASCII names, the directory
//! in the order of the data, and no byte of the file outside an entry, the directory and its end
//! record. Each local header carries an alignment field (identifier 0xD935, as Android's zipalign
//! writes it) whose padding moves the data to a multiple of [`ALIGNMENT`]. Sizes and offsets from 4
//! GiB up use the ZIP64 fields. Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.
//!
//! Strictness is the defence against hostile files: entries that tile the file can neither overlap
//! nor hide data, and nothing is allocated from a size that the file's length does not prove.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::ops::Range;

pub(crate) use read::read;
pub(crate) use write::{Limits, Part, write};

/// Every entry's data starts at a multiple of this many bytes: one cache line.
pub const ALIGNMENT: usize = 64;

/// Entries that an archive may hold.
pub(crate) const MAX_ENTRIES: u64 = 1 << 17;

const LOCAL_HEADER: u32 = 0x0403_4b50;
const CENTRAL_HEADER: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;

const LOCAL_HEADER_BYTES: u64 = 30;
const CENTRAL_HEADER_BYTES: u64 = 46;
const END_BYTES: u64 = 22;
const END64_BYTES: u64 = 56;
const END64_LOCATOR_BYTES: u64 = 20;

const ZIP64_FIELD: u16 = 0x0001;
const ALIGNMENT_FIELD: u16 = 0xd935;
const VERSION_PLAIN: u16 = 20;
const VERSION_ZIP64: u16 = 45;
const MAX_NAME_BYTES: usize = 255;

/// One entry of an archive that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Where the data lies in the file.
    pub(crate) data: Range<usize>,
    pub(crate) crc32: u32,
}

/// Why `name` may not name an entry, if it may not: names are relative paths of plain characters
/// that stay below the folder they are extracted to.
pub(crate) fn name_problem(name: &str) -> Option<&'static str> {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '+' | ' ');
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Some("a name has 1 to 255 characters");
    }
    if !name.chars().all(plain) {
        return Some("a name has only ASCII letters, digits, space and . _ - + /");
    }
    if name.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Some("a name is a relative path without empty, '.' or '..' parts");
    }
    None
}
