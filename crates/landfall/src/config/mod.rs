//! What users declare. Flags win over environment variables, those over the file, that over the
//! defaults.

#[cfg(test)]
mod documented;
mod file;
mod model;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use file::{ConfigError, ServeFile, address, read_serve_file};
pub use model::{ModelFile, WarmUp, read_model_file};

use crate::serving::{Limits, RepositoryControl};

/// Threads that any setting may ask for.
pub const MAX_THREADS: usize = 1024;

/// A model given as one file.
#[derive(Debug, Clone)]
pub struct SingleModel {
    /// The name callers use.
    pub name: String,
    /// The version callers see.
    pub version: u64,
    /// The `.onnx` or `.landfall` file.
    pub path: PathBuf,
    /// How to serve it.
    pub settings: ModelFile,
}

/// Everything `landfall serve` needs to know.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Where gRPC listens.
    pub grpc: SocketAddr,
    /// Where the status page, control and metrics listen.
    pub admin: SocketAddr,
    /// The model repository folder.
    pub repository: Option<PathBuf>,
    /// Models given one by one.
    pub models: Vec<SingleModel>,
    /// Whether model files are mapped rather than read; then none may be overwritten in place.
    pub map_files: bool,
    /// Time between looks at the repository folder; zero to look only once.
    pub poll: Duration,
    /// How long a version's files must stand still before it is loaded.
    pub settle: Duration,
    /// Who may load and unload.
    pub repository_control: RepositoryControl,
    /// Bounds on requests.
    pub limits: Limits,
    /// How long readiness is false before the listeners close, on SIGTERM.
    pub drain_delay: Duration,
    /// The longest that requests in flight are waited for.
    pub drain_limit: Duration,
    /// Threads that serve sockets; 0 for one per core.
    pub workers: usize,
}

impl Default for ServeConfig {
    fn default() -> ServeConfig {
        ServeConfig {
            http: SocketAddr::from(([0, 0, 0, 0], 8000)),
            grpc: SocketAddr::from(([0, 0, 0, 0], 8001)),
            admin: SocketAddr::from(([127, 0, 0, 1], 8002)),
            repository: None,
            models: Vec::new(),
            map_files: false,
            poll: Duration::from_secs(2),
            settle: Duration::from_secs(1),
            repository_control: RepositoryControl::default(),
            limits: Limits::default(),
            drain_delay: Duration::from_secs(1),
            drain_limit: Duration::from_secs(30),
            workers: 0,
        }
    }
}
