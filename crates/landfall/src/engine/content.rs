//! What a file seems to be that could not be read as a model: most are not damaged, but another.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Error, anyhow};
use landfall_onnx::ImportError;
use landfall_package::PackageError;

use super::FileKind;

/// Bytes at the start of a file that are looked at.
const HEAD_BYTES: u64 = 512;
/// Question to somebody whose file ends too early.
const COMPLETE: &str = "is the download complete?";

/// An error of reading a model, with the file's path, and what the file seems to be if it is not a
/// model of that kind.
pub fn located(path: &Path, kind: FileKind, error: Error) -> Error {
    let is_damaged = match (error.downcast_ref::<ImportError>(), error.downcast_ref()) {
        // These name their file.
        (Some(ImportError::File { .. }), _) => return error,
        (Some(ImportError::Malformed(_)), _) => true,
        (_, Some(PackageError::File { problem, .. })) => {
            match matches!(**problem, PackageError::Archive { .. }) {
                true => true,
                false => return error,
            }
        }
        _ => false,
    };
    let path_text = path.display();
    let head = head(path).filter(|_| is_damaged);
    if let Some(other) = head.and_then(|head| other_content(&head, kind)) {
        return anyhow!("{path_text}: {other}");
    }
    match error.downcast_ref::<ImportError>() {
        // Nothing inside the model: its outermost field does not end within the file.
        Some(ImportError::Malformed(malformed))
            if malformed.path.is_empty() && !malformed.problem.ends_with('?') =>
        {
            anyhow!("{path_text}: {error}; {COMPLETE}")
        }
        Some(_) => error.context(path_text.to_string()),
        None if is_damaged => anyhow!("{error}; {COMPLETE}"),
        None => error.context(path_text.to_string()),
    }
}

fn head(path: &Path) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(HEAD_BYTES).read_to_end(&mut head).ok()?;
    Some(head)
}

/// What the file is, unless it may be of the expected kind after all.
fn other_content(head: &[u8], kind: FileKind) -> Option<String> {
    let expected = match kind {
        FileKind::Onnx => "an ONNX model",
        FileKind::Package => "a Landfall package",
    };
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    if head.is_empty() {
        return Some(format!("the file is empty; {COMPLETE}"));
    }
    if head.starts_with(b"version https://git-lfs") {
        return Some(format!("a Git LFS pointer, not {expected}; `git lfs pull` fetches the file"));
    }
    match kind {
        _ if head.iter().all(is_text) => Some(format!("a text file, not {expected}")),
        FileKind::Onnx if head.starts_with(b"PK\x03\x04") => Some(format!(
            "a ZIP archive, not {expected}; if it is a Landfall package, its name must end in \
             .landfall"
        )),
        // Field 1, the version of the format, with which exporters begin.
        FileKind::Package if head.starts_with(&[0x08]) => {
            Some(format!("not {expected}, but maybe an ONNX model, whose name must end in .onnx"))
        }
        _ => None,
    }
}
