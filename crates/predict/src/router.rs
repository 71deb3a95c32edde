//! Which version answers a request that names none.

/// Chooses versions. Canary releases and experiments implement this; the catalog asks it only for
/// requests that name neither a version nor a label.
pub trait VersionRouter: Send + Sync {
    /// The version for a request to `model` whose caller gave `key` (the same key always gets the
    /// same answer while the routing rule is unchanged). `None`, or a version that is not ready,
    /// leaves the request to the default version: the highest that is ready.
    fn route(&self, model: &str, key: Option<&str>) -> Option<u64>;
}
