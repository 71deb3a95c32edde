//! Memory behind tensors: owned and aligned, or mapped from a file; always shared by reference
//! count.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Alignment in bytes of memory that this crate allocates: one cache line, one 512-bit register.
pub const ALIGNMENT: usize = 64;

#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; ALIGNMENT]);

/// Zeroed memory for `len` bytes.
///
/// # Panics
/// If the system has not that much.
pub(crate) fn zeroed_lines(len: usize) -> Vec<Line> {
    match bytemuck::allocation::try_zeroed_slice_box(len.div_ceil(ALIGNMENT)) {
        Ok(lines) => lines.into_vec(),
        Err(()) => panic!("cannot allocate {len} bytes"),
    }
}

#[derive(Clone)]
enum Memory {
    Owned(Arc<Vec<Line>>),
    Mapped(Arc<memmap2::Mmap>),
}

/// How the bytes of a file come into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileAccess {
    /// Its pages are mapped: nothing is copied, and processes share them. The file must not be
    /// truncated or rewritten in place for as long as a buffer of it lives; see
    /// [`Buffer::map_file`].
    #[default]
    Mapped,
    /// They are read once. Whatever becomes of the file then does not matter.
    Copied,
}

/// A cheaply cloned, immutable range of bytes.
///
/// Memory allocated here starts at a multiple of [`ALIGNMENT`]; mapped memory starts where the
/// file's author put it.
#[derive(Clone)]
pub struct Buffer {
    memory: Memory,
    range: Range<usize>,
}

impl Buffer {
    /// A zeroed buffer, filled in place before it is shared.
    ///
    /// # Panics
    /// If the system has not that much memory: a failed request is better than an ended process.
    pub fn build(len: usize, fill: impl FnOnce(&mut [u8])) -> Buffer {
        let mut lines = zeroed_lines(len);
        fill(&mut bytemuck::cast_slice_mut(&mut lines)[..len]);
        Buffer { memory: Memory::Owned(Arc::new(lines)), range: 0..len }
    }

    /// Like [`Buffer::build`] for a filling that can fail.
    pub fn try_build<E>(
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Buffer, E> {
        let mut result = Ok(());
        let buffer = Buffer::build(len, |bytes| result = fill(bytes));
        result.map(|()| buffer)
    }

    /// The first `len` bytes of memory that its owner has filled.
    ///
    /// # Panics
    /// If the memory is shorter.
    pub(crate) fn of_lines(lines: Vec<Line>, len: usize) -> Buffer {
        assert!(len <= lines.len() * ALIGNMENT, "{len} bytes of {} lines", lines.len());
        Buffer { memory: Memory::Owned(Arc::new(lines)), range: 0..len }
    }

    /// An aligned copy of some bytes.
    pub fn copy_of(bytes: &[u8]) -> Buffer {
        // Memory that is written once need not be zeroed first.
        let (whole, rest) = bytes.as_chunks::<ALIGNMENT>();
        let mut lines = Vec::with_capacity(bytes.len().div_ceil(ALIGNMENT));
        lines.extend(whole.iter().map(|&line| Line(line)));
        if !rest.is_empty() {
            let mut line = [0; ALIGNMENT];
            line[..rest.len()].copy_from_slice(rest);
            lines.push(Line(line));
        }
        Buffer::of_lines(lines, bytes.len())
    }

    /// Maps a whole file read-only; pages are read when touched.
    ///
    /// The file must not be truncated or rewritten in place while mapped: replace it by renaming a
    /// new file over it, as everything in Landfall does.
    #[allow(unsafe_code, reason = "mapping a file cannot be expressed safely; see SAFETY")]
    pub fn map_file(file: &File) -> io::Result<Buffer> {
        let len = file.metadata()?.len();
        let len = usize::try_from(len)
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "file exceeds memory"))?;
        if len == 0 {
            return Ok(Buffer::copy_of(&[]));
        }
        // SAFETY: the map is read-only and private to this process; every reader treats the bytes
        // as untrusted data, so a concurrent writer can produce wrong values but no invalid Rust
        // value (only plain-old-data types view them). Truncation raises SIGBUS; the contract
        // above forbids it.
        let map = unsafe { memmap2::Mmap::map(file)? };
        Ok(Buffer { memory: Memory::Mapped(Arc::new(map)), range: 0..len })
    }

    /// Reads a whole file into memory. Fails if it becomes shorter meanwhile.
    pub fn read_file(mut file: &File) -> io::Result<Buffer> {
        let len = usize::try_from(file.metadata()?.len())
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "file exceeds memory"))?;
        Buffer::try_build(len, |bytes| file.read_exact(bytes))
    }

    /// A whole file.
    pub fn of_file(file: &File, access: FileAccess) -> io::Result<Buffer> {
        match access {
            FileAccess::Mapped => Buffer::map_file(file),
            FileAccess::Copied => Buffer::read_file(file),
        }
    }

    /// A part of this buffer, sharing its memory. `None` if the range lies outside.
    pub fn slice(&self, range: Range<usize>) -> Option<Buffer> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let start = self.range.start + range.start;
        let end = self.range.start + range.end;
        Some(Buffer { memory: self.memory.clone(), range: start..end })
    }

    /// Says that the bytes will hardly be read again: pages of a mapped file stop counting as this
    /// process's memory, and come back from the file if they are read all the same.
    #[allow(unsafe_code, reason = "dropping pages is unsafe where it can lose data; see SAFETY")]
    pub fn release(&self) {
        #[cfg(unix)]
        if let Memory::Mapped(map) = &self.memory {
            // SAFETY: the map is of a file and read-only, so its pages hold nothing else.
            let _ = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    self.range.start,
                    self.range.len(),
                )
            };
        }
    }

    /// Whether the bytes lie in a mapped file rather than on the heap.
    pub fn is_mapped(&self) -> bool {
        matches!(self.memory, Memory::Mapped(_))
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.memory {
            Memory::Owned(lines) => bytemuck::cast_slice(lines.as_slice()),
            Memory::Mapped(map) => map,
        };
        &all[self.range.clone()]
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes{})", self.len(), if self.is_mapped() { ", mapped" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_share_memory_and_stay_inside() {
        let buffer = Buffer::copy_of(&[1, 2, 3, 4]);
        assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
        let part = buffer.slice(1..3).unwrap();
        assert_eq!(&*part, &[2, 3]);
        assert!(part.slice(1..3).is_none());
        assert!(buffer.slice(Range { start: 3, end: 2 }).is_none());
    }

    #[test]
    fn released_pages_come_back_from_the_file() {
        let path = std::env::temp_dir().join(format!("landfall-release-{}", std::process::id()));
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let buffer = Buffer::map_file(&File::open(&path).unwrap()).unwrap();
        assert!(*buffer == bytes);
        buffer.slice(5000..90_001).unwrap().release();
        buffer.slice(7..7).unwrap().release();
        assert!(*buffer == bytes);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_copied_file_may_change_afterwards() {
        let path = std::env::temp_dir().join(format!("landfall-buffer-{}", std::process::id()));
        std::fs::write(&path, [7; 10_000]).unwrap();
        let file = File::open(&path).unwrap();
        let mapped = Buffer::of_file(&file, FileAccess::Mapped).unwrap();
        let copied = Buffer::of_file(&file, FileAccess::Copied).unwrap();
        assert!(mapped.is_mapped() && !copied.is_mapped());
        assert_eq!(*mapped, *copied);
        drop(mapped);
        std::fs::write(&path, [1; 10]).unwrap();
        assert_eq!(*copied, [7; 10_000]);
        std::fs::write(&path, []).unwrap();
        assert!(
            Buffer::of_file(&File::open(&path).unwrap(), FileAccess::Copied).unwrap().is_empty()
        );
        std::fs::remove_file(&path).unwrap();
    }
}
