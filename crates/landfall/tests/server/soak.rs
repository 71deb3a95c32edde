//! Many loads, failed loads and unloads leave nothing behind.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use landfall::config::ModelFile;
use landfall::loading::OpenModel;
use landfall::serving::start;
use landfall_graph::Signature;
use landfall_predict::{Executable, LoadedModel};
use landfall_tensor::{FileAccess, Tensor};

use crate::client::{get, post};
use crate::fake::FakeFiles;
use crate::harness::{Folder, quick_config, row, until};

/// Opens fake models and keeps a weak handle to each.
#[derive(Default)]
struct Watched {
    opened: AtomicUsize,
    models: Mutex<Vec<Weak<dyn Executable>>>,
}

/// A fake model that nothing but its servable holds.
struct Own(Arc<dyn Executable>);

impl Executable for Own {
    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        self.0.run(inputs)
    }
}

impl OpenModel for Watched {
    fn open(
        &self,
        path: &Path,
        files: FileAccess,
        settings: &ModelFile,
    ) -> Result<LoadedModel, String> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let opened = FakeFiles.open(path, files, settings)?;
        let executable: Arc<dyn Executable> = Arc::new(Own(opened.executable));
        self.models.lock().unwrap().push(Arc::downgrade(&executable));
        Ok(LoadedModel { executable, ..opened })
    }
}

impl Watched {
    fn alive(&self) -> usize {
        self.models.lock().unwrap().iter().filter(|model| model.strong_count() > 0).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_that_left_are_freed() {
    let folder = Folder::new();
    folder.put("a", "1", "identity");
    let watched = Arc::new(Watched::default());
    let opener: Arc<dyn OpenModel> = Arc::<Watched>::clone(&watched);
    let running = start(&quick_config(&folder), opener).await.unwrap();
    let (address, admin) = (running.http, running.admin);
    until(|| async { get(address, "/v2/models/a/ready").await.status == 200 }).await;
    // Every way in and out: reload, failed load, failed warm-up, unload.
    let load = || post(admin, "/v2/repository/models/a/load", "");
    for round in 0..40 {
        folder.put("a", "1", if round % 2 == 0 { "slow 0" } else { "identity" });
        assert_eq!(load().await.status, 200);
        assert_eq!(post(address, "/v2/models/a/infer", row([0.0; 4])).await.status, 200);
        folder.put("a", "1", "not a model");
        assert!(load().await.error(500).contains("not a fake model"));
        folder.settings("a", "warm_up: [{rows: 2}]\n");
        folder.put("a", "1", "failing");
        assert!(load().await.error(500).contains("warm-up request 1 failed"));
        folder.settings("a", "{}\n");
        if round % 4 == 3 {
            assert_eq!(post(admin, "/v2/repository/models/a/unload", "").await.status, 200);
            until(|| async { watched.alive() == 0 }).await;
        }
    }
    folder.put("a", "1", "identity");
    assert_eq!(load().await.status, 200);
    assert!(watched.opened.load(Ordering::Relaxed) >= 120);
    until(|| async { watched.alive() == 1 }).await;
    assert_eq!(running.server.catalog.servables().len(), 1);
    assert_eq!(running.server.catalog.index().len(), 1);
    running.stop(std::time::Duration::ZERO).await.unwrap();
}
