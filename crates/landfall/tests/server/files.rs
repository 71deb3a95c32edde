//! Model files and packages that are overwritten, cut short, or never finished.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use landfall::config::ModelFile;
use landfall::loading::{ModelFiles, OpenModel};
use landfall::serving::start;
use landfall_tensor::FileAccess;

use crate::client::{get, post};
use crate::harness::{Folder, quick_config, until};
use crate::process::{Served, example, run};

const DIGITS: &str = "digits/models/digits/1/model.onnx";

fn digits_request() -> String {
    let (shape, data) = ([1, 1, 8, 8], vec![0.5; 64]);
    let input =
        serde_json::json!({"name": "image", "datatype": "FP32", "shape": shape, "data": data});
    serde_json::json!({"inputs": [input]}).to_string()
}

/// Packages the digits model into `folder`, under limits.
fn package(limits: &str, folder: &Path) -> (std::process::Output, PathBuf) {
    let (model, output) = (example(DIGITS), folder.join("digits.landfall"));
    let arguments: [&OsStr; 4] =
        ["package".as_ref(), model.as_ref(), "-o".as_ref(), output.as_ref()];
    (run(limits, &arguments), output)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_file_may_be_overwritten_in_place() {
    for kind in ["model.onnx", "model.landfall"] {
        let folder = Folder::new();
        let version = folder.path().join("digits/1");
        std::fs::create_dir_all(&version).unwrap();
        let file = version.join(kind);
        match kind {
            "model.onnx" => drop(std::fs::copy(example(DIGITS), &file).unwrap()),
            _ => {
                let (done, package) = package("true", folder.path());
                assert!(done.status.success(), "{done:?}");
                std::fs::rename(package, &file).unwrap();
            }
        }
        let config = quick_config(&folder);
        let config = landfall::config::ServeConfig { poll: std::time::Duration::ZERO, ..config };
        let running = start(&config, Arc::new(ModelFiles)).await.unwrap();
        let infer = "/v2/models/digits/infer";
        until(|| async { get(running.http, "/v2/models/digits/ready").await.status == 200 }).await;
        let before = post(running.http, infer, digits_request()).await;
        assert_eq!(before.status, 200, "{}", String::from_utf8_lossy(&before.body));
        // As `cp` does it: truncated first. A mapped file would raise SIGBUS here.
        std::fs::write(&file, b"").unwrap();
        let after = post(running.http, infer, digits_request()).await;
        assert_eq!(after.body, before.body);
        std::fs::write(&file, vec![0; 100_000]).unwrap();
        assert_eq!(post(running.http, infer, digits_request()).await.body, before.body);
        let failed = post(running.admin, "/v2/repository/models/digits/load", "").await;
        assert!(failed.error(500).contains("digits"));
        assert_eq!(post(running.http, infer, digits_request()).await.body, before.body);
    }
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let folder = Folder::new();
    let (done, whole) = package("true", folder.path());
    assert!(done.status.success(), "{done:?}");
    for (whole, cut) in [(whole, "cut.landfall"), (example(DIGITS), "cut.onnx")] {
        let bytes = std::fs::read(whole).unwrap();
        let cut = folder.path().join(cut);
        let step = bytes.len() / 97 + 1;
        for length in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            std::fs::write(&cut, &bytes[..length]).unwrap();
            for access in [FileAccess::Copied, FileAccess::Mapped] {
                let opened = ModelFiles.open(&cut, access, &ModelFile::default());
                let error = opened.err().unwrap_or_else(|| panic!("{length} bytes are a model"));
                assert!(error.contains("cut."), "{error}");
            }
        }
    }
}

/// Blocks of 512 bytes that a process may write to one file: less than any output needs.
const SMALL: &str = "ulimit -f 16";

#[test]
fn a_package_that_is_not_finished_leaves_the_old_one() {
    let folder = Folder::new();
    let (done, output) = package("true", folder.path());
    assert!(done.status.success(), "{done:?}");
    let before = std::fs::read(&output).unwrap();
    // The disk is full: an error, and nothing is left behind.
    let (done, _) = package(&format!("trap '' XFSZ; {SMALL}"), folder.path());
    let message = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{message}");
    assert!(message.contains("digits.landfall"), "{message}");
    assert_eq!(names(folder.path()), ["digits.landfall"]);
    assert_eq!(std::fs::read(&output).unwrap(), before);
    // Killed in the middle of writing: what is left behind is no model of a repository.
    let (done, _) = package(SMALL, folder.path());
    assert!(done.status.signal().is_some(), "{done:?}");
    assert_eq!(std::fs::read(&output).unwrap(), before);
    let left = names(folder.path());
    assert!(left.iter().all(|name| name == "digits.landfall" || name.starts_with('.')), "{left:?}");
}

#[test]
fn scores_that_are_not_finished_leave_the_old_ones() {
    let model = example("flights/models/flights/1/model.onnx");
    let input = example("flights/flights.parquet");
    for format in ["parquet", "csv", "jsonl", "arrow"] {
        let folder = Folder::new();
        let output = folder.path().join(format!("scored.{format}"));
        std::fs::write(&output, "old").unwrap();
        let arguments: [&OsStr; 6] = [
            "score".as_ref(),
            model.as_ref(),
            "--input".as_ref(),
            input.as_ref(),
            "--output".as_ref(),
            output.as_ref(),
        ];
        let done = run(&format!("trap '' XFSZ; {SMALL}"), &arguments);
        assert!(done.status.code().is_some_and(|code| code > 0), "{format}: {done:?}");
        assert_eq!(std::fs::read(&output).unwrap(), b"old", "{format}");
        assert_eq!(names(folder.path()), [format!("scored.{format}")]);
        if format == "csv" {
            let done = run(SMALL, &arguments);
            assert!(done.status.signal().is_some(), "{done:?}");
            assert_eq!(std::fs::read(&output).unwrap(), b"old");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reading_its_output_does_not_end_the_server() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path().join("digits/1")).unwrap();
    std::fs::copy(example(DIGITS), folder.path().join("digits/1/model.onnx")).unwrap();
    let path = folder.path().to_owned();
    let served = tokio::task::spawn_blocking(move || Served::deaf(&path)).await.unwrap();
    // A line of the log for each model that comes.
    std::fs::create_dir_all(folder.path().join("more/1")).unwrap();
    std::fs::copy(example(DIGITS), folder.path().join("more/1/model.onnx")).unwrap();
    until(|| async { get(served.http, "/v2/models/more/ready").await.status == 200 }).await;
    let status = tokio::task::spawn_blocking(|| served.terminate()).await.unwrap();
    assert!(status.success(), "{status}");
}
