//! Weights in files beside the model, and attempts to reach others.

use std::fs;
use std::path::{Path, PathBuf};

use landfall_onnx::import_file;

/// A length-delimited field.
fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 16_384 && number < 16, "two bytes hold the length, one the key");
    let (low, high) = ((payload.len() & 0x7f) as u8, (payload.len() >> 7) as u8);
    [&[number << 3 | 2, low | 0x80, high], payload].concat()
}

/// A model that gives a constant `[2]` of floats, whose bytes are at `location`.
fn model(location: &str, offset: &str, length: &str) -> Vec<u8> {
    let entry = |key: &str, value: &str| {
        field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
    };
    let tensor = [
        vec![0x08, 2, 0x10, 1],
        field(8, b"w"),
        entry("location", location),
        entry("offset", offset),
        entry("length", length),
        vec![0x70, 1],
    ]
    .concat();
    let graph = [field(5, &tensor), field(12, &field(1, b"w"))].concat();
    let opset = [field(1, b""), vec![0x10, 18]].concat();
    [field(7, &graph), field(8, &opset)].concat()
}

/// A folder of this test, with a model in `models` and weights beside it.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("external_{test}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("models")).unwrap();
    let weights: Vec<u8> = [9.0f32, 1.0, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    fs::write(folder.join("models/weights.bin"), &weights).unwrap();
    fs::write(folder.join("secret.bin"), &weights).unwrap();
    folder
}

fn import(folder: &Path, bytes: &[u8]) -> Result<Vec<f32>, String> {
    let path = folder.join("models/model.onnx");
    fs::write(&path, bytes).unwrap();
    let graph = import_file(&path).map_err(|error| error.to_string())?.graph;
    let tensor = graph.constant(graph.outputs[0]).ok_or("the output is no constant")?.clone();
    Ok(tensor.aligned().as_slice::<f32>().map_err(|error| error.to_string())?.to_vec())
}

#[test]
fn weights_beside_the_model_are_mapped() {
    let folder = folder("plain");
    assert_eq!(import(&folder, &model("weights.bin", "4", "8")), Ok(vec![1.0, 2.0]));
    assert_eq!(import(&folder, &model("./weights.bin", "0", "")), Ok(vec![9.0, 1.0]));
}

#[test]
fn ranges_are_checked() {
    let folder = folder("ranges");
    let refused = |offset, length| import(&folder, &model("weights.bin", offset, length));
    assert!(refused("8", "8").unwrap_err().contains("needs 8 bytes at 8 of 'weights.bin'"));
    assert!(refused("18446744073709551615", "8").unwrap_err().contains("which has 12"));
    assert!(refused("0", "4").unwrap_err().contains("needs 8 bytes, got 4"));
    assert!(refused("-1", "8").unwrap_err().contains("external offset '-1' is no number"));
}

#[test]
fn other_folders_are_out_of_reach() {
    let folder = folder("escape");
    let absolute = folder.join("secret.bin");
    for location in ["../secret.bin", "x/../../secret.bin", "", absolute.to_str().unwrap()] {
        let error = import(&folder, &model(location, "0", "8")).unwrap_err();
        assert!(error.contains("external data"), "{location}: {error}");
    }
    let missing = import(&folder, &model("nothing.bin", "0", "8")).unwrap_err();
    assert!(missing.contains("cannot read external data 'nothing.bin'"), "{missing}");
}

#[cfg(unix)]
#[test]
fn links_lead_out_only_to_where_the_models_own_link_leads() {
    use std::os::unix::fs::symlink;
    let folder = folder("links");
    symlink("../secret.bin", folder.join("models/link.bin")).unwrap();
    let error = import(&folder, &model("link.bin", "0", "8")).unwrap_err();
    assert!(error.contains("leads out of the model's folder"), "{error}");
    fs::create_dir(folder.join("store")).unwrap();
    fs::write(folder.join("store/1"), model("data.bin", "0", "8")).unwrap();
    fs::rename(folder.join("models/weights.bin"), folder.join("store/2")).unwrap();
    symlink("../store/1", folder.join("models/cached.onnx")).unwrap();
    symlink("../store/2", folder.join("models/data.bin")).unwrap();
    assert!(import_file(folder.join("models/cached.onnx")).is_ok());
}
