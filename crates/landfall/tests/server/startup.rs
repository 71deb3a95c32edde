//! Models that cannot be served: what the program, its readiness and its log say.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::client::{get, post};
use crate::harness::{Folder, row, serve_folder, until};
use crate::process::{Served, example, run};

const DIGITS: &str = "digits/models/digits/1/model.onnx";

fn serve_once(target: &Path) -> std::process::Output {
    let any: &OsStr = "127.0.0.1:0".as_ref();
    let arguments: [&OsStr; 8] = [
        "serve".as_ref(),
        target.as_ref(),
        "--http".as_ref(),
        any,
        "--grpc".as_ref(),
        any,
        "--admin".as_ref(),
        any,
    ];
    run("true", &arguments)
}

#[test]
fn a_single_model_that_does_not_load_ends_the_command() {
    let folder = Folder::new();
    let broken = folder.path().join("broken.onnx");
    std::fs::write(&broken, "no model").unwrap();
    for target in [broken, folder.path().join("absent.onnx"), folder.path().join("absent")] {
        let done = serve_once(&target);
        let message = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{message}");
        let name = target.file_stem().unwrap().to_str().unwrap();
        assert!(message.contains("error: ") && message.contains(name), "{message}");
    }
}

#[test]
fn no_workers_are_refused() {
    let model = example(DIGITS);
    let arguments: [&OsStr; 4] =
        ["serve".as_ref(), model.as_ref(), "--workers".as_ref(), "0".as_ref()];
    let done = run("true", &arguments);
    assert_eq!(done.status.code(), Some(2));
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(error.contains("expected a number from 1 to 1024, found '0'"), "{error}");
}

/// Serves a configuration of one model file that does not exist yet, and of a folder perhaps.
async fn serve_incomplete(folder: &Folder, yaml: &str) -> Served {
    let file = folder.path().join("server.yaml");
    std::fs::write(&file, yaml).unwrap();
    tokio::task::spawn_blocking(move || Served::unready(&file)).await.unwrap()
}

async fn is_ready(address: SocketAddr) -> bool {
    get(address, "/v2/health/ready").await.status == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_model_keeps_readiness_back_until_it_serves() {
    let folder = Folder::new();
    let served =
        serve_incomplete(&folder, "models: [{name: late, path: late.onnx}]\nsettle_seconds: 0\n");
    let served = served.await;
    until(|| async { served.log().contains("late.onnx") }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!is_ready(served.http).await, "{}", served.log());
    assert_eq!(served.log().matches("cannot load").count(), 1, "{}", served.log());
    std::fs::copy(example(DIGITS), folder.path().join("late.tmp")).unwrap();
    std::fs::rename(folder.path().join("late.tmp"), folder.path().join("late.onnx")).unwrap();
    until(|| is_ready(served.http)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_folder_keeps_readiness_back_until_it_is_there() {
    let folder = Folder::new();
    let served = serve_incomplete(&folder, "repository: later\n").await;
    until(|| async { served.log().contains("cannot look at the model repository") }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!is_ready(served.http).await, "{}", served.log());
    assert_eq!(served.log().matches("cannot look").count(), 1, "{}", served.log());
    std::fs::create_dir(folder.path().join("later")).unwrap();
    until(|| is_ready(served.http)).await;
    until(|| async { served.log().contains("later has no models") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_model_yaml_is_logged_once_and_told() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path().join("typo/1")).unwrap();
    std::fs::copy(example(DIGITS), folder.path().join("typo/1/model.onnx")).unwrap();
    folder.settings("typo", "versions: {latest: 0}\n");
    std::fs::create_dir_all(folder.path().join("good/1")).unwrap();
    std::fs::copy(example(DIGITS), folder.path().join("good/1/model.onnx")).unwrap();
    folder.settings("good", "labels: {next: 7}\n");
    let path = folder.path().to_owned();
    let served = tokio::task::spawn_blocking(move || Served::start("true", &path)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let log = served.log();
    assert_eq!(log.matches("versions: latest: expected 1 or more").count(), 1, "{log}");
    assert_eq!(log.matches("label not moved").count(), 1, "{log}");
    let reason = get(served.http, "/v2/models/typo/ready").await.error(503);
    assert!(reason.contains("latest: expected 1 or more"), "{reason}");
    let index = post(served.http, "/v2/repository/index", "").await.json().to_string();
    assert!(index.contains("latest: expected 1 or more"), "{index}");
    folder.settings("typo", "instances: 0\n");
    until(|| async { served.log().contains("instances: expected 1 or more") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_in_service_says_why() {
    let folder = Folder::new();
    folder.put("a", "1", "broken");
    let server = serve_folder(folder, |_| ()).await;
    let infer = post(server.http(), "/v2/models/a/infer", row([0.0; 4])).await;
    assert!(infer.error(404).contains("not a fake model: broken"));
    let infer = post(server.http(), "/v2/models/a/versions/1/infer", row([0.0; 4])).await;
    assert!(infer.error(404).contains("not a fake model: broken"));
}
