//! Text and pictures in, from a model repository: a model.onnx with a manifest.yaml beside it, and
//! the package made of the two, answer alike.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use landfall::loading::ModelFiles;
use landfall::serving::{Running, start};
use landfall_onnx::Metadata;
use landfall_tensor::{Shape, Tensor};
use serde_json::{Value, json};

use crate::client::{get, post, send};
use crate::harness::{Folder, quick_config, until};
use crate::process::{example, run};

/// The mean of the ids, and of the mask.
const TEXT: &str = r#"graph "text" {
  input %input_ids: i64[batch,sequence]
  input %attention_mask: i64[batch,sequence]
  const %axes: i64[1] = @0
  %i: f32[batch,sequence] = Cast(%input_ids) {to="f32"}
  %m: f32[batch,sequence] = Cast(%attention_mask) {to="f32"}
  %a: f32[batch,1] = ReduceSum(%i, %axes)
  %b: f32[batch,1] = ReduceSum(%m, %axes)
  %vector: f32[batch,2] = Concat(%a, %b) {axis=1}
  output %vector
}"#;

/// The mean of each colour.
const PICTURE: &str = r#"graph "picture" {
  input %image: f32[batch,3,8,8]
  const %axes: i64[2] = @0
  %colours: f32[batch,3] = ReduceMean(%image, %axes) {keepdims=0}
  output %colours
}"#;

fn tokenizer() -> String {
    let special = json!({"id": 0, "content": "[UNK]", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special],
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "unk_token": "[UNK]",
                  "vocab": {"[UNK]": 0, "the": 1, "cat": 2, "sits": 4, "outside": 8}},
    })
    .to_string()
}

/// Writes `NAME/1/model.onnx` with a manifest and its asset, and the package of them as
/// `NAME-packed/1/model.landfall`.
fn put(folder: &Folder, name: &str, graph: (&str, &[i64]), manifest: &str, asset: (&str, &str)) {
    let (plain, packed) =
        (folder.path().join(name).join("1"), folder.path().join(format!("{name}-packed/1")));
    std::fs::create_dir_all(&plain).unwrap();
    std::fs::create_dir_all(&packed).unwrap();
    let axes = Tensor::from_slice(Shape::from([graph.1.len()]), graph.1).unwrap();
    let graph = landfall_graph::text::parse(graph.0, &[axes]).unwrap();
    let mut file = std::fs::File::create(plain.join("model.onnx")).unwrap();
    landfall_onnx::export(&graph, &Metadata::default(), &mut file).unwrap();
    std::fs::write(plain.join("manifest.yaml"), manifest).unwrap();
    std::fs::write(plain.join(asset.0), asset.1).unwrap();
    package(&plain, &packed.join("model.landfall"));
}

fn package(version: &Path, output: &Path) {
    let (model, manifest) = (version.join("model.onnx"), version.join("manifest.yaml"));
    let arguments: [&OsStr; 6] = [
        "package".as_ref(),
        model.as_ref(),
        "-o".as_ref(),
        output.as_ref(),
        "--manifest".as_ref(),
        manifest.as_ref(),
    ];
    let done = run("true", &arguments);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

async fn served(folder: &Folder, models: [&'static str; 2]) -> Running {
    let running = start(&quick_config(folder), Arc::new(ModelFiles)).await.unwrap();
    let address = running.http;
    for model in models {
        let path = format!("/v2/models/{model}/ready");
        until(|| async { get(address, &path).await.status == 200 }).await;
    }
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_with_a_tokenizer_takes_text() {
    let folder = Folder::new();
    let manifest = "name: text\npreprocess:\n  - tokenize: {tokenizer: tokenizer.json, \
                    max_length: 16}\nserving: {max_batch_rows: 7}\n";
    put(&folder, "text", (TEXT, &[1]), manifest, ("tokenizer.json", &tokenizer()));
    let running = served(&folder, ["text", "text-packed"]).await;
    for model in ["text", "text-packed"] {
        let body = json!({"model": model, "input": "The cat sits outside"}).to_string();
        let reply = post(running.http, "/v1/embeddings", body).await.json();
        assert_eq!(reply["data"][0]["embedding"], json!([15.0, 4.0]), "{reply}");
        assert_eq!(reply["usage"]["prompt_tokens"], 4);
        let input = json!({"name": "text", "datatype": "BYTES", "shape": [2],
            "data": ["the dog", "cat"]});
        let body = json!({"inputs": [input]}).to_string();
        let reply = post(running.http, &format!("/v2/models/{model}/infer"), body).await.json();
        assert_eq!(reply["outputs"][0]["data"], json!([1.0, 2.0, 2.0, 1.0]), "{reply}");
        let config = get(running.http, &format!("/v2/models/{model}/config")).await.json();
        assert_eq!(config["max_batch_size"], 7);
    }
    // A manifest that cannot be used keeps its version out, with the reason.
    std::fs::write(folder.path().join("text/1/manifest.yaml"), "preproces: []").unwrap();
    let index = || async { post(running.http, "/v2/repository/index", "").await.json() };
    let says = |index: Value| index.to_string().contains("manifest.yaml");
    until(|| async { says(index().await) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_with_pictures_takes_jpeg_files() {
    let folder = Folder::new();
    let manifest = "name: picture\npreprocess:\n  - decode_image: {input: image}\n  \
                    - center_crop: {fraction: 0.5}\n  - resize: {size: 8, filter: bicubic}\n  \
                    - normalize: {mean: [0], std: [255]}\n  - to_layout: {layout: nchw}\n\
                    postprocess:\n  - top_k: {k: 1, labels: labels.txt}\n";
    put(&folder, "picture", (PICTURE, &[2, 3]), manifest, ("labels.txt", "red\ngreen\nblue\n"));
    let running = served(&folder, ["picture", "picture-packed"]).await;
    let jpeg = std::fs::read(example("vision/images/coffee.jpg")).unwrap();
    let base64 = base64::engine::general_purpose::STANDARD.encode(&jpeg);
    for model in ["picture", "picture-packed"] {
        let body = json!({"instances": [{"b64": base64}]}).to_string();
        let path = format!("/v1/models/{model}:predict");
        let reply = post(running.http, &path, body).await.json();
        assert_eq!(reply["predictions"][0]["labels"], json!(["red"]), "{reply}");
        let headers = [("Content-Type", "image/jpeg"), ("X-Amzn-SageMaker-Target-Model", model)];
        let same = send(running.http, "POST", "/invocations", &headers, &jpeg).await.json();
        assert_eq!(same, reply);
        let cut = send(running.http, "POST", "/invocations", &headers, &jpeg[..3000]).await;
        assert!(cut.error(400).contains("is damaged"));
    }
}
