//! One model: its versions, their states, and the steps that change them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::policy::{Action, Available, Standing, next_action};
use super::{Loader, ModelSettings, Reconciled, VersionChoice, VersionState, VersionStatus};
use crate::departure::Departure;
use crate::lock::{contain, lock};
use crate::validate::quote;
use crate::{Clock, ErrorKind, PredictError, PredictionSink, Servable};

/// Versions out of service that the index remembers per model.
const MAX_REMEMBERED: usize = 16;

/// What requests read: replaced as a whole, never changed.
#[derive(Clone, Default)]
pub(crate) struct Live {
    /// Ready versions, ascending.
    pub(crate) versions: Vec<(u64, Arc<Servable>)>,
    pub(crate) labels: BTreeMap<String, u64>,
}

impl Live {
    pub(crate) fn find(&self, version: u64) -> Option<&Arc<Servable>> {
        let index = self.versions.binary_search_by_key(&version, |(v, _)| *v).ok()?;
        Some(&self.versions[index].1)
    }
}

struct Record {
    state: VersionState,
    reason: String,
    serving: Option<u64>,
    failed: Option<u64>,
}

#[derive(Default)]
struct Book {
    versions: BTreeMap<u64, Record>,
    /// Why the model as a whole cannot be served.
    fault: String,
    /// What was declared last.
    settings: ModelSettings,
}

/// One model of the catalog.
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) live: ArcSwap<Live>,
    /// Held through every load and unload: one at a time. Whether the model was forgotten.
    lifecycle: Mutex<bool>,
    /// Held for moments only.
    book: Mutex<Book>,
    /// Servables out of service that requests may still hold.
    leaving: Mutex<Vec<Departure>>,
}

/// What starting and stopping servables takes.
pub(crate) struct Surroundings<'a> {
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) sink: Option<&'a Arc<dyn PredictionSink>>,
    pub(crate) drain_limit: Duration,
}

impl Model {
    pub(crate) fn new(name: &str) -> Model {
        Model {
            name: name.to_owned(),
            live: ArcSwap::default(),
            lifecycle: Mutex::default(),
            book: Mutex::default(),
            leaving: Mutex::default(),
        }
    }

    /// Keeps every later reconciliation from using this model, unless it is in use.
    pub(crate) fn forget(&self) -> bool {
        let Ok(mut is_forgotten) = self.lifecycle.try_lock() else { return false };
        let book = lock(&self.book);
        *is_forgotten = book.versions.values().all(|r| r.state == VersionState::Unavailable);
        *is_forgotten
    }

    /// Waits for servables that have left service; false if `limit` passed first.
    pub(crate) fn wait_for_leaving(&self, limit: Duration) -> bool {
        let leaving = lock(&self.leaving).clone();
        leaving.iter().all(|departure| departure.wait(limit))
    }

    /// Waits for one servable that has left service.
    fn see_off(&self, departure: &Departure, around: &Surroundings<'_>) -> bool {
        let is_gone = departure.wait(around.drain_limit);
        lock(&self.leaving).retain(|leaving| !leaving.is_over());
        is_gone
    }

    /// Steps until nothing is left to do; `None` if the model was forgotten meanwhile.
    pub(crate) fn reconcile(
        &self,
        settings: &ModelSettings,
        available: &[Available],
        loader: &dyn Loader,
        retry_failed: bool,
        around: &Surroundings<'_>,
    ) -> Option<Reconciled> {
        let is_forgotten = lock(&self.lifecycle);
        if *is_forgotten {
            return None;
        }
        let aspired = settings.versions.aspired(available);
        self.set_fault(if available.is_empty() { "the model has no versions" } else { "" });
        if retry_failed {
            lock(&self.book).versions.values_mut().for_each(|record| record.failed = None);
        }
        self.forget_failures_of_the_absent(available);
        let mut done = Reconciled::default();
        while let Some(action) = next_action(&aspired, &self.standings()) {
            match action {
                Action::Load(wanted) => match self.load(wanted, loader, around) {
                    Ok(()) => done.loaded.push(wanted.version),
                    Err(reason) => done.failed.push((wanted.version, reason)),
                },
                Action::Unload(version) => {
                    self.unload(version, around);
                    done.unloaded.push(version);
                }
            }
        }
        done.refused_labels = self.adopt(settings);
        Some(done)
    }

    /// A version that never served and exists no longer is no reason for anything.
    fn forget_failures_of_the_absent(&self, available: &[Available]) {
        let exists = |version: u64| available.iter().any(|found| found.version == version);
        lock(&self.book).versions.retain(|&version, record| {
            record.serving.is_some() || record.failed.is_none() || exists(version)
        });
    }

    /// Takes every version out of service. Every one stops taking requests before any is waited
    /// for.
    pub(crate) fn unload_all(&self, around: &Surroundings<'_>) {
        let _one_at_a_time = lock(&self.lifecycle);
        let retired = {
            let mut book = lock(&self.book);
            let live = self.live.swap(Arc::default());
            for record in book.versions.values_mut().filter(|record| record.serving.is_none()) {
                // Why it failed once is not why it does not serve now.
                "unloaded".clone_into(&mut record.reason);
                record.failed = None;
            }
            for (version, _) in &live.versions {
                mark(&mut book, *version, VersionState::Unloading, "");
            }
            let leaving = live.versions.iter().map(|(v, s)| (*v, s.departure()));
            leaving.inspect(|(_, d)| lock(&self.leaving).push(d.clone())).collect::<Vec<_>>()
        };
        for (version, departure) in retired {
            self.note_departure(version, self.see_off(&departure, around), around);
        }
    }

    fn standings(&self) -> Vec<Standing> {
        let standing = |(&version, record): (&u64, &Record)| Standing {
            version,
            serving: record.serving,
            failed: record.failed,
        };
        lock(&self.book).versions.iter().map(standing).collect()
    }

    fn load(
        &self,
        wanted: Available,
        loader: &dyn Loader,
        around: &Surroundings<'_>,
    ) -> Result<(), String> {
        let version = wanted.version;
        if self.live.load().find(version).is_none() {
            mark(&mut lock(&self.book), version, VersionState::Loading, "");
        }
        let started = contain(|| {
            let model = loader.load(&self.name, version)?;
            let (clock, sink) = (around.clock.clone(), around.sink.cloned());
            Servable::start(&self.name, version, model, clock, sink)
        });
        match started.unwrap_or_else(|text| Err(format!("loading {text}"))) {
            Ok(servable) => {
                let replaced = self.publish(wanted, servable);
                if let Some(departure) = replaced {
                    self.see_off(&departure, around);
                }
                Ok(())
            }
            Err(reason) => {
                self.note_failure(wanted, &reason);
                Err(reason)
            }
        }
    }

    /// Makes a servable answer; hands back the departure of the one it replaces.
    fn publish(&self, wanted: Available, servable: Arc<Servable>) -> Option<Departure> {
        let mut book = lock(&self.book);
        let record = mark(&mut book, wanted.version, VersionState::Ready, "");
        record.serving = Some(wanted.revision);
        record.failed = None;
        let mut live = Live::clone(&self.live.load());
        let replaced = match live.versions.binary_search_by_key(&wanted.version, |(v, _)| *v) {
            Ok(index) => Some(std::mem::replace(&mut live.versions[index].1, servable)),
            Err(index) => {
                live.versions.insert(index, (wanted.version, servable));
                None
            }
        };
        self.live.store(Arc::new(live));
        let departure = replaced.map(|old| old.departure());
        lock(&self.leaving).extend(departure.clone());
        departure
    }

    fn note_failure(&self, wanted: Available, reason: &str) {
        let mut book = lock(&self.book);
        let serves = book.versions.get(&wanted.version).is_some_and(|r| r.serving.is_some());
        let record = match serves {
            true => {
                let reason = format!("still serving its former content, for the new: {reason}");
                mark(&mut book, wanted.version, VersionState::Ready, &reason)
            }
            false => mark(&mut book, wanted.version, VersionState::Unavailable, reason),
        };
        record.failed = Some(wanted.revision);
    }

    fn unload(&self, version: u64, around: &Surroundings<'_>) {
        let departure = {
            let mut book = lock(&self.book);
            mark(&mut book, version, VersionState::Unloading, "");
            let mut live = Live::clone(&self.live.load());
            let departure = live.find(version).map(|servable| servable.departure());
            live.versions.retain(|(v, _)| *v != version);
            self.live.store(Arc::new(live));
            lock(&self.leaving).extend(departure.clone());
            departure
        };
        let is_gone = departure.is_none_or(|departure| self.see_off(&departure, around));
        self.note_departure(version, is_gone, around);
    }

    fn note_departure(&self, version: u64, is_gone: bool, around: &Surroundings<'_>) {
        let reason = match is_gone {
            true => "unloaded".to_owned(),
            false => format!("unloaded, but after {:?} requests still hold it", around.drain_limit),
        };
        let mut book = lock(&self.book);
        let record = mark(&mut book, version, VersionState::Unavailable, &reason);
        record.serving = None;
        record.failed = None;
        let idle = |record: &Record| record.state == VersionState::Unavailable;
        while book.versions.values().filter(|record| idle(record)).count() > MAX_REMEMBERED {
            let oldest = book.versions.iter().find(|(_, record)| idle(record)).map(|(v, _)| *v);
            oldest.and_then(|version| book.versions.remove(&version));
        }
    }

    /// Moves declared labels to their versions where those are ready, and takes away those that are
    /// declared no longer. Labels that were set otherwise stay.
    fn adopt(&self, settings: &ModelSettings) -> Vec<(String, String)> {
        {
            let mut book = lock(&self.book);
            let before = std::mem::replace(&mut book.settings, settings.clone());
            let is_stale = |label: &String| !settings.labels.contains_key(label);
            let stale: Vec<String> = before.labels.into_keys().filter(is_stale).collect();
            if !stale.is_empty() {
                let mut live = Live::clone(&self.live.load());
                live.labels.retain(|label, _| !stale.contains(label));
                self.live.store(Arc::new(live));
            }
        }
        let refuse = |(label, &version): (&String, &u64)| {
            let error = self.set_label(label, version).err()?;
            Some((label.clone(), error.message))
        };
        settings.labels.iter().filter_map(refuse).collect()
    }

    /// What was declared last.
    pub(crate) fn settings(&self) -> ModelSettings {
        lock(&self.book).settings.clone()
    }

    pub(crate) fn set_label(&self, label: &str, version: u64) -> Result<(), PredictError> {
        let _book = lock(&self.book);
        let mut live = Live::clone(&self.live.load());
        if live.find(version).is_none() {
            return Err(PredictError::new(
                ErrorKind::InvalidArgument,
                format!(
                    "model '{}': label {} cannot point at version {version}, which is not ready",
                    self.name,
                    quote(label)
                ),
            ));
        }
        live.labels.insert(label.to_owned(), version);
        self.live.store(Arc::new(live));
        Ok(())
    }

    pub(crate) fn set_fault(&self, reason: &str) {
        reason.clone_into(&mut lock(&self.book).fault);
    }

    /// Why what a caller chose is not in service, as far as the index knows.
    pub(crate) fn cause(&self, choice: VersionChoice<'_>) -> Option<String> {
        let book = lock(&self.book);
        let reason_of = |record: &Record| record.reason.clone();
        let of_version = match choice {
            VersionChoice::Version(version) => book.versions.get(&version).map(reason_of),
            VersionChoice::Default => book.versions.values().next_back().map(reason_of),
            VersionChoice::Label(_) => None,
        };
        [book.fault.clone(), of_version.unwrap_or_default()].into_iter().find(|r| !r.is_empty())
    }

    pub(crate) fn is_loading(&self) -> bool {
        lock(&self.book).versions.values().any(|record| record.state == VersionState::Loading)
    }

    pub(crate) fn statuses(&self) -> Vec<VersionStatus> {
        let book = lock(&self.book);
        let fault = (!book.fault.is_empty()).then(|| VersionStatus {
            model: self.name.clone(),
            version: None,
            state: VersionState::Unavailable,
            reason: book.fault.clone(),
        });
        let version = |(&version, record): (&u64, &Record)| VersionStatus {
            model: self.name.clone(),
            version: Some(version),
            state: record.state,
            reason: record.reason.clone(),
        };
        fault.into_iter().chain(book.versions.iter().map(version)).collect()
    }
}

fn mark<'a>(book: &'a mut Book, version: u64, state: VersionState, reason: &str) -> &'a mut Record {
    let record = book.versions.entry(version).or_insert_with(|| Record {
        state,
        reason: String::new(),
        serving: None,
        failed: None,
    });
    record.state = state;
    reason.clone_into(&mut record.reason);
    record
}
