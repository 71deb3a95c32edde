//! No command writes over what it reads: one check of all its paths before it opens any to write.
//!
//! Paths are compared as the file system resolves them, so that neither `./`, nor a link, nor a
//! file that does not exist yet hides that two arguments name one file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// The files that a command was given: first those it reads, then those it writes.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// By canonical path, which argument names it.
    known: BTreeMap<PathBuf, String>,
}

impl Paths {
    /// Adds a file that is read. One that does not exist is for its reader to report.
    pub(super) fn read(mut self, argument: &str, path: &Path) -> Paths {
        if let Ok(path) = path.canonicalize() {
            self.known.insert(path, argument.to_owned());
        }
        self
    }

    /// Adds a file that will be written. Fails if another argument names it, or if it cannot be
    /// written because its folder does not exist or something else has its name.
    pub(super) fn write(mut self, argument: &str, path: &Path) -> Result<Paths> {
        let resolved = writable(argument, path)?;
        if let Some(other) = self.known.get(&resolved) {
            bail!(
                "{argument} and {other} are the same file, {}, which would be overwritten",
                path.display()
            );
        }
        self.known.insert(resolved, argument.to_owned());
        Ok(self)
    }
}

/// The canonical path of a file to write. Fails if it cannot be written because its folder does not
/// exist or something else has its name.
pub(super) fn writable(argument: &str, path: &Path) -> Result<PathBuf> {
    resolve(path).with_context(|| argument.to_owned())
}

fn resolve(path: &Path) -> Result<PathBuf> {
    match path.metadata() {
        Ok(found) => {
            ensure!(!found.is_dir(), "{}: is a folder", path.display());
            ensure!(found.is_file(), "{}: is not a regular file", path.display());
            return path.canonicalize().with_context(|| path.display().to_string());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    }
    let Some(name) = path.file_name() else { bail!("{}: expected a file", path.display()) };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let canonical = folder
        .canonicalize()
        .with_context(|| format!("{}: there is no folder {}", path.display(), folder.display()))?;
    ensure!(canonical.is_dir(), "{}: {} is not a folder", path.display(), folder.display());
    Ok(canonical.join(name))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn two_arguments_may_not_name_one_file_however_they_spell_it() {
        let folder = std::env::temp_dir().join(format!("landfall-paths-{}", std::process::id()));
        fs::create_dir_all(folder.join("below")).unwrap();
        let at = |name: &str| folder.join(name);
        fs::write(at("in"), "").unwrap();
        std::os::unix::fs::symlink(at("in"), at("link")).unwrap();
        let error = |read: &str, write: &str| {
            let paths = Paths::default().read("--input", &at(read));
            paths.write("--output", &at(write)).err().map(|error| format!("{error:#}"))
        };
        for same in ["in", "below/../in", "link"] {
            let error = error("in", same).unwrap();
            assert!(error.starts_with("--output and --input are the same file"), "{error}");
        }
        assert_eq!(error("in", "out"), None);
        assert!(error("in", "below").unwrap().contains("is a folder"));
        let missing = error("in", "absent/out").unwrap();
        assert!(missing.contains(&format!("no folder {}", at("absent").display())), "{missing}");
        let device = Paths::default().write("--output", Path::new("/dev/null"));
        assert!(format!("{:#}", device.unwrap_err()).contains("not a regular file"));
        let twice = Paths::default().write("--output", &at("new")).unwrap();
        let twice = twice.write("--quarantine", &at("below/../new"));
        assert!(twice.unwrap_err().to_string().starts_with("--quarantine and --output"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
