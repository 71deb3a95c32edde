//! Models, their versions, and which of them answers.
//!
//! [`policy`] decides what to load and unload; `model` does it, one step at a time per model, on
//! the caller's thread. Requests read a snapshot that is swapped as a whole. A version that leaves
//! the snapshot is not closed: requests that already hold it are answered, and it is freed when the
//! last of them lets go, so replacing a version loses none.

mod model;
mod policy;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::between;
use crate::lock::lock;
use crate::validate::quote;
use crate::{
    Clock, ErrorKind, LoadedModel, PredictError, PredictionSink, Reply, Request, Servable, Ticket,
    VersionRouter,
};

use model::{Model, Surroundings};
pub use policy::{Available, VersionPolicy};

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
        match self {
            VersionState::Loading => "LOADING",
            VersionState::Ready => "READY",
            VersionState::Unloading => "UNLOADING",
            VersionState::Unavailable => "UNAVAILABLE",
        }
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

/// What is declared of a model's versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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

impl<F> Loader for F
where
    F: Fn(&str, u64) -> Result<LoadedModel, String>,
{
    fn load(&self, model: &str, version: u64) -> Result<LoadedModel, String> {
        self(model, version)
    }
}

/// All models of a server. Reads (lookups, predictions) take no lock; loading and unloading of one
/// model are serialised and happen on the caller's thread.
pub struct Catalog {
    clock: Arc<dyn Clock>,
    router: Option<Arc<dyn VersionRouter>>,
    sink: Option<Arc<dyn PredictionSink>>,
    drain_limit: Duration,
    models: ArcSwap<BTreeMap<String, Arc<Model>>>,
    /// Held while the set of models changes.
    change: Mutex<()>,
    is_closed: AtomicBool,
}

impl Catalog {
    /// An empty catalog.
    pub fn new(clock: Arc<dyn Clock>) -> Catalog {
        Catalog {
            clock,
            router: None,
            sink: None,
            drain_limit: Duration::from_secs(30),
            models: ArcSwap::default(),
            change: Mutex::default(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Routes requests that name no version.
    pub fn with_router(self, router: Arc<dyn VersionRouter>) -> Catalog {
        Catalog { router: Some(router), ..self }
    }

    /// Reports finished predictions.
    pub fn with_sink(self, sink: Arc<dyn PredictionSink>) -> Catalog {
        Catalog { sink: Some(sink), ..self }
    }

    /// The longest that unloading waits for requests in flight (30 s unless told); afterwards the
    /// version counts as unloaded and is freed when its last request ends.
    pub fn with_drain_limit(self, limit: Duration) -> Catalog {
        Catalog { drain_limit: limit, ..self }
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
        self.step(model, settings, available, loader, false)
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
        self.step(model, settings, available, loader, true)
    }

    fn step(
        &self,
        name: &str,
        settings: &ModelSettings,
        available: &[Available],
        loader: &dyn Loader,
        retry_failed: bool,
    ) -> Reconciled {
        let done = loop {
            let model = self.get_or_insert(name);
            let around = self.around();
            let done = model.reconcile(settings, available, loader, retry_failed, &around);
            if let Some(done) = done {
                break done;
            }
        };
        if self.is_closed.load(Ordering::SeqCst) {
            self.close();
        }
        done
    }

    fn around(&self) -> Surroundings<'_> {
        Surroundings { clock: &self.clock, sink: self.sink.as_ref(), drain_limit: self.drain_limit }
    }

    fn get(&self, name: &str) -> Option<Arc<Model>> {
        self.models.load().get(name).cloned()
    }

    fn get_or_insert(&self, name: &str) -> Arc<Model> {
        let _change = lock(&self.change);
        if let Some(model) = self.get(name) {
            return model;
        }
        let model = Arc::new(Model::new(name));
        let mut models = BTreeMap::clone(&self.models.load());
        models.insert(name.to_owned(), model.clone());
        self.models.store(Arc::new(models));
        model
    }

    /// Takes every version of a model out of service, waits for requests in flight, and drops
    /// them. Returns false if the model is unknown. The index keeps the versions as unavailable.
    pub fn unload(&self, model: &str) -> bool {
        let Some(model) = self.get(model) else { return false };
        model.unload_all(&self.around());
        true
    }

    /// Forgets a model that has no version in service. Returns whether it was forgotten.
    pub fn forget(&self, model: &str) -> bool {
        let _change = lock(&self.change);
        if !self.get(model).is_some_and(|model| model.forget()) {
            return false;
        }
        let mut models = BTreeMap::clone(&self.models.load());
        models.remove(model);
        self.models.store(Arc::new(models));
        true
    }

    /// Records that a model as a whole cannot be served (bad configuration, no versions). Versions
    /// in service stay so. The next [`Catalog::reconcile`] clears it.
    pub fn report_unavailable(&self, model: &str, reason: &str) {
        self.get_or_insert(model).set_fault(reason);
    }

    /// Points a label at a ready version.
    pub fn set_label(&self, model: &str, label: &str, version: u64) -> Result<(), PredictError> {
        self.get(model).ok_or_else(|| unknown(model))?.set_label(label, version)
    }

    /// The servable that answers: `NotFound` for an unknown model, version or label, `Unavailable`
    /// while the model is loading. A request holds the handle only while it needs it: unloading
    /// waits for handles.
    pub fn lookup(
        &self,
        model: &str,
        choice: VersionChoice<'_>,
    ) -> Result<Arc<Servable>, PredictError> {
        self.route(model, choice, None)
    }

    fn route(
        &self,
        name: &str,
        choice: VersionChoice<'_>,
        key: Option<&str>,
    ) -> Result<Arc<Servable>, PredictError> {
        let models = self.models.load();
        let model = models.get(name).ok_or_else(|| unknown(name))?;
        let live = model.live.load();
        let found = match choice {
            VersionChoice::Version(version) => live.find(version),
            VersionChoice::Label(label) => {
                let version = live.labels.get(label).ok_or_else(|| {
                    let reason = format!("model '{name}' has no label {}", quote(label));
                    PredictError::new(ErrorKind::NotFound, reason)
                })?;
                live.find(*version)
            }
            VersionChoice::Default => {
                let routed = self.router.as_ref().and_then(|router| router.route(name, key));
                let routed = routed.and_then(|version| live.find(version));
                routed.or_else(|| live.versions.last().map(|(_, servable)| servable))
            }
        };
        found.cloned().ok_or_else(|| absent(model, choice))
    }

    /// Looks up (with the router's choice for `Default`) and submits; see [`Servable::submit`].
    pub fn submit(
        &self,
        model: &str,
        choice: VersionChoice<'_>,
        request: Request,
        done: impl FnOnce(Result<Reply, PredictError>) + Send + 'static,
    ) -> Ticket {
        match self.route(model, choice, request.key.as_deref()) {
            Ok(servable) => servable.submit(request, done),
            Err(error) => {
                done(Err(error));
                Ticket::spent()
            }
        }
    }

    /// Looks up and predicts on this thread if it can; see [`Servable::predict_blocking`].
    pub fn predict_blocking(
        &self,
        model: &str,
        choice: VersionChoice<'_>,
        request: Request,
    ) -> Result<Reply, PredictError> {
        self.route(model, choice, request.key.as_deref())?.predict_blocking(request)
    }

    /// Every version of every model, by model name and version.
    pub fn index(&self) -> Vec<VersionStatus> {
        self.models.load().values().flat_map(|model| model.statuses()).collect()
    }

    /// Every version of one model; `None` if the model is unknown.
    pub fn statuses(&self, model: &str) -> Option<Vec<VersionStatus>> {
        self.get(model).map(|model| model.statuses())
    }

    /// The ready versions of a model, ascending; empty if unknown.
    pub fn ready_versions(&self, model: &str) -> Vec<u64> {
        let Some(model) = self.get(model) else { return Vec::new() };
        model.live.load().versions.iter().map(|(version, _)| *version).collect()
    }

    /// Labels of a model and the versions they point at.
    pub fn labels(&self, model: &str) -> BTreeMap<String, u64> {
        self.get(model).map(|model| model.live.load().labels.clone()).unwrap_or_default()
    }

    /// What was declared of a model when it was last brought in line; `None` if it is unknown.
    pub fn settings(&self, model: &str) -> Option<ModelSettings> {
        self.get(model).map(|model| model.settings())
    }

    /// Every servable in service, by model name and version: for statistics and metrics.
    pub fn servables(&self) -> Vec<Arc<Servable>> {
        let models = self.models.load();
        let live = models.values().map(|model| model.live.load_full());
        live.flat_map(|live| live.versions.iter().map(|(_, s)| s.clone()).collect::<Vec<_>>())
            .collect()
    }

    /// Refuses new requests everywhere with `Unavailable`, at once; versions that become ready
    /// later refuse them too. Call before [`Catalog::drain`].
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.servables().iter().for_each(|servable| servable.close());
    }

    /// After [`Catalog::close`]: waits until every admitted request has its answer, at most `limit`
    /// altogether; versions that left service count too. Returns whether that happened.
    pub fn drain(&self, limit: Duration) -> bool {
        let start_ns = self.clock.now_ns();
        let left = || limit.saturating_sub(between(start_ns, self.clock.now_ns()));
        let models: Vec<Arc<Model>> = self.models.load().values().cloned().collect();
        self.servables().iter().all(|servable| servable.drain(left()))
            && models.iter().all(|model| model.wait_for_leaving(left()))
    }
}

fn unknown(name: &str) -> PredictError {
    let reason = format!("Request for unknown model: {} is not found", quote(name));
    PredictError::new(ErrorKind::NotFound, reason)
}

fn absent(model: &Model, choice: VersionChoice<'_>) -> PredictError {
    let name = &model.name;
    if model.is_loading() {
        let reason = format!("model '{name}' is loading; try again later");
        return PredictError::new(ErrorKind::Unavailable, reason);
    }
    let mut reason = match choice {
        VersionChoice::Default => format!("model '{name}' has no available versions"),
        VersionChoice::Version(version) => {
            format!("version {version} of model '{name}' is not available")
        }
        VersionChoice::Label(label) => {
            format!("the version of model '{name}' labelled {} is not available", quote(label))
        }
    };
    if let Some(cause) = model.cause(choice) {
        reason = format!("{reason}: {cause}");
    }
    PredictError::new(ErrorKind::NotFound, reason)
}
