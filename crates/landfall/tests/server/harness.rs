//! A server over a repository folder of its own, on ports the system chooses.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use landfall::config::ServeConfig;
use landfall::serving::{Running, start};
use landfall_onnx::Metadata;
use landfall_tensor::Tensor;

use crate::client::get;
use crate::fake::FakeFiles;

/// A folder that goes away with its value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("landfall-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Puts a version in place at once, as a careful user would.
    pub(crate) fn put(&self, model: &str, version: &str, content: &str) {
        let folder = self.0.join(model);
        std::fs::create_dir_all(&folder).unwrap();
        let staged = folder.join(format!(".{version}.new"));
        std::fs::create_dir_all(&staged).unwrap();
        std::fs::write(staged.join("model.onnx"), content).unwrap();
        let place = folder.join(version);
        if place.exists() {
            std::fs::rename(staged.join("model.onnx"), place.join("model.onnx")).unwrap();
        } else {
            std::fs::rename(staged, place).unwrap();
        }
    }

    /// Puts version 1 of a real model in place, of a graph's text and its constants.
    pub(crate) fn put_graph(&self, model: &str, text: &str, constants: &[Tensor]) {
        let graph = landfall_graph::text::parse(text, constants).unwrap();
        let mut file = Vec::new();
        landfall_onnx::export(&graph, &Metadata::default(), &mut file).unwrap();
        let version = self.0.join(model).join("1");
        std::fs::create_dir_all(&version).unwrap();
        std::fs::write(version.join("model.onnx"), file).unwrap();
    }

    pub(crate) fn settings(&self, model: &str, yaml: &str) {
        std::fs::create_dir_all(self.0.join(model)).unwrap();
        std::fs::write(self.0.join(model).join("model.yaml"), yaml).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        std::fs::remove_dir_all(self.0.join(path)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server that is ready, and its folder.
pub(crate) struct TestServer {
    pub(crate) running: Running,
    pub(crate) folder: Folder,
}

impl TestServer {
    pub(crate) fn http(&self) -> SocketAddr {
        self.running.http
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.running.admin
    }

    pub(crate) fn grpc_url(&self) -> String {
        format!("http://{}", self.running.grpc)
    }
}

/// Any free ports, quick looks at the folder.
pub(crate) fn quick_config(folder: &Folder) -> ServeConfig {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    ServeConfig {
        http: any,
        grpc: any,
        admin: any,
        repository: Some(folder.path().to_owned()),
        poll: Duration::from_millis(20),
        settle: Duration::ZERO,
        drain_limit: Duration::from_secs(5),
        ..ServeConfig::default()
    }
}

/// Starts a server that need not get ready.
pub(crate) async fn start_with(config: ServeConfig) -> Running {
    start(&config, Arc::new(FakeFiles)).await.unwrap()
}

/// Starts a server with models given as name and content, each as version 1.
pub(crate) async fn serve(models: &[(&str, &str)]) -> TestServer {
    let folder = Folder::new();
    for (name, content) in models {
        folder.put(name, "1", content);
    }
    serve_folder(folder, |_| ()).await
}

/// Starts a server over a prepared folder, with changes to the configuration.
pub(crate) async fn serve_folder(
    folder: Folder,
    change: impl FnOnce(&mut ServeConfig),
) -> TestServer {
    let mut config = quick_config(&folder);
    change(&mut config);
    let running = start(&config, Arc::new(FakeFiles)).await.unwrap();
    let address = running.http;
    until(|| async move { get(address, "/v2/health/ready").await.status == 200 }).await;
    TestServer { running, folder }
}

/// Waits for a condition, at most ten seconds.
pub(crate) async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < Duration::from_secs(10), "the condition never came true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A JSON request of one row for a model with the input `x`.
pub(crate) fn row(values: [f32; 4]) -> String {
    let input =
        serde_json::json!({"name": "x", "datatype": "FP32", "shape": [1, 4], "data": values});
    serde_json::json!({"inputs": [input]}).to_string()
}
