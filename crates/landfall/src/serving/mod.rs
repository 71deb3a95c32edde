//! The running server, free of any protocol.

mod health;
mod infer;
mod lifecycle;
mod listen;
mod model_config;
mod request_id;
mod socket;
mod statistics;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use landfall_predict::{Catalog, PredictError};

use crate::metrics::Metrics;
use crate::repository::Repository;

pub use health::{Health, Phase};
pub use infer::{Choice, InferOutcome, infer};
pub use lifecycle::{Abandoned, Running, start};
pub use listen::{Listeners, Protocol, serve_connections};
pub use model_config::{config_json, config_message, metadata_shape};
pub use request_id::{REQUEST_ID, RequestIds, given_id};
pub use statistics::{statistics_json, statistics_messages};

/// The protocol extensions that work here, as server metadata lists them.
pub const EXTENSIONS: [&str; 7] = [
    "classification",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
];

/// The server's name in its metadata.
pub const SERVER_NAME: &str = "landfall";
/// The server's version in its metadata.
pub const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Which listeners accept requests to load and unload models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RepositoryControl {
    /// None: only the folder decides.
    Off,
    /// The admin listener.
    #[default]
    Admin,
    /// The public listeners too: whoever can predict can also load and unload.
    Public,
}

/// Bounds on what one request may cost before a model sees it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest body in bytes, compressed and decompressed alike.
    pub max_body_bytes: usize,
    /// The longest that reading a request's body may take.
    pub read_timeout: Duration,
    /// How long a connection may stand without a request, take to send a request's head, or leave
    /// a reply unread.
    pub idle_timeout: Duration,
    /// Connections open at one time on one listener; more wait in the system's backlog.
    pub max_connections: usize,
    /// Replies smaller than this are not compressed.
    pub compress_min_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_body_bytes: 64 << 20,
            read_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            max_connections: 4096,
            compress_min_bytes: 1024,
        }
    }
}

/// What every listener's handlers share.
pub struct Server {
    /// Models and versions in service.
    pub catalog: Arc<Catalog>,
    /// The models that could be loaded.
    pub repository: Arc<Repository>,
    /// Whether the server lives and takes requests.
    pub health: Health,
    /// Request counters.
    pub metrics: Metrics,
    /// Names for requests that come without.
    pub request_ids: RequestIds,
    /// Bounds on requests.
    pub limits: Limits,
    /// Who may load and unload.
    pub repository_control: RepositoryControl,
}

impl Server {
    /// Readiness follows what is in service.
    fn look(&self) {
        self.health.set_looked(self.repository.missing().is_empty());
    }

    /// Loads a model because a caller asks for it.
    pub fn load(&self, model: &str) -> Result<(), PredictError> {
        let loaded = self.repository.load(model);
        if self.repository.missing().is_empty() {
            self.health.set_looked(true);
        }
        loaded
    }
}
