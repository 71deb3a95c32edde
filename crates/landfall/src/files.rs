//! Files that appear complete or not at all.
//!
//! What is being written stands beside its place under a name of its own and is renamed over it
//! once it is complete. A process that ends on a signal runs no destructors, so every draft is
//! listed, and [`abandon`] takes all of them back.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The drafts of this process.
struct Drafts {
    open: BTreeSet<PathBuf>,
    committed: Vec<PathBuf>,
    is_over: bool,
}

static DRAFTS: Mutex<Drafts> =
    Mutex::new(Drafts { open: BTreeSet::new(), committed: Vec::new(), is_over: false });

fn drafts() -> io::Result<MutexGuard<'static, Drafts>> {
    let drafts = DRAFTS.lock().unwrap_or_else(PoisonError::into_inner);
    match drafts.is_over {
        true => Err(io::Error::new(io::ErrorKind::Interrupted, "the process is ending")),
        false => Ok(drafts),
    }
}

/// A file in the making. Dropping it uncommitted leaves nothing behind.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    temporary: PathBuf,
    is_in_place: bool,
}

impl Draft {
    /// Starts a file that will be at `path`.
    pub fn create(path: &Path) -> io::Result<(Draft, File)> {
        let mut drafts = drafts()?;
        let temporary = beside(path);
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        drafts.open.insert(temporary.clone());
        Ok((Draft { path: path.to_owned(), temporary, is_in_place: false }, file))
    }

    /// Gives the file its name, over an older one. Its content should be synced already.
    pub fn commit(mut self) -> io::Result<()> {
        let mut drafts = drafts()?;
        fs::rename(&self.temporary, &self.path)?;
        self.is_in_place = true;
        drafts.open.remove(&self.temporary);
        drafts.committed.push(self.path.clone());
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.is_in_place {
            return;
        }
        // After `abandon` it is gone already.
        if let Ok(mut drafts) = drafts() {
            drafts.open.remove(&self.temporary);
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Removes every draft and lets no other begin or get its name: for a process that is about to end.
/// Returns the files that it has completed.
pub fn abandon() -> Vec<PathBuf> {
    let Ok(mut drafts) = drafts() else { return Vec::new() };
    drafts.is_over = true;
    for temporary in std::mem::take(&mut drafts.open) {
        let _ = fs::remove_file(temporary);
    }
    std::mem::take(&mut drafts.committed)
}

/// Writes a file beside `path` and renames it over `path` once it is complete. If `write` fails,
/// nothing is left behind and an older file at `path` stays.
pub fn write_atomically<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&File) -> Result<(), E>,
) -> Result<(), E> {
    let (draft, file) = Draft::create(path)?;
    write(&file)?;
    file.sync_all()?;
    Ok(draft.commit()?)
}

/// A name beside `path` that no other writer of this machine uses.
fn beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{number}.tmp", std::process::id()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = std::env::temp_dir().join(format!("landfall-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("out");
        write_atomically(&path, |mut file| file.write_all(b"old")).unwrap();
        let failed = write_atomically(&path, |mut file| {
            file.write_all(b"new")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
