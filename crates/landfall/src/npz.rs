//! NumPy's `.npz` archives: named arrays, as `landfall run` takes and gives them.
//!
//! | NumPy | here |
//! |---|---|
//! | `f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1`, either byte order | the number types |
//! | `U<n>` | text; trailing NULs are padding |
//! | `S<n>` | byte strings; trailing NULs are padding |
//! | `V2` | bfloat16, which NumPy cannot name |
//!
//! Entries may be stored or deflated. Nothing is allocated from a size that the archive merely
//! claims, and a whole archive may inflate to [`MAX_BYTES`] at most. Source of the format: NEP 1
//! and `numpy.lib.format`.

mod array;
mod header;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use landfall_tensor::Tensor;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::files::write_atomically;

/// Bytes that the arrays of one archive may have.
pub const MAX_BYTES: u64 = 8 << 30;

/// Arrays that an archive may have.
const MAX_ARRAYS: usize = 4096;

/// Named arrays, in the archive's order.
pub type Arrays = Vec<(String, Tensor)>;

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpzError {
    /// Something is wrong with this file.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: Box<NpzError>,
    },
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is not an archive.
    #[error("not an NPZ archive (numpy.savez writes one): {0}")]
    Archive(zip::result::ZipError),
    /// An array is damaged, or of a kind that a model cannot take.
    #[error("array '{name}': {problem}")]
    Array {
        /// The array.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The archive is larger than is read.
    #[error("{0}")]
    TooLarge(String),
}

impl From<zip::result::ZipError> for NpzError {
    fn from(error: zip::result::ZipError) -> NpzError {
        NpzError::Archive(error)
    }
}

impl NpzError {
    fn at(self, path: &Path) -> NpzError {
        NpzError::File { path: path.to_owned(), problem: Box::new(self) }
    }
}

/// Reads every array of an archive.
pub fn read(path: &Path) -> Result<Arrays, NpzError> {
    let open = |path: &Path| read_from(BufReader::new(File::open(path)?));
    open(path).map_err(|error| error.at(path))
}

/// Reads every array of an archive.
pub fn read_from(source: impl Read + Seek) -> Result<Arrays, NpzError> {
    let mut archive = ZipArchive::new(source)?;
    if archive.len() > MAX_ARRAYS {
        let message = format!("{} arrays, at most {MAX_ARRAYS} are read", archive.len());
        return Err(NpzError::TooLarge(message));
    }
    let mut left = MAX_BYTES;
    let mut arrays = Arrays::with_capacity(archive.len());
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let full = entry.name()?.into_owned();
        let name = full.strip_suffix(".npy").unwrap_or(&full).to_owned();
        let read = array::read(&mut entry, left);
        let tensor = read.map_err(|problem| NpzError::Array { name: name.clone(), problem })?;
        left -= tensor.bytes().map_or(0, |bytes| bytes.len() as u64).min(left);
        arrays.push((name, tensor));
    }
    Ok(arrays)
}

/// Writes an archive, which appears at `path` complete or not at all. Equal arrays, equal bytes.
pub fn write(path: &Path, arrays: &[(String, Tensor)]) -> Result<(), NpzError> {
    let write = || -> Result<(), NpzError> {
        write_atomically(path, |file| {
            let mut out = BufWriter::with_capacity(1 << 20, file);
            write_to(&mut out, arrays)?;
            Ok(out.flush()?)
        })
    };
    write().map_err(|error| error.at(path))
}

/// Writes an archive of stored entries.
pub fn write_to(out: impl Write + Seek, arrays: &[(String, Tensor)]) -> Result<(), NpzError> {
    let mut archive = ZipWriter::new(out);
    for (name, tensor) in arrays {
        let bytes = array::bytes(tensor)
            .map_err(|problem| NpzError::Array { name: name.clone(), problem })?;
        let options = SimpleFileOptions::DEFAULT
            .compression_method(CompressionMethod::Stored)
            .large_file(bytes.len() as u64 >= u64::from(u32::MAX))
            .last_modified_time(zip::DateTime::DEFAULT);
        archive.start_file(format!("{name}.npy"), options)?;
        archive.write_all(&array::header(tensor))?;
        archive.write_all(&bytes)?;
    }
    archive.finish()?;
    Ok(())
}
