//! The model repository: what could be served, and bringing the catalog in line with it.
//!
//! A folder `<name>/<version>/model.onnx` or `model.landfall`, perhaps with a `<name>/model.yaml`.
//! It is polled rather than watched, because change notifications do not reach network file
//! systems and mounted volumes. A version is loaded only when its files have stood still for a
//! while, so a copy in progress is not mistaken for a model.
//!
//! A name from a request is only ever compared with names found in the folder; it never becomes a
//! path.

mod said;
mod scan;
mod watch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use landfall_predict::{
    Available, Catalog, ErrorKind, LoadedModel, Loader, PredictError, Reconciled,
};
use landfall_tensor::FileAccess;

use crate::config::{ModelFile, ServeConfig, SingleModel};
use crate::loading::OpenModel;

pub use scan::{Found, FoundModel, FoundVersion, Ignored, Settling, scan_folder};
pub use watch::Watcher;

use said::{Problems, Said, Topic};

/// The models that could be served.
pub struct Repository {
    catalog: Arc<Catalog>,
    opener: Arc<dyn OpenModel>,
    folder: Option<PathBuf>,
    singles: Vec<SingleModel>,
    files: FileAccess,
    settling: Mutex<Settling>,
    /// Models that a caller unloaded: only a caller loads them again.
    unloaded: Mutex<BTreeSet<String>>,
    /// Models found in the newest look at the folder.
    known: Mutex<BTreeSet<String>>,
    /// Whether the folder was read and its models brought in line, once.
    looked: AtomicBool,
    said: Said,
}

/// Stands for the repository as a whole where problems are kept by model.
const WHOLE: &str = "";

impl Repository {
    /// The repository that a configuration declares: a folder, single files, or both.
    pub fn new(
        catalog: Arc<Catalog>,
        opener: Arc<dyn OpenModel>,
        config: &ServeConfig,
    ) -> Repository {
        Repository {
            catalog,
            opener,
            folder: config.repository.clone(),
            singles: config.models.clone(),
            files: if config.map_files { FileAccess::Mapped } else { FileAccess::Copied },
            settling: Mutex::new(Settling::new(config.settle)),
            unloaded: Mutex::default(),
            known: Mutex::default(),
            looked: AtomicBool::new(false),
            said: Said::default(),
        }
    }

    /// Everything there is now. The error says why the folder cannot be read.
    pub fn scan(&self) -> Result<Found, String> {
        let mut found = match &self.folder {
            Some(folder) => {
                let mut settling = lock(&self.settling);
                scan_folder(folder, &mut settling)?
            }
            None => Found::default(),
        };
        for single in &self.singles {
            found.models.insert(single.name.clone(), scan::single(single));
        }
        Ok(found)
    }

    /// Brings the catalog in line with what there is. Models load side by side; returns when all
    /// have succeeded or failed. Whether some version still has to stand still for longer.
    pub fn reconcile(&self) -> Result<bool, String> {
        let found = self.scan();
        self.report_whole(&found);
        let found = found?.models;
        let unloaded = lock(&self.unloaded).clone();
        self.warn_of_clashes();
        let next: BTreeSet<String> = found.keys().cloned().collect();
        let gone: Vec<String> = lock(&self.known).difference(&next).cloned().collect();
        *lock(&self.known) = next;
        let wanted: Vec<_> = found.iter().filter(|(name, _)| !unloaded.contains(*name)).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for group in wanted.chunks(threads) {
            std::thread::scope(|scope| {
                for (name, model) in group {
                    scope.spawn(|| self.follow(name, model));
                }
            });
        }
        for name in gone {
            tracing::info!(model = name, "model left the repository");
            self.catalog.unload(&name);
            self.catalog.forget(&name);
            self.said.news(&name, Problems::new());
        }
        self.looked.store(true, Ordering::SeqCst);
        Ok(found.values().any(|model| model.settling))
    }

    /// Brings one model in line, unless a caller unloads it meanwhile.
    fn follow(&self, name: &str, model: &FoundModel) {
        self.apply(name, model, false);
        if lock(&self.unloaded).contains(name) {
            self.catalog.unload(name);
        }
    }

    /// What keeps the server from being ready: the folder, until it was looked at once, and every
    /// model given as a file that has no version in service. Each with its reason.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if !self.looked.load(Ordering::SeqCst) {
            let problem = self.said.last(WHOLE).remove(&Topic::Whole);
            missing.push(problem.unwrap_or_else(|| "models are still loading".to_owned()));
        }
        for SingleModel { name, .. } in &self.singles {
            if self.catalog.ready_versions(name).is_empty() {
                let statuses = self.catalog.statuses(name).unwrap_or_default();
                let reason = statuses.into_iter().map(|s| s.reason).find(|r| !r.is_empty());
                let reason = reason.unwrap_or_else(|| "not loaded".to_owned());
                missing.push(format!("model '{name}': {reason}"));
            }
        }
        missing
    }

    /// Says, once, that the folder cannot be read or is empty, and what in it is no model.
    fn report_whole(&self, found: &Result<Found, String>) {
        let problem = match (found, &self.folder) {
            (Err(problem), _) => Some(problem.clone()),
            (Ok(found), Some(folder)) if found.models.is_empty() => Some(format!(
                "{} has no models: expected NAME/VERSION/model.onnx or model.landfall in it",
                folder.display()
            )),
            _ => None,
        };
        let mut problems = found.as_ref().map(|found| entries(&found.ignored)).unwrap_or_default();
        problems.extend(problem.map(|problem| (Topic::Whole, problem)));
        for (topic, problem) in self.said.news(WHOLE, problems) {
            match (topic, found) {
                (Topic::Entry(entry), _) => tracing::warn!(entry, reason = problem, "ignored"),
                (_, Ok(_)) => tracing::warn!("{problem}"),
                (_, Err(_)) => tracing::error!("cannot look at the model repository: {problem}"),
            }
        }
    }

    /// Says, once, why a model as a whole cannot be served.
    fn report_fault(&self, name: &str, reason: &str) {
        self.catalog.report_unavailable(name, reason);
        let problems = Problems::from([(Topic::Whole, reason.to_owned())]);
        for reason in self.said.news(name, problems).into_values() {
            tracing::error!(model = name, reason, "cannot serve");
        }
    }

    /// Says what was done, and problems that are new. Labels wait for versions that still settle.
    fn report(&self, name: &str, model: &FoundModel, done: &Reconciled) {
        for version in &done.loaded {
            tracing::info!(model = name, version, "ready");
        }
        for version in &done.unloaded {
            tracing::info!(model = name, version, "unloaded");
        }
        for (version, reason) in &done.failed {
            tracing::error!(model = name, version, reason, "cannot load");
        }
        let mut problems = entries(&model.ignored);
        if !model.settling {
            let refused = done.refused_labels.iter();
            problems.extend(
                refused.map(|(label, reason)| (Topic::Label(label.clone()), reason.clone())),
            );
        }
        for (topic, reason) in self.said.news(name, problems) {
            match topic {
                Topic::Label(label) => {
                    tracing::warn!(model = name, label, reason, "label not moved")
                }
                Topic::Entry(entry) => tracing::warn!(model = name, entry, reason, "ignored"),
                Topic::Whole => {}
            }
        }
    }

    /// A file that the configuration names wins over a folder of the same name. Said once.
    fn warn_of_clashes(&self) {
        let known = lock(&self.known);
        for single in self.singles.iter().filter(|single| !known.contains(&single.name)) {
            let clash = self.folder.as_ref().map(|folder| folder.join(&single.name));
            if let Some(folder) = clash.filter(|folder| folder.is_dir()) {
                tracing::warn!(
                    model = single.name,
                    served = %single.path.display(),
                    ignored = %folder.display(),
                    "two models have one name"
                );
            }
        }
    }

    fn apply(&self, name: &str, model: &FoundModel, explicit: bool) -> Option<Reconciled> {
        let file = match &model.settings {
            Ok(file) => file,
            Err(problem) => {
                self.report_fault(name, problem);
                return None;
            }
        };
        let available: Vec<Available> = model
            .versions
            .iter()
            .map(|(&version, found)| Available { version, revision: found.revision })
            .collect();
        let loader = FolderLoader { repository: self, model, file };
        let settings = file.settings();
        let done = if explicit {
            self.catalog.load(name, &settings, &available, &loader)
        } else {
            self.catalog.reconcile(name, &settings, &available, &loader)
        };
        if model.versions.is_empty() && !model.settling {
            self.report_fault(name, &model.nothing_found());
        } else {
            self.report(name, model, &done);
        }
        Some(done)
    }

    /// Loads a model because a caller asks for it.
    pub fn load(&self, name: &str) -> Result<(), PredictError> {
        let unavailable = |problem| PredictError::new(ErrorKind::Unavailable, problem);
        let found = self.scan().map_err(unavailable)?;
        let Some(model) = found.models.get(name) else {
            let message = format!("model '{name}' is not in the repository");
            return Err(PredictError::new(ErrorKind::NotFound, message));
        };
        lock(&self.unloaded).remove(name);
        if let Err(problem) = &model.settings {
            self.report_fault(name, problem);
            return Err(PredictError::new(ErrorKind::InvalidArgument, problem.clone()));
        }
        let done = self.apply(name, model, true).unwrap_or_default();
        if let Some((version, reason)) = done.failed.first() {
            let message = format!("cannot load model '{name}' version {version}: {reason}");
            return Err(PredictError::new(ErrorKind::Internal, message));
        }
        if self.catalog.ready_versions(name).is_empty() {
            let message =
                format!("model '{name}' has no version to load: {}", model.nothing_found());
            return Err(PredictError::new(ErrorKind::NotFound, message));
        }
        Ok(())
    }

    /// Takes a model out of service because a caller asks for it; unknown names are ignored.
    /// Returns when its requests in flight are done.
    pub fn unload(&self, name: &str) {
        if lock(&self.known).contains(name) {
            lock(&self.unloaded).insert(name.to_owned());
        }
        if self.catalog.unload(name) {
            tracing::info!(model = name, "unloaded");
        }
    }
}

/// What is said of entries that are ignored.
fn entries(ignored: &Ignored) -> Problems {
    let entry = |(entry, reason): (&String, &String)| (Topic::Entry(entry.clone()), reason.clone());
    ignored.iter().map(entry).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct FolderLoader<'r> {
    repository: &'r Repository,
    model: &'r FoundModel,
    file: &'r ModelFile,
}

impl Loader for FolderLoader<'_> {
    fn load(&self, _model: &str, version: u64) -> Result<LoadedModel, String> {
        let found = self.model.versions.get(&version);
        let found = found.ok_or_else(|| format!("version {version} is gone"))?;
        let Repository { opener, files, .. } = self.repository;
        let mut loaded = opener.open(&found.path, *files, self.file)?;
        let signature = match &loaded.steps {
            Some(steps) => steps.signature(),
            None => loaded.executable.signature(),
        };
        loaded.config.warm_up = self.file.warm_up(signature)?;
        Ok(loaded)
    }
}
