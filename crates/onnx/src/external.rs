//! Weights kept in files beside the model.
//!
//! A model names such files itself, so a hostile one must not reach anything but its own folder:
//! the location is relative, has no `..`, and after following links the file lies in the model's
//! folder or in the folder of the file that the model's own link leads to (download caches link
//! both the model and its weights to a store).

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use landfall_tensor::{Buffer, FileAccess};

use crate::proto::Entry;

/// The files that a model may refer to.
#[derive(Default)]
pub(crate) struct External {
    folder: Option<PathBuf>,
    allowed: Vec<PathBuf>,
    access: FileAccess,
    open: HashMap<PathBuf, Buffer>,
}

impl External {
    /// Files beside the model at `path`.
    pub(crate) fn beside(path: &Path, access: FileAccess) -> io::Result<External> {
        let parent = |path: &Path| match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let folder = parent(path);
        let allowed = vec![folder.canonicalize()?, parent(&path.canonicalize()?)];
        Ok(External { folder: Some(folder), allowed, access, open: HashMap::new() })
    }

    /// The bytes that a tensor's `external_data` entries describe; `length` bytes unless they say
    /// otherwise. The error is a problem's text.
    pub(crate) fn bytes(&mut self, entries: &[Entry<'_>], length: usize) -> Result<Buffer, String> {
        let find = |key: &str| entries.iter().find(|entry| entry.key == key).map(|e| e.value);
        let number = |key: &str, default: usize| match find(key) {
            None | Some("") => Ok(default),
            Some(text) => {
                text.parse::<usize>().map_err(|_| format!("external {key} '{text}' is no number"))
            }
        };
        let location = find("location").ok_or("external data names no location")?;
        let (offset, length) = (number("offset", 0)?, number("length", length)?);
        let file = self.file(location)?;
        let end = offset.checked_add(length);
        end.and_then(|end| file.slice(offset..end)).ok_or_else(|| {
            format!(
                "external data needs {length} bytes at {offset} of '{location}', which has {}",
                file.len()
            )
        })
    }

    fn file(&mut self, location: &str) -> Result<Buffer, String> {
        let path = self.locate(location)?;
        if let Some(buffer) = self.open.get(&path) {
            return Ok(buffer.clone());
        }
        let unreadable = |error| format!("cannot read external data '{location}': {error}");
        let file = File::open(&path).map_err(unreadable)?;
        let buffer = Buffer::of_file(&file, self.access).map_err(unreadable)?;
        self.open.insert(path, buffer.clone());
        Ok(buffer)
    }

    fn locate(&self, location: &str) -> Result<PathBuf, String> {
        let Some(folder) = &self.folder else {
            return Err(format!(
                "external data '{location}' is beside the model's file: import the file by its path"
            ));
        };
        let relative = Path::new(location);
        let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if location.contains('\0') || !relative.components().all(inside) {
            return Err(format!(
                "external data '{location}' is not a path below the model's folder"
            ));
        }
        let unreadable = |error| format!("cannot read external data '{location}': {error}");
        let path = folder.join(relative).canonicalize().map_err(unreadable)?;
        if !self.allowed.iter().any(|allowed| path.starts_with(allowed)) {
            return Err(format!("external data '{location}' leads out of the model's folder"));
        }
        if !path.metadata().map_err(unreadable)?.is_file() {
            return Err(format!("external data '{location}' is not a regular file"));
        }
        Ok(path)
    }
}
