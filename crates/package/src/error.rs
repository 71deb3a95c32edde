//! What can be wrong with a package.

use std::path::PathBuf;

use crate::steps::StepError;

/// A package that cannot be written, opened or trusted; says where and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// Something is wrong with this file.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; part of the text, so no source of it.
        problem: Box<PackageError>,
    },
    /// The operating system refused.
    #[error("cannot {action}: {error}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Why it failed; part of the text.
        error: std::io::Error,
    },
    /// The archive's structure is damaged, or is not one that Landfall writes.
    #[error("not a readable package: at byte {at}: {message}")]
    Archive {
        /// Offset in the file.
        at: u64,
        /// What is wrong there.
        message: String,
    },
    /// The package was written in a format that this version does not read.
    #[error(
        "package format {found} is not supported (this version reads format {supported}); \
         package the model again with this version, or read it with the version that wrote it"
    )]
    Format {
        /// The file's format.
        found: u64,
        /// The format this version reads.
        supported: u32,
    },
    /// The manifest is not what the format prescribes.
    #[error("manifest.json: {0}")]
    Manifest(String),
    /// An entry is missing, or not what the manifest says.
    #[error("entry '{name}': {message}")]
    Entry {
        /// The entry's name in the archive.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// An entry's bytes are not those that were packaged.
    #[error(
        "entry '{name}' is corrupt: its BLAKE3 digest is {found}, the manifest says {expected}; \
         fetch the package again"
    )]
    Digest {
        /// The entry's name in the archive.
        name: String,
        /// Digest in the manifest.
        expected: String,
        /// Digest of the bytes found.
        found: String,
    },
    /// A declared step does not fit the model.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The graph text is not a valid graph.
    #[error("graph.txt: {0}")]
    Graph(String),
}

impl PackageError {
    pub(crate) fn entry(name: &str, message: impl Into<String>) -> PackageError {
        PackageError::Entry { name: name.to_owned(), message: message.into() }
    }

    pub(crate) fn io(action: &'static str, error: std::io::Error) -> PackageError {
        PackageError::Io { action, error }
    }

    pub(crate) fn at_path(self, path: &std::path::Path) -> PackageError {
        PackageError::File { path: path.to_owned(), problem: Box::new(self) }
    }
}
