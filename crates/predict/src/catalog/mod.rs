//! Models, their versions, and which of them answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    Clock, Executable, PredictError, PredictionSink, Reply, Request, Servable, ServingConfig,
    Steps, Ticket, VersionRouter,
};

/// Where a version stands. Names are those of the OIP repository extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersionState {
    /// Being loaded or warmed up; answers nothing yet.
    Loading,
    /// Answers requests.
    Ready,
    /// Takes no new requests; finishes those it has.
    Unloading,
    /// Answers nothing; the status says why.
    Unavailable,
}

impl VersionState {
    /// `LOADING`, `READY`, `UNLOADING` or `UNAVAILABLE`.
    pub fn name(self) -> &'static str {
        todo!()
    }
}

/// One line of the repository index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionStatus {
    /// Name of the model.
    pub model: String,
    /// The version; `None` where the fault lies with the model as a whole, such as a bad
    /// configuration or no version at all.
    pub version: Option<u64>,
    /// Where it stands.
    pub state: VersionState,
    /// Why it is unavailable, or why the newest attempt to replace a ready version failed. Empty
    /// otherwise.
    pub reason: String,
}

/// Which of the versions that exist should be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionPolicy {
    /// The n highest.
    Latest(usize),
    /// Every one.
    All,
    /// These, where they exist.
    Specific(Vec<u64>),
}

/// A version that exists in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Available {
    /// Its number.
    pub version: u64,
    /// A digest of its content: a different one means that the version is to be replaced.
    pub revision: u64,
}

/// What is declared of a model's versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSettings {
    /// Which versions to serve.
    pub versions: VersionPolicy,
    /// Names for versions, such as `stable`.
    pub labels: BTreeMap<String, u64>,
}

/// Which version a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionChoice<'a> {
    /// Whatever the router says, else the highest that is ready.
    Default,
    /// This one.
    Version(u64),
    /// The one that this label points at.
    Label(&'a str),
}

/// What loading a version gives.
pub struct LoadedModel {
    /// The compiled model.
    pub executable: Arc<dyn Executable>,
    /// Declared pre- and post-processing, if any.
    pub steps: Option<Arc<dyn Steps>>,
    /// How to serve it.
    pub config: ServingConfig,
    /// What the protocol calls the platform, such as `onnx` or `landfall`.
    pub platform: String,
}

/// Loads versions. Called on the thread that asks the catalog to load; never while a lock is held
/// that serving needs.
pub trait Loader {
    /// Loads one version; the error says which file and why.
    fn load(&self, model: &str, version: u64) -> Result<LoadedModel, String>;
}

/// What a call to [`Catalog::load`] or [`Catalog::reconcile`] did, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// Versions that became ready.
    pub loaded: Vec<u64>,
    /// Versions that were taken out of service.
    pub unloaded: Vec<u64>,
    /// Versions that failed to load, and why. What served before still serves.
    pub failed: Vec<(u64, String)>,
    /// Declared labels that were not moved because their version is not ready, and why.
    pub refused_labels: Vec<(String, String)>,
}

/// All models of a server. Reads (lookups, predictions) take no lock; loading and unloading of one
/// model are serialised and happen on the caller's thread.
pub struct Catalog {}

impl Catalog {
    /// An empty catalog.
    pub fn new(clock: Arc<dyn Clock>) -> Catalog {
        todo!()
    }

    /// Routes requests that name no version.
    pub fn with_router(self, router: Arc<dyn VersionRouter>) -> Catalog {
        todo!()
    }

    /// Reports finished predictions.
    pub fn with_sink(self, sink: Arc<dyn PredictionSink>) -> Catalog {
        todo!()
    }

    /// The longest that unloading waits for requests in flight (30 s unless told); afterwards the
    /// version leaves the index and ends when its last request does.
    pub fn with_drain_limit(self, limit: Duration) -> Catalog {
        todo!()
    }

    /// Makes the served versions of a model follow what exists: new versions are loaded and warmed
    /// up before old ones are unloaded, and a version whose revision changed is replaced in one
    /// step. Versions that failed are tried again only when their revision changes. Blocks until
    /// nothing is left to do; concurrent calls for one model run one after another.
    pub fn reconcile(
        &self,
        model: &str,
        settings: &ModelSettings,
        available: &[Available],
        loader: &dyn Loader,
    ) -> Reconciled {
        todo!()
    }

    /// Like [`Catalog::reconcile`], for an explicit request to load: failed versions are tried
    /// again.
    pub fn load(
        &self,
        model: &str,
        settings: &ModelSettings,
        available: &[Available],
        loader: &dyn Loader,
    ) -> Reconciled {
        todo!()
    }

    /// Takes every version of a model out of service, waits for requests in flight, and drops
    /// them. Returns false if the model is unknown. The index keeps the versions as unavailable.
    pub fn unload(&self, model: &str) -> bool {
        todo!()
    }

    /// Forgets a model that has no version in service. Returns whether it was forgotten.
    pub fn forget(&self, model: &str) -> bool {
        todo!()
    }

    /// Records that a model as a whole cannot be served (bad configuration, no versions). Versions
    /// in service stay so.
    pub fn report_unavailable(&self, model: &str, reason: &str) {
        todo!()
    }

    /// Points a label at a ready version.
    pub fn set_label(&self, model: &str, label: &str, version: u64) -> Result<(), PredictError> {
        todo!()
    }

    /// The servable that answers: `NotFound` for an unknown model, version or label, `Unavailable`
    /// while the model is loading. A request holds the handle only while it needs it: unloading
    /// waits for handles.
    pub fn lookup(
        &self,
        model: &str,
        choice: VersionChoice<'_>,
    ) -> Result<Arc<Servable>, PredictError> {
        todo!()
    }

    /// Looks up (with the router's choice for `Default`) and submits; see [`Servable::submit`].
    pub fn submit(
        &self,
        model: &str,
        choice: VersionChoice<'_>,
        request: Request,
        done: impl FnOnce(Result<Reply, PredictError>) + Send + 'static,
    ) -> Ticket {
        todo!()
    }

    /// Looks up and predicts on this thread if it can; see [`Servable::predict_blocking`].
    pub fn predict_blocking(
        &self,
        model: &str,
        choice: VersionChoice<'_>,
        request: Request,
    ) -> Result<Reply, PredictError> {
        todo!()
    }

    /// Every version of every model, by model name and version.
    pub fn index(&self) -> Vec<VersionStatus> {
        todo!()
    }

    /// Every version of one model; `None` if the model is unknown.
    pub fn statuses(&self, model: &str) -> Option<Vec<VersionStatus>> {
        todo!()
    }

    /// The ready versions of a model, ascending; empty if unknown.
    pub fn ready_versions(&self, model: &str) -> Vec<u64> {
        todo!()
    }

    /// Active labels of a model and the versions they point at.
    pub fn labels(&self, model: &str) -> BTreeMap<String, u64> {
        todo!()
    }

    /// Every servable in service, by model name and version: for statistics and metrics.
    pub fn servables(&self) -> Vec<Arc<Servable>> {
        todo!()
    }

    /// Refuses new requests everywhere with `Unavailable`, at once. Call before [`Catalog::drain`].
    pub fn close(&self) {
        todo!()
    }

    /// After [`Catalog::close`]: waits until no request is queued or running, at most `limit`.
    /// Returns whether that happened.
    pub fn drain(&self, limit: Duration) -> bool {
        todo!()
    }
}
