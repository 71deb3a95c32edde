//! The model repository while the server runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use landfall::config::{ModelFile, SingleModel};
use landfall_predict::VersionChoice;
use landfall_protocol::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use landfall_protocol::inference::{ModelConfigRequest, model_config, model_version_policy};
use serde_json::json;

use crate::client::{get, post};
use crate::harness::{Folder, row, serve, serve_folder, until};

async fn is_ready(address: SocketAddr, model: &str, version: u64) -> bool {
    get(address, &format!("/v2/models/{model}/versions/{version}/ready")).await.status == 200
}

async fn reason(address: SocketAddr, model: &str) -> String {
    let index = post(address, "/v2/repository/index", "").await.json();
    let entries = index.as_array().unwrap();
    let entry = entries.iter().find(|e| e["name"] == model && e["reason"] != "");
    entry.map_or(String::new(), |e| e["reason"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_versions_come_and_go() {
    let server = serve(&[("a", "identity")]).await;
    let address = server.http();
    server.folder.put("b", "3", "identity");
    until(|| is_ready(address, "b", 3)).await;
    server.folder.put("a", "2", "identity");
    until(|| is_ready(address, "a", 2)).await;
    until(|| async { !is_ready(address, "a", 1).await }).await;
    server.folder.remove("a/2");
    until(|| is_ready(address, "a", 1)).await;
    server.folder.remove("b");
    until(|| async { get(address, "/v2/models/b").await.status == 404 }).await;
    for ignored in ["01", "0", "x1"] {
        server.folder.put("a", ignored, "identity");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(get(address, "/v2/models/a").await.json()["versions"], serde_json::json!(["1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_load_keeps_the_old_version() {
    let server = serve(&[("a", "identity")]).await;
    let address = server.http();
    server.folder.put("a", "2", "broken");
    until(|| async { reason(address, "a").await.contains("not a fake model: broken") }).await;
    let infer = post(address, "/v2/models/a/infer", row([0.0; 4])).await;
    assert_eq!(infer.json()["model_version"], "1");
    server.folder.put("a", "1", "broken too");
    until(|| async { reason(address, "a").await.contains("broken") }).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(post(address, "/v2/models/a/infer", row([0.0; 4])).await.status, 200);
    server.folder.put("a", "2", "identity");
    until(|| is_ready(address, "a", 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_model_as_a_whole_are_reported() {
    let folder = Folder::new();
    folder.put("good", "1", "identity");
    folder.put("typo", "1", "identity");
    folder.settings("typo", "instancs: 2\n");
    std::fs::create_dir_all(folder.path().join("empty")).unwrap();
    let server = serve_folder(folder, |_| ()).await;
    let address = server.http();
    assert!(reason(address, "typo").await.contains("instancs"));
    assert!(reason(address, "empty").await.contains("no version found"));
    assert!(is_ready(address, "good", 1).await);
    server.folder.settings("typo", "instances: 2\n");
    until(|| is_ready(address, "typo", 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_versions_are_replaced() {
    let server = serve(&[("a", "identity")]).await;
    let address = server.http();
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut count = 0u32;
                while !stop.load(Ordering::Relaxed) {
                    let reply = post(address, "/v2/models/a/infer", row([1.0; 4])).await;
                    let text = String::from_utf8_lossy(&reply.body).into_owned();
                    assert_eq!(reply.status, 200, "{text}");
                    count += 1;
                }
                count
            })
        })
        .collect();
    for version in 2..8 {
        server.folder.put("a", &version.to_string(), "identity");
        until(|| is_ready(address, "a", version)).await;
        server.folder.remove(&format!("a/{}", version - 1));
    }
    for content in ["identity", "slow 1", "identity"] {
        server.folder.put("a", "7", content);
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_still_being_written_are_left_alone() {
    let folder = Folder::new();
    folder.put("a", "1", "identity");
    let settle = Duration::from_millis(300);
    let server = serve_folder(folder, |config| config.settle = settle).await;
    let address = server.http();
    std::fs::create_dir_all(server.folder.path().join("a/2")).unwrap();
    let file = server.folder.path().join("a/2/model.onnx");
    for length in 1..="identity".len() {
        std::fs::write(&file, &"identity"[..length]).unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(!is_ready(address, "a", 2).await);
        assert_eq!(reason(address, "a").await, "", "half a file was loaded");
    }
    until(|| is_ready(address, "a", 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_load_and_unload_on_the_admin_listener_only() {
    let server = serve(&[("a", "identity")]).await;
    let (public, admin) = (server.http(), server.admin());
    let unload = "/v2/repository/models/a/unload";
    assert!(post(public, unload, "").await.error(403).contains("admin listener"));
    assert_eq!(post(admin, unload, "").await.status, 200);
    until(|| async { !is_ready(public, "a", 1).await }).await;
    let gone = post(public, "/v2/models/a/infer", row([0.0; 4])).await;
    assert!(gone.error(404).contains("no available versions"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!is_ready(public, "a", 1).await, "the folder does not bring it back");
    assert_eq!(post(admin, "/v2/repository/models/a/load", "{}").await.status, 200);
    assert!(is_ready(public, "a", 1).await);
    let absent = post(admin, "/v2/repository/models/nope/load", "").await;
    assert!(absent.error(404).contains("'nope' is not in the repository"));
    assert_eq!(post(admin, "/v2/repository/models/nope/unload", "").await.status, 200);
    let parameters = r#"{"parameters":{"config":"{}"}}"#;
    let refused = post(admin, "/v2/repository/models/a/load", parameters).await;
    assert!(refused.error(400).contains("'config' is not supported"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_loaded_and_unloaded_from_many_sides() {
    let server = serve(&[("a", "identity")]).await;
    let admin = server.admin();
    let callers: Vec<_> = (0..8)
        .map(|i| {
            let action = if i % 2 == 0 { "load" } else { "unload" };
            let path = format!("/v2/repository/models/a/{action}");
            tokio::spawn(async move {
                for _ in 0..10 {
                    post(admin, &path, "").await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    // The last unload may still be going on: unloading answers before it is done.
    until(|| async {
        post(admin, "/v2/repository/models/a/load", "").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        is_ready(admin, "a", 1).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_up_failures_keep_a_version_out() {
    let folder = Folder::new();
    folder.put("a", "1", "failing");
    folder.settings("a", "warm_up: [{rows: 2}]\n");
    let server = serve_folder(folder, |_| ()).await;
    assert!(!is_ready(server.http(), "a", 1).await);
    assert!(reason(server.http(), "a").await.contains("Bad_0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_copy_was_killed_does_not_replace_what_serves() {
    let server = serve(&[("a", "identity")]).await;
    let address = server.http();
    // A folder without its model file, then with half of it.
    std::fs::create_dir_all(server.folder.path().join("a/2")).unwrap();
    let half = server.folder.path().join("a/2/model.onnx");
    std::fs::write(&half, "identi").unwrap();
    until(|| async { reason(address, "a").await.contains("not a fake model: identi") }).await;
    let infer = post(address, "/v2/models/a/infer", row([0.0; 4])).await;
    assert_eq!(infer.json()["model_version"], "1");
    std::fs::write(&half, "identity").unwrap();
    until(|| is_ready(address, "a", 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_lead_to_models() {
    let store = Folder::new();
    store.put("store", "7", "identity");
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path().join("a")).unwrap();
    std::os::unix::fs::symlink(store.path().join("store/7"), folder.path().join("a/1")).unwrap();
    std::os::unix::fs::symlink(store.path().join("store"), folder.path().join("b")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("c")).unwrap();
    let server = serve_folder(folder, |_| ()).await;
    let address = server.http();
    assert!(is_ready(address, "a", 1).await);
    assert!(is_ready(address, "b", 7).await);
    assert_eq!(get(address, "/v2/models/c").await.status, 404);
    // Mounted volumes are replaced by pointing the link elsewhere.
    store.put("store", "8", "slow 1");
    std::os::unix::fs::symlink(store.path().join("store/8"), server.folder.path().join("a/.new"))
        .unwrap();
    let revision = || server.running.server.catalog.lookup("a", VersionChoice::Default).unwrap();
    let before = Arc::as_ptr(&revision());
    std::fs::rename(server.folder.path().join("a/.new"), server.folder.path().join("a/1")).unwrap();
    until(|| async { Arc::as_ptr(&revision()) != before }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_too_many_files_is_refused_alone() {
    let folder = Folder::new();
    folder.put("crowded", "1", "identity");
    for i in 0..10_001 {
        std::fs::write(folder.path().join(format!("crowded/1/{i}")), "").unwrap();
    }
    folder.put("good", "1", "identity");
    let server = serve_folder(folder, |_| ()).await;
    assert!(is_ready(server.http(), "good", 1).await);
    assert!(reason(server.http(), "crowded").await.contains("more than 10000 files"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_no_model() {
    let folder = Folder::new();
    folder.put("good", "1", "identity");
    std::fs::create_dir_all(folder.path().join("folder/1/model.onnx")).unwrap();
    // Opening a pipe that nobody writes to would take for ever.
    std::fs::create_dir_all(folder.path().join("pipe/1")).unwrap();
    let pipe = folder.path().join("pipe/1/model.onnx");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let server = serve_folder(folder, |_| ()).await;
    assert!(is_ready(server.http(), "good", 1).await);
    for model in ["folder", "pipe"] {
        assert!(reason(server.http(), model).await.contains("no version found"), "{model}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_file_wins_over_a_folder_of_its_name() {
    let folder = Folder::new();
    folder.put("a", "3", "identity");
    let elsewhere = Folder::new();
    elsewhere.put("x", "1", "slow 1");
    let path = elsewhere.path().join("x/1/model.onnx");
    let server = serve_folder(folder, |config| {
        let settings = ModelFile::default();
        config.models = vec![SingleModel { name: "a".to_owned(), version: 9, path, settings }];
    })
    .await;
    let metadata = get(server.http(), "/v2/models/a").await.json();
    assert_eq!(metadata["versions"], serde_json::json!(["9"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_follow_what_is_declared_and_ready() {
    let folder = Folder::new();
    folder.put("m", "1", "identity");
    folder.settings("m", "labels: {stable: 1, next: 2}\n");
    let server = serve_folder(folder, |_| ()).await;
    let address = server.http();
    let ask = |label: &'static str| async move {
        let path = format!("/v1/models/m/labels/{label}:predict");
        post(address, &path, r#"{"instances":[[1,2,3,4]]}"#).await
    };
    assert_eq!(ask("stable").await.status, 200);
    assert!(ask("next").await.error(404).contains("no label 'next'"), "2 is not there yet");
    server.folder.put("m", "2", "identity");
    until(|| async { ask("next").await.status == 200 }).await;
    let gone = ask("stable").await.error(404);
    assert!(gone.contains("labelled 'stable' is not available"), "{gone}");
    // Back to the smaller version.
    server.folder.remove("m/2");
    until(|| async { ask("stable").await.status == 200 }).await;
    assert!(ask("next").await.error(404).contains("labelled 'next' is not available"));
    server.folder.settings("m", "labels: {stable: 1}\n");
    until(|| async { ask("next").await.error(404).contains("no label 'next'") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_tells_how_a_model_is_served() {
    let folder = Folder::new();
    folder.put("m", "1", "identity");
    folder.put("m", "3", "identity");
    folder.settings(
        "m",
        "versions: {specific: [1, 3]}\nmax_batch_rows: 16\nmax_delay_us: 70\ninstances: 2\n\
         max_queue_requests: 5\ntimeout_ms: 900\npriority_levels: 4\ndefault_priority: 3\n",
    );
    folder.put("alone", "1", "identity");
    folder.settings("alone", "versions: all\nbatching: off\n");
    folder.put("plain", "1", "identity");
    folder.settings("plain", "versions: {latest: 2}\n");
    let server = serve_folder(folder, |_| ()).await;
    let mut client = GrpcInferenceServiceClient::connect(server.grpc_url()).await.unwrap();
    let config = get(server.http(), "/v2/models/m/config").await.json();
    assert_eq!(config["version_policy"], json!({"specific": {"versions": [1, 3]}}));
    assert_eq!(config["max_batch_size"], 16);
    assert_eq!(config["instance_group"][0]["count"], 2);
    let batching = &config["dynamic_batching"];
    assert_eq!(batching["max_queue_delay_microseconds"], 70);
    assert_eq!(batching["priority_levels"], 4);
    assert_eq!(batching["default_priority_level"], 3);
    let policy = &batching["default_queue_policy"];
    assert_eq!(policy["max_queue_size"], 5);
    assert_eq!(policy["default_timeout_microseconds"], 900_000);
    let config = get(server.http(), "/v2/models/alone/config").await.json();
    assert_eq!(config["version_policy"], json!({"all": {}}));
    assert_eq!((&config["max_batch_size"], &config["dynamic_batching"]), (&json!(0), &json!(null)));
    assert_eq!(config["input"][0]["dims"], json!([-1, 4]));
    let config = get(server.http(), "/v2/models/plain/config").await.json();
    assert_eq!(config["version_policy"], json!({"latest": {"num_versions": 2}}));

    let request = ModelConfigRequest { name: "m".into(), version: String::new() };
    let config = client.model_config(request).await.unwrap().into_inner().config.unwrap();
    let specific = model_version_policy::Specific { versions: vec![1, 3] };
    assert_eq!(
        config.version_policy.unwrap().policy_choice,
        Some(model_version_policy::PolicyChoice::Specific(specific))
    );
    assert_eq!((config.max_batch_size, config.instance_group[0].count), (16, 2));
    let Some(model_config::SchedulingChoice::DynamicBatching(batching)) = config.scheduling_choice
    else {
        panic!("it batches")
    };
    assert_eq!(batching.max_queue_delay_microseconds, 70);
    assert_eq!(batching.default_queue_policy.unwrap().max_queue_size, 5);
}
