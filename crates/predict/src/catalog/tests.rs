//! Loading, replacing and unloading models that are being used.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use crate::fakes::{Doubler, ManualClock, loaded, rows};
use crate::{
    Available, Catalog, ErrorKind, LoadedModel, ModelSettings, PredictionEvent, PredictionSink,
    Reconciled, Request, ServingConfig, VersionChoice, VersionPolicy, VersionRouter, VersionState,
};

fn catalog() -> Catalog {
    Catalog::new(Arc::new(ManualClock::default()))
}

fn exist(pairs: &[(u64, u64)]) -> Vec<Available> {
    pairs.iter().map(|&(version, revision)| Available { version, revision }).collect()
}

fn good(_: &str, _: u64) -> Result<LoadedModel, String> {
    Ok(loaded(Doubler::new(), ServingConfig::default()))
}

fn bad(_: &str, version: u64) -> Result<LoadedModel, String> {
    Err(format!("models/m/{version}/model.onnx: truncated"))
}

fn latest() -> ModelSettings {
    ModelSettings::default()
}

fn all() -> ModelSettings {
    ModelSettings { versions: VersionPolicy::All, ..ModelSettings::default() }
}

fn index(catalog: &Catalog) -> Vec<String> {
    let line = |status: crate::VersionStatus| {
        let version = status.version.map_or("-".to_owned(), |version| version.to_string());
        format!("{} {version} {} {}", status.model, status.state.name(), status.reason)
            .trim_end()
            .to_owned()
    };
    catalog.index().into_iter().map(line).collect()
}

fn answering(catalog: &Catalog, choice: VersionChoice<'_>) -> Result<u64, String> {
    let answer = catalog.predict_blocking("m", choice, rows(&[1.0], 1));
    answer.map(|reply| reply.model_version).map_err(|error| format!("{:?} {error}", error.kind))
}

#[test]
fn the_highest_ready_version_answers_by_default() {
    let catalog = catalog();
    let done = catalog.reconcile("m", &all(), &exist(&[(1, 7), (3, 7)]), &good);
    assert_eq!(done, Reconciled { loaded: vec![3, 1], ..Reconciled::default() });
    assert_eq!(index(&catalog), ["m 1 READY", "m 3 READY"]);
    assert_eq!(answering(&catalog, VersionChoice::Default), Ok(3));
    assert_eq!(answering(&catalog, VersionChoice::Version(1)), Ok(1));
    assert_eq!(
        answering(&catalog, VersionChoice::Version(2)).unwrap_err(),
        "NotFound version 2 of model 'm' is not available"
    );
    let again = catalog.reconcile("m", &all(), &exist(&[(1, 7), (3, 7)]), &bad);
    assert_eq!(again, Reconciled::default(), "nothing is left to do");
    let error = catalog.lookup("nope", VersionChoice::Default).err().unwrap();
    assert_eq!(error.message, "Request for unknown model: 'nope' is not found");
}

#[test]
fn a_failed_version_that_is_gone_or_unloaded_is_no_reason_any_more() {
    let catalog = catalog();
    let good_but_3 = |name: &str, version| if version == 3 { bad(name, 3) } else { good(name, 1) };
    catalog.reconcile("m", &all(), &exist(&[(1, 7), (3, 7)]), &good_but_3);
    assert_eq!(index(&catalog), ["m 1 READY", "m 3 UNAVAILABLE models/m/3/model.onnx: truncated"]);
    catalog.reconcile("m", &all(), &exist(&[(1, 7)]), &good_but_3);
    assert_eq!(index(&catalog), ["m 1 READY"]);
    catalog.reconcile("m", &all(), &exist(&[(1, 7), (3, 8)]), &good_but_3);
    catalog.unload("m");
    assert_eq!(index(&catalog), ["m 1 UNAVAILABLE unloaded", "m 3 UNAVAILABLE unloaded"]);
    let error = answering(&catalog, VersionChoice::Default).unwrap_err();
    assert_eq!(error, "NotFound model 'm' has no available versions: unloaded");
}

#[test]
fn a_new_version_replaces_the_old_one_and_a_failed_one_does_not() {
    let catalog = catalog();
    catalog.reconcile("m", &latest(), &exist(&[(1, 7)]), &good);
    let done = catalog.reconcile("m", &latest(), &exist(&[(1, 7), (2, 7)]), &bad);
    assert_eq!(done.failed, [(2, "models/m/2/model.onnx: truncated".to_owned())]);
    assert_eq!(index(&catalog), ["m 1 READY", "m 2 UNAVAILABLE models/m/2/model.onnx: truncated"]);
    assert_eq!(answering(&catalog, VersionChoice::Default), Ok(1));
    let polled = catalog.reconcile("m", &latest(), &exist(&[(1, 7), (2, 7)]), &good);
    assert_eq!(polled, Reconciled::default(), "what failed is not tried again by itself");
    let done = catalog.load("m", &latest(), &exist(&[(1, 7), (2, 7)]), &good);
    assert_eq!((done.loaded, done.unloaded), (vec![2], vec![1]));
    assert_eq!(index(&catalog), ["m 1 UNAVAILABLE unloaded", "m 2 READY"]);
    assert_eq!(answering(&catalog, VersionChoice::Default), Ok(2));
}

#[test]
fn a_failed_replacement_of_the_same_version_keeps_the_old_content() {
    let catalog = catalog();
    catalog.reconcile("m", &latest(), &exist(&[(1, 7)]), &good);
    catalog.reconcile("m", &latest(), &exist(&[(1, 8)]), &bad);
    let reason = "still serving its former content, for the new: models/m/1/model.onnx: truncated";
    assert_eq!(index(&catalog), [format!("m 1 READY {reason}")]);
    assert_eq!(answering(&catalog, VersionChoice::Default), Ok(1));
    catalog.reconcile("m", &latest(), &exist(&[(1, 9)]), &good);
    assert_eq!(index(&catalog), ["m 1 READY"]);
}

#[test]
fn warm_up_failures_and_panicking_loaders_make_a_version_unavailable() {
    let catalog = catalog();
    let cold = |_: &str, _: u64| {
        let warm_up = vec![rows(&[1.0], 1), rows(&[-1.0], 1)];
        Ok(loaded(Doubler::new(), ServingConfig { warm_up, ..ServingConfig::default() }))
    };
    let done = catalog.reconcile("m", &latest(), &exist(&[(1, 7)]), &cold);
    assert!(done.failed[0].1.starts_with("warm-up request 2 failed"), "{done:?}");
    assert!(answering(&catalog, VersionChoice::Default).is_err());
    let broken = |_: &str, _: u64| -> Result<LoadedModel, String> { panic!("no such file") };
    let done = catalog.load("m", &latest(), &exist(&[(1, 7)]), &broken);
    assert_eq!(done.failed, [(1, "loading panicked: no such file".to_owned())]);
    catalog.report_unavailable("other", "model.yaml: line 3: unknown key");
    assert_eq!(index(&catalog)[1], "other - UNAVAILABLE model.yaml: line 3: unknown key");
}

#[test]
fn labels_point_at_ready_versions_only() {
    let catalog = catalog();
    let label = |version| {
        let labels = BTreeMap::from([("stable".to_owned(), version)]);
        ModelSettings { labels, ..all() }
    };
    catalog.reconcile("m", &label(1), &exist(&[(1, 7), (2, 7)]), &good);
    assert_eq!(answering(&catalog, VersionChoice::Label("stable")), Ok(1));
    let done = catalog.reconcile("m", &label(9), &exist(&[(1, 7), (2, 7)]), &good);
    assert!(done.refused_labels[0].1.contains("version 9, which is not ready"), "{done:?}");
    assert_eq!(answering(&catalog, VersionChoice::Label("stable")), Ok(1));
    assert_eq!(catalog.set_label("m", "b", 9).unwrap_err().kind, ErrorKind::InvalidArgument);
    catalog.set_label("m", "b", 2).unwrap();
    assert_eq!(answering(&catalog, VersionChoice::Label("b")), Ok(2));
    assert!(answering(&catalog, VersionChoice::Label("c")).unwrap_err().starts_with("NotFound"));
    catalog.reconcile("m", &all(), &exist(&[(1, 7), (2, 7)]), &good);
    let gone = answering(&catalog, VersionChoice::Label("stable")).unwrap_err();
    assert_eq!(gone, "NotFound model 'm' has no label 'stable'", "it is declared no longer");
    assert_eq!(answering(&catalog, VersionChoice::Label("b")), Ok(2), "it never was declared");
    assert_eq!(catalog.settings("m"), Some(all()));
    catalog.reconcile("m", &latest(), &exist(&[(1, 7)]), &good);
    let label = answering(&catalog, VersionChoice::Label("b")).unwrap_err();
    assert_eq!(label, "NotFound the version of model 'm' labelled 'b' is not available");
}

#[test]
fn unloading_waits_for_requests_in_flight() {
    let catalog = Arc::new(catalog());
    let model = Doubler::new();
    let held = model.clone();
    let load = move |_: &str, _: u64| Ok(loaded(held.clone(), ServingConfig::default()));
    catalog.reconcile("m", &latest(), &exist(&[(1, 7)]), &load);
    model.gate.set_shut(true);
    let caller = catalog.clone();
    let request = std::thread::spawn(move || answering(&caller, VersionChoice::Default));
    while model.running.load(SeqCst) == 0 {
        std::thread::yield_now();
    }
    let admin = catalog.clone();
    let unload = std::thread::spawn(move || admin.unload("m"));
    while catalog.index()[0].state != VersionState::Unloading {
        std::thread::yield_now();
    }
    assert_eq!(
        answering(&catalog, VersionChoice::Default).unwrap_err(),
        "NotFound model 'm' has no available versions"
    );
    assert!(!catalog.forget("m"), "it is still being unloaded");
    model.gate.set_shut(false);
    assert_eq!(request.join().unwrap(), Ok(1));
    assert!(unload.join().unwrap());
    assert_eq!(index(&catalog), ["m 1 UNAVAILABLE unloaded"]);
    assert!(catalog.forget("m") && catalog.index().is_empty());
    assert!(!catalog.unload("m"), "it is unknown now");
}

#[test]
fn a_handle_that_is_never_let_go_does_not_block_unloading_for_ever() {
    let catalog = catalog().with_drain_limit(Duration::from_millis(10));
    catalog.reconcile("m", &latest(), &exist(&[(1, 7)]), &good);
    let handle = catalog.lookup("m", VersionChoice::Default).unwrap();
    assert!(catalog.unload("m"));
    assert!(index(&catalog)[0].contains("after 10ms requests still hold it"));
    assert!(handle.predict_blocking(rows(&[1.0], 1)).is_ok());
    assert!(!catalog.drain(Duration::from_millis(10)), "the handle counts");
    drop(handle);
    assert!(catalog.drain(Duration::from_secs(20)));
}

#[test]
fn no_request_is_lost_while_versions_are_replaced() {
    let catalog = catalog();
    catalog.reconcile("m", &latest(), &exist(&[(0, 0)]), &good);
    let done = AtomicBool::new(false);
    let asked = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    let reply =
                        catalog.predict_blocking("m", VersionChoice::Default, rows(&[2.0], 1));
                    let reply = reply.expect("some version answers at every moment");
                    assert_eq!(reply.outputs[0].1.item::<f32>().unwrap(), 5.0);
                    asked.fetch_add(1, SeqCst);
                }
            });
        }
        let mut round = 0;
        while round < 60 || asked.load(SeqCst) < 200 {
            round += 1;
            let new = match round % 2 {
                0 => exist(&[(round / 2, 0)]),
                _ => exist(&[(round / 2, round)]),
            };
            let changed = catalog.reconcile("m", &latest(), &new, &good);
            assert!(changed.failed.is_empty() && changed.loaded.len() == 1, "{changed:?}");
        }
        done.store(true, SeqCst);
    });
    assert!(catalog.index().len() <= 20, "old versions do not pile up");
}

#[test]
fn loads_and_unloads_of_one_model_run_one_after_another() {
    let catalog = catalog();
    let loading = AtomicUsize::new(0);
    let load = |name: &str, version: u64| {
        assert_eq!(loading.fetch_add(1, SeqCst), 0, "two loads at one time");
        std::thread::yield_now();
        loading.fetch_sub(1, SeqCst);
        good(name, version)
    };
    let start = Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (catalog, start, load) = (&catalog, &start, &load);
            scope.spawn(move || {
                start.wait();
                for round in 0..10 {
                    match (thread + round) % 3 {
                        0 => drop(catalog.unload("m")),
                        _ => {
                            let exists = exist(&[(thread, round)]);
                            let done = catalog.reconcile("m", &latest(), &exists, load);
                            assert!(done.failed.is_empty(), "{done:?}");
                        }
                    }
                }
            });
        }
    });
    catalog.reconcile("m", &latest(), &exist(&[(9, 9)]), &load);
    assert_eq!(answering(&catalog, VersionChoice::Default), Ok(9));
    assert_eq!(catalog.ready_versions("m"), [9]);
}

struct ByKey;

impl VersionRouter for ByKey {
    fn route(&self, model: &str, key: Option<&str>) -> Option<u64> {
        assert_eq!(model, "m");
        key.and_then(|key| key.parse().ok())
    }
}

#[derive(Default)]
struct Log(Mutex<Vec<PredictionEvent>>);

impl PredictionSink for Log {
    fn record(&self, event: PredictionEvent) {
        self.0.lock().unwrap().push(event);
    }
}

#[test]
fn the_router_chooses_where_the_caller_does_not_and_the_sink_hears_of_it() {
    let log = Arc::new(Log::default());
    let catalog = catalog().with_router(Arc::new(ByKey)).with_sink(log.clone());
    catalog.reconcile("m", &all(), &exist(&[(1, 7), (2, 7)]), &good);
    let ask = |key: &str, choice, value| {
        let request =
            Request { id: "r".to_owned(), key: Some(key.to_owned()), ..rows(&[value], 1) };
        catalog.predict_blocking("m", choice, request).map(|reply| reply.model_version)
    };
    assert_eq!(ask("1", VersionChoice::Default, 1.0).unwrap(), 1);
    assert_eq!(ask("7", VersionChoice::Default, 1.0).unwrap(), 2, "not ready: the default");
    assert_eq!(ask("1", VersionChoice::Version(2), 1.0).unwrap(), 2);
    assert!(ask("1", VersionChoice::Default, -1.0).is_err());
    let events = log.0.lock().unwrap();
    let versions: Vec<u64> = events.iter().map(|event| event.version).collect();
    assert_eq!(versions, [1, 2, 2, 1]);
    assert_eq!((events[0].request_id.as_str(), events[0].key.as_deref()), ("r", Some("1")));
    assert_eq!(events[0].inputs[0].1.item::<f32>().unwrap(), 1.0);
    assert_eq!(events[0].outcome.as_ref().unwrap()[0].1.item::<f32>().unwrap(), 3.0);
    assert_eq!(events[3].outcome.as_ref().unwrap_err().kind, ErrorKind::Internal);
}

#[test]
fn a_closed_catalog_refuses_everywhere_even_what_is_loaded_later() {
    let catalog = catalog();
    catalog.reconcile("m", &all(), &exist(&[(1, 7)]), &good);
    catalog.close();
    catalog.reconcile("m", &all(), &exist(&[(1, 7), (2, 7)]), &good);
    for version in [1, 2] {
        let error = answering(&catalog, VersionChoice::Version(version)).unwrap_err();
        assert!(error.starts_with("Unavailable"), "{error}");
    }
    assert!(catalog.drain(Duration::from_secs(1)));
}
