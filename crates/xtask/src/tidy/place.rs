//! Where a file stands in the repository, as far as the rules care.

use std::path::Path;

/// Crates whose files may read clocks, entropy and the environment, and may print; programs in
/// `bench/` may too.
const OUTER_CRATES: [&str; 3] = ["landfall", "testkit", "xtask"];
/// Folders of code that only tests, measures or shows.
const TEST_FOLDERS: [&str; 5] = ["tests", "benches", "examples", "fuzz", "fuzz_targets"];
/// The only files outside `kernels` in which `unsafe` may stand.
const UNSAFE_FILES: [&str; 2] = ["crates/tensor/src/buffer.rs", "crates/tensor/src/arena.rs"];
const VAGUE_NAMES: [&str; 7] = ["utils", "util", "common", "helpers", "helper", "manager", "base"];

/// What the rules need to know of a file's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// In a folder named `generated`.
    pub(crate) generated: bool,
    /// A file of tests, benches, examples or fuzz targets.
    pub(crate) test: bool,
    /// May read clocks, entropy and the environment, and may print.
    pub(crate) outer: bool,
    /// May contain `unsafe`.
    pub(crate) unsafe_allowed: bool,
    /// The file or folder name that says nothing about its content, if there is one.
    pub(crate) vague_name: Option<String>,
}

impl Place {
    /// Reads the path, given from the repository root with `/` between its parts.
    pub(crate) fn of(path: &str) -> Place {
        let file = Path::new(path);
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let folders: Vec<&str> = path.split('/').rev().skip(1).collect();
        let crate_name = path.strip_prefix("crates/").and_then(|rest| rest.split('/').next());
        let test = stem == "tests" || folders.iter().any(|folder| TEST_FOLDERS.contains(folder));
        let vague_name = std::iter::once(stem)
            .chain(folders.iter().copied())
            .find(|name| VAGUE_NAMES.contains(name))
            .map(str::to_owned);
        Place {
            generated: folders.contains(&"generated"),
            test,
            outer: test
                || stem == "build"
                || path.starts_with("bench/")
                || crate_name.is_some_and(|name| OUTER_CRATES.contains(&name)),
            unsafe_allowed: crate_name == Some("kernels") || UNSAFE_FILES.contains(&path),
            vague_name,
        }
    }
}
