//! The server's YAML file.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::config::{MAX_THREADS, ModelFile, ServeConfig, SingleModel};
use crate::serving::RepositoryControl;

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file's content is wrong.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
}

/// The file as written. Every field is optional; unknown ones are errors.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeFile {
    #[serde(default, deserialize_with = "listener")]
    http: Option<SocketAddr>,
    #[serde(default, deserialize_with = "listener")]
    grpc: Option<SocketAddr>,
    #[serde(default, deserialize_with = "listener")]
    admin: Option<SocketAddr>,
    repository: Option<PathBuf>,
    #[serde(default)]
    pub(super) models: Vec<ModelEntry>,
    map_files: Option<bool>,
    poll_seconds: Option<f64>,
    settle_seconds: Option<f64>,
    repository_control: Option<ControlName>,
    max_body_bytes: Option<usize>,
    max_connections: Option<usize>,
    read_timeout_seconds: Option<f64>,
    idle_timeout_seconds: Option<f64>,
    compress_min_bytes: Option<usize>,
    drain_delay_seconds: Option<f64>,
    drain_limit_seconds: Option<f64>,
    workers: Option<usize>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ControlName {
    Off,
    Admin,
    Public,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelEntry {
    name: String,
    path: PathBuf,
    version: Option<u64>,
    #[serde(default)]
    settings: ModelFile,
}

fn listener<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    address(&text).map(Some).map_err(D::Error::custom)
}

/// Where to listen, as users write it.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "expected an IP address and a port, such as 127.0.0.1:9000 for this machine or \
             0.0.0.0:9000 for all, found '{text}'"
        )
    })
}

pub(super) fn read_yaml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
    serde_saphyr::from_str(&text).map_err(|error| {
        let problem = error.to_string();
        let problem = problem.strip_prefix("error: ").unwrap_or(&problem).to_owned();
        ConfigError::Content { path: path.to_owned(), problem }
    })
}

/// Reads a server configuration over the defaults. Paths in it are relative to the file.
pub fn read_serve_file(path: &Path) -> Result<ServeConfig, ConfigError> {
    let file: ServeFile = read_yaml(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    file.over_defaults(folder)
        .map_err(|problem| ConfigError::Content { path: path.to_owned(), problem })
}

impl ServeFile {
    pub(super) fn over_defaults(self, folder: &Path) -> Result<ServeConfig, String> {
        let mut config = ServeConfig::default();
        set(&mut config.http, self.http);
        set(&mut config.grpc, self.grpc);
        set(&mut config.admin, self.admin);
        if let Some(found) = self.workers.filter(|found| !(1..=MAX_THREADS).contains(found)) {
            return Err(format!(
                "workers: expected 1 to {MAX_THREADS}, found {found}; leave it out for one per core"
            ));
        }
        set(&mut config.workers, self.workers);
        set(&mut config.map_files, self.map_files);
        set(&mut config.limits.max_body_bytes, self.max_body_bytes);
        set(&mut config.limits.max_connections, self.max_connections);
        set(&mut config.limits.compress_min_bytes, self.compress_min_bytes);
        set_seconds(&mut config.poll, "poll_seconds", self.poll_seconds)?;
        set_seconds(&mut config.settle, "settle_seconds", self.settle_seconds)?;
        let read_timeout = &mut config.limits.read_timeout;
        set_seconds(read_timeout, "read_timeout_seconds", self.read_timeout_seconds)?;
        let idle_timeout = &mut config.limits.idle_timeout;
        set_seconds(idle_timeout, "idle_timeout_seconds", self.idle_timeout_seconds)?;
        set_seconds(&mut config.drain_delay, "drain_delay_seconds", self.drain_delay_seconds)?;
        set_seconds(&mut config.drain_limit, "drain_limit_seconds", self.drain_limit_seconds)?;
        config.repository_control = match self.repository_control {
            None => config.repository_control,
            Some(ControlName::Off) => RepositoryControl::Off,
            Some(ControlName::Admin) => RepositoryControl::Admin,
            Some(ControlName::Public) => RepositoryControl::Public,
        };
        config.repository = self.repository.map(|path| folder.join(path));
        let models = self.models.into_iter().map(|entry| entry.single(folder));
        config.models = models.collect::<Result<_, _>>()?;
        let mut names = BTreeSet::new();
        if let Some(twice) = config.models.iter().find(|model| !names.insert(&model.name)) {
            return Err(format!(
                "models: '{}' is given twice; several versions of a model go into a repository \
                 folder",
                twice.name
            ));
        }
        let limits = &config.limits;
        for (field, is_zero) in [
            ("max_connections", limits.max_connections == 0),
            ("max_body_bytes", limits.max_body_bytes == 0),
            ("read_timeout_seconds", limits.read_timeout.is_zero()),
            ("idle_timeout_seconds", limits.idle_timeout.is_zero()),
        ] {
            if is_zero {
                return Err(format!("{field}: expected more than 0"));
            }
        }
        Ok(config)
    }
}

impl ModelEntry {
    fn single(self, folder: &Path) -> Result<SingleModel, String> {
        let ModelEntry { name, path, version, settings } = self;
        let is_odd = |c: char| matches!(c, '/' | '\\') || c.is_control();
        if name.is_empty() || name.trim() != name || name.contains(is_odd) {
            return Err(format!(
                "models: {name:?} is no name: it must not be empty, begin or end with a blank, or \
                 have slashes or control characters, as it is part of paths like \
                 /v2/models/NAME/infer"
            ));
        }
        if version == Some(0) {
            return Err(format!("models: '{name}': version: expected 1 or more, found 0"));
        }
        settings.serving().map_err(|problem| format!("models: '{name}': {problem}"))?;
        let path = folder.join(path);
        Ok(SingleModel { name, version: version.unwrap_or(1), path, settings })
    }
}

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

fn set_seconds(target: &mut Duration, field: &str, seconds: Option<f64>) -> Result<(), String> {
    let Some(seconds) = seconds else { return Ok(()) };
    *target = Duration::try_from_secs_f64(seconds)
        .map_err(|_| format!("{field}: expected a non-negative number, found {seconds}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ServeConfig, String> {
        let file: ServeFile = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        file.over_defaults(Path::new("/etc/landfall"))
    }

    #[test]
    fn fields_replace_defaults() {
        let config = parse(
            "http: 127.0.0.1:9000\nrepository: models\nrepository_control: public\n\
             poll_seconds: 0.5\nmodels:\n  - name: a\n    path: a.onnx\n    settings:\n      \
             batching: required\n      max_delay_us: 500\n",
        )
        .unwrap();
        assert_eq!(config.http.port(), 9000);
        assert_eq!(config.grpc.port(), 8001);
        assert_eq!(config.repository, Some(PathBuf::from("/etc/landfall/models")));
        assert_eq!(config.repository_control, RepositoryControl::Public);
        assert_eq!(config.models[0].version, 1);
        let serving = config.models[0].settings.serving().unwrap();
        assert_eq!(serving.max_delay, Duration::from_micros(500));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(parse("htpp: 1").unwrap_err().contains("htpp"));
        assert!(parse("poll_seconds: -1").unwrap_err().contains("poll_seconds"));
        assert!(parse("models: [{name: a}]").unwrap_err().contains("path"));
        for zero in ["max_connections", "max_body_bytes", "read_timeout_seconds"] {
            let error = parse(&format!("{zero}: 0")).unwrap_err();
            assert_eq!(error, format!("{zero}: expected more than 0"));
        }
        assert!(address("[::1]:80").is_ok());
        assert!(address(":9000").unwrap_err().contains("127.0.0.1:9000"));
        assert!(parse("http: localhost").unwrap_err().contains("such as 127.0.0.1:9000"));
        assert!(parse("workers: 100000").unwrap_err().contains("workers: expected 1 to 1024"));
        assert!(parse("workers: 0").unwrap_err().contains("workers: expected 1 to 1024"));
        for name in ["''", "a/b", "' a'", "'a\\b'", "\"a\\n\""] {
            let error = parse(&format!("models: [{{name: {name}, path: a.onnx}}]")).unwrap_err();
            assert!(error.contains("is no name"), "{name}: {error}");
        }
        let error = parse("models: [{name: a, path: a.onnx, version: 0}]").unwrap_err();
        assert!(error.contains("version: expected 1 or more"), "{error}");
        let zero = "models: [{name: a, path: a.onnx, settings: {versions: {latest: 0}}}]";
        assert!(parse(zero).unwrap_err().contains("'a': versions"));
        let twice = "models: [{name: a, path: a.onnx}, {name: a, path: b.onnx, version: 2}]";
        assert!(parse(twice).unwrap_err().contains("'a' is given twice"));
    }
}
