//! Looking at the repository folder.

use std::collections::{BTreeMap, HashMap};
use std::fs::{DirEntry, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::config::{ModelFile, SingleModel, read_model_file};
use crate::declared::manifest_beside;

/// File names of a model, the preferred one first.
const MODEL_FILES: [&str; 2] = ["model.landfall", "model.onnx"];
/// Files of one version that are looked at.
const MAX_FILES: usize = 10_000;

/// Entries of a folder that nothing is made of although somebody may expect it, and why.
pub type Ignored = BTreeMap<String, String>;

/// What a look at the repository finds.
#[derive(Debug, Default)]
pub struct Found {
    /// Models by name.
    pub models: BTreeMap<String, FoundModel>,
    /// Entries of the repository's folder.
    pub ignored: Ignored,
}

/// A model that the repository has.
#[derive(Debug, Clone)]
pub struct FoundModel {
    /// Its `model.yaml`, or what is wrong with it.
    pub settings: Result<ModelFile, String>,
    /// Versions whose files have stood still long enough.
    pub versions: BTreeMap<u64, FoundVersion>,
    /// Whether some version is left out because its files still change.
    pub settling: bool,
    /// Entries of its folder.
    pub ignored: Ignored,
    folder: PathBuf,
}

/// One version of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundVersion {
    /// The model file.
    pub path: PathBuf,
    /// Changes whenever a file of the version or the model's settings change.
    pub revision: u64,
}

impl FoundModel {
    /// Why no version can be served.
    pub fn nothing_found(&self) -> String {
        format!(
            "no version found: expected {} or {} in a folder with a positive number for a name \
             under {}",
            MODEL_FILES[1],
            MODEL_FILES[0],
            self.folder.display()
        )
    }
}

/// Remembers what versions looked like, to tell which ones still change.
#[derive(Debug)]
pub struct Settling {
    limit: Duration,
    seen: HashMap<PathBuf, (u64, Instant)>,
    /// What each version was when it last stood still: it goes on serving while it is replaced.
    settled: HashMap<PathBuf, FoundVersion>,
}

impl Settling {
    /// Versions must stand still for that long.
    pub fn new(limit: Duration) -> Settling {
        Settling { limit, seen: HashMap::new(), settled: HashMap::new() }
    }

    /// Whether a version has stood still: either its files are old, or they have looked the same
    /// for long enough since they were first seen.
    fn is_settled(&mut self, path: &Path, revision: u64, changed: SystemTime) -> bool {
        let old = SystemTime::now().duration_since(changed).is_ok_and(|age| age >= self.limit);
        let now = Instant::now();
        let seen = self.seen.entry(path.to_owned()).or_insert((revision, now));
        if seen.0 != revision {
            *seen = (revision, now);
        }
        old || now.duration_since(seen.1) >= self.limit
    }

    /// The same of a folder that has no model file, or not yet.
    fn is_settled_folder(&mut self, path: &Path) -> bool {
        let Ok(metadata) = std::fs::metadata(path) else { return false };
        let mut look = Look::default();
        look.add(path, &metadata);
        self.is_settled(path, look.hasher.finish(), look.newest)
    }
}

/// A model given as one file. It is taken as it is: whoever names a file says that it is complete.
pub(super) fn single(single: &SingleModel) -> FoundModel {
    let mut look = Look::default();
    if let Ok(metadata) = std::fs::metadata(&single.path) {
        look.add(&single.path, &metadata);
    }
    if let Some(manifest) = manifest_beside(&single.path)
        && let Ok(metadata) = std::fs::metadata(&manifest)
    {
        look.add(&manifest, &metadata);
    }
    let version = FoundVersion { path: single.path.clone(), revision: look.hasher.finish() };
    FoundModel {
        settings: Ok(single.settings.clone()),
        versions: BTreeMap::from([(single.version, version)]),
        settling: false,
        ignored: Ignored::new(),
        folder: single.path.clone(),
    }
}

/// Every model of a folder. Hidden entries are ignored.
pub fn scan_folder(folder: &Path, settling: &mut Settling) -> Result<Found, String> {
    let mut found = Found::default();
    for entry in entries(folder)? {
        let name = entry.file_name();
        let text = name.to_string_lossy().into_owned();
        if text.starts_with('.') {
            continue;
        }
        // Follows links: mounted volumes are made of them.
        match (entry.path().is_dir(), name.to_str()) {
            (true, Some(_)) => {
                // One folder that cannot be read must not keep the others from being served.
                let model = scan_model(&entry.path(), settling)
                    .unwrap_or_else(|problem| unreadable(&entry.path(), problem));
                found.models.insert(text, model);
            }
            (true, None) => {
                found.ignored.insert(text, "its name is not UTF-8".to_owned());
            }
            (false, _) if text.ends_with(".onnx") || text.ends_with(".landfall") => {
                let expected = "expected NAME/VERSION/model.onnx or model.landfall".to_owned();
                found.ignored.insert(text, expected);
            }
            (false, _) => {}
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<DirEntry>, String> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect);
    entries.map_err(|e| format!("cannot read {}: {e}", folder.display()))
}

fn unreadable(folder: &Path, problem: String) -> FoundModel {
    FoundModel {
        settings: Err(problem),
        versions: BTreeMap::new(),
        settling: false,
        ignored: Ignored::new(),
        folder: folder.to_owned(),
    }
}

fn scan_model(folder: &Path, settling: &mut Settling) -> Result<FoundModel, String> {
    let settings_path = folder.join("model.yaml");
    let settings = read_model_file(&settings_path).map_err(|e| e.to_string()).and_then(|file| {
        let checked = file.serving().map(|_| ());
        checked.map(|()| file).map_err(|e| format!("{}: {e}", settings_path.display()))
    });
    let mut model = FoundModel {
        settings,
        versions: BTreeMap::new(),
        settling: false,
        ignored: Ignored::new(),
        folder: folder.to_owned(),
    };
    for entry in entries(folder)? {
        let name = entry.file_name();
        let folder = entry.path();
        let Some(version) = name.to_str().and_then(version_number) else {
            if let Some(reason) = stray(&folder) {
                model.ignored.insert(name.to_string_lossy().into_owned(), reason);
            }
            continue;
        };
        let path = MODEL_FILES.iter().map(|file| folder.join(file)).find(|path| path.is_file());
        let Some(path) = path else {
            if settling.is_settled_folder(&folder) {
                let [package, onnx] = MODEL_FILES;
                let reason = format!("there is no file {onnx} or {package} in it");
                model.ignored.insert(version.to_string(), reason);
            }
            continue;
        };
        let mut look = Look::default();
        if let Ok(metadata) = std::fs::metadata(&settings_path) {
            look.add(&settings_path, &metadata);
        }
        look.add_folder(&folder)?;
        let revision = look.hasher.finish();
        if settling.is_settled(&folder, revision, look.newest) {
            let found = FoundVersion { path, revision };
            settling.settled.insert(folder, found.clone());
            model.versions.insert(version, found);
        } else {
            model.settling = true;
            if let Some(before) = settling.settled.get(&folder) {
                model.versions.insert(version, before.clone());
            }
        }
    }
    Ok(model)
}

/// Why an entry of a model's folder, which is no version, does nothing; `None` if nobody expects it
/// to.
fn stray(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy();
    let is_model = MODEL_FILES.contains(&&*name);
    if name.starts_with('.') || name == "model.yaml" {
        None
    } else if path.is_dir() {
        Some("not a version: expected a positive number without leading zeros".to_owned())
    } else if is_model {
        Some("expected it in a version's folder, such as 1/".to_owned())
    } else if name == "config.pbtxt" {
        Some("such files are not read: settings are in model.yaml".to_owned())
    } else {
        None
    }
}

/// A positive number without leading zeros.
fn version_number(name: &str) -> Option<u64> {
    let digits = name.bytes().all(|b| b.is_ascii_digit()) && !name.starts_with('0');
    if digits { name.parse().ok() } else { None }
}

/// What some files look like from outside.
struct Look {
    hasher: DefaultHasher,
    newest: SystemTime,
    files: usize,
}

impl Default for Look {
    fn default() -> Look {
        Look { hasher: DefaultHasher::new(), newest: SystemTime::UNIX_EPOCH, files: 0 }
    }
}

impl Look {
    fn add(&mut self, path: &Path, metadata: &Metadata) {
        let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        self.newest = self.newest.max(changed).max(status_change(metadata));
        (path, metadata.len(), changed, identity(metadata)).hash(&mut self.hasher);
        self.files += 1;
    }

    fn add_folder(&mut self, folder: &Path) -> Result<(), String> {
        let mut entries = entries(folder)?;
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            // A file that vanishes between two calls changes the next look.
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            self.add(&path, &metadata);
            if self.files > MAX_FILES {
                return Err(format!("{} has more than {MAX_FILES} files", folder.display()));
            }
        }
        Ok(())
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> u64 {
    0
}

/// Copying tools can set a file's modification time back, but not this one.
#[cfg(unix)]
fn status_change(metadata: &Metadata) -> SystemTime {
    use std::os::unix::fs::MetadataExt;
    let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
    let nanos = u32::try_from(metadata.ctime_nsec()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)
}

#[cfg(not(unix))]
fn status_change(_metadata: &Metadata) -> SystemTime {
    SystemTime::UNIX_EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_positive_numbers_are_versions() {
        assert_eq!(version_number("12"), Some(12));
        for other in ["0", "01", "1a", "-1", "", ".1", "99999999999999999999"] {
            assert_eq!(version_number(other), None, "{other}");
        }
    }

    #[test]
    fn what_nothing_is_made_of_is_named() {
        let folder = std::env::temp_dir().join(format!("landfall-scan-{}", std::process::id()));
        for path in ["a/1/model.onnx", "a/v2/model.onnx", "a/3/model.bin", "a/config.pbtxt"] {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        std::fs::write(folder.join("flat.onnx"), "x").unwrap();
        std::fs::write(folder.join("README.md"), "x").unwrap();
        let found = scan_folder(&folder, &mut Settling::new(Duration::ZERO)).unwrap();
        let models = found.models;
        assert_eq!(models["a"].versions.keys().collect::<Vec<_>>(), [&1]);
        let ignored: Vec<&str> = models["a"].ignored.keys().map(String::as_str).collect();
        assert_eq!(ignored, ["3", "config.pbtxt", "v2"]);
        assert_eq!(found.ignored.keys().collect::<Vec<_>>(), ["flat.onnx"]);
        assert!(found.ignored["flat.onnx"].contains("NAME/VERSION/model.onnx"));
        let mut unsettled = Settling::new(Duration::from_secs(3600));
        let models = scan_folder(&folder, &mut unsettled).unwrap().models;
        assert!(!models["a"].ignored.contains_key("3"), "it may still be filled");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn changing_files_are_not_settled() {
        let path = Path::new("m/1");
        let fresh = || SystemTime::now();
        let mut settling = Settling::new(Duration::from_millis(30));
        assert!(!settling.is_settled(path, 1, fresh()));
        std::thread::sleep(Duration::from_millis(40));
        assert!(!settling.is_settled(path, 2, fresh()), "it changed meanwhile");
        std::thread::sleep(Duration::from_millis(40));
        assert!(settling.is_settled(path, 2, fresh()));
        assert!(settling.is_settled(Path::new("m/2"), 1, SystemTime::UNIX_EPOCH));
        // The wall clock was set back: what seems to come from the future stands still as well.
        let future = SystemTime::now() + Duration::from_secs(3600);
        let path = Path::new("m/3");
        assert!(!settling.is_settled(path, 1, future));
        std::thread::sleep(Duration::from_millis(40));
        assert!(settling.is_settled(path, 1, future));
    }
}
