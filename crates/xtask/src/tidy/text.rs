//! Rules that lines alone decide: file name, file opening, length of lines.

use super::{Findings, Place};

const LINE_CHARS_MAX: usize = 100;

pub(super) fn check(place: &Place, source: &str, findings: &mut Findings<'_>) {
    if let Some(name) = &place.vague_name {
        let advice = format!("`{name}` says nothing; name the file or folder after what it holds");
        findings.add(1, "file-name", advice);
    }
    let opening = source.lines().find(|line| !line.trim().is_empty());
    if !opening.is_some_and(|line| line.starts_with("//!")) {
        findings.add(1, "module-doc", "open the file with a `//!` line that says what it is for");
    }
    for (index, line) in source.lines().enumerate() {
        let length = line.chars().count();
        if length > LINE_CHARS_MAX {
            let advice = format!("{length} characters; break it at {LINE_CHARS_MAX}");
            findings.add(index + 1, "line-length", advice);
        }
    }
}
