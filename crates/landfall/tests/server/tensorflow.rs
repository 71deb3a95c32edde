//! TensorFlow Serving's REST form, the `/invocations` contract and embeddings.

use serde_json::json;

use crate::client::{get, post, send};
use crate::harness::{Folder, row, serve, serve_folder};

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_columns() {
    let server = serve(&[("add", "add"), ("identity", "identity")]).await;
    let rows = r#"{"instances":[{"a":[1,2,3,4],"b":[1,1,1,1]},{"a":[0,0,0,0],"b":[5,6,7,8]}]}"#;
    let reply = post(server.http(), "/v1/models/add:predict", rows).await.json();
    assert_eq!(reply, json!({"predictions": [[2.0, 3.0, 4.0, 5.0], [5.0, 6.0, 7.0, 8.0]]}));
    let columns = r#"{"inputs":{"a":[[1,2,3,4]],"b":[[1,1,1,1]]}}"#;
    let reply = post(server.http(), "/v1/models/add/versions/1:predict", columns).await.json();
    assert_eq!(reply, json!({"outputs": [[2.0, 3.0, 4.0, 5.0]]}));
    let both = r#"{"inputs":[],"instances":[]}"#;
    assert_eq!(post(server.http(), "/v1/models/identity:predict", both).await.status, 400);
    let verb = post(server.http(), "/v1/models/identity:classify", "{}").await;
    assert!(verb.error(501).contains("use ':predict'"));
    assert_eq!(post(server.http(), "/v1/models/identity", "{}").await.status, 400);
    let unknown = post(server.http(), "/v1/models/nope:predict", "{}").await;
    assert!(unknown.error(404).contains("nope"));
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_name_versions() {
    let folder = Folder::new();
    folder.put("m", "1", "identity");
    folder.put("m", "2", "add");
    folder.settings("m", "versions: all\nlabels: {stable: 1}\n");
    let server = serve_folder(folder, |_| ()).await;
    let rows = r#"{"instances":[[1,2,3,4]]}"#;
    let reply = post(server.http(), "/v1/models/m/labels/stable:predict", rows).await;
    assert_eq!(reply.json(), json!({"predictions": [[1.0, 2.0, 3.0, 4.0]]}));
    assert_eq!(post(server.http(), "/v1/models/m/labels/nope:predict", rows).await.status, 404);
    let status = get(server.http(), "/v1/models/m/labels/stable").await.json();
    assert_eq!(status["model_version_status"][0]["version"], "1");
    assert_eq!(status["model_version_status"][0]["state"], "AVAILABLE");
    let all = get(server.http(), "/v1/models/m").await.json();
    assert_eq!(all["model_version_status"].as_array().unwrap().len(), 2);
    let absent = get(server.http(), "/v1/models/m/versions/9").await;
    assert_eq!(absent.error(404), "model 'm' has no version 9; it has 1, 2");
    let absent = get(server.http(), "/v1/models/nope/versions/9").await;
    assert_eq!(absent.error(404), "no versions of model 'nope' found");
    for path in ["/v1/models/m:predict", "/v1/models/m/versions/1:predict"] {
        let wrong = get(server.http(), path).await;
        assert_eq!(wrong.header("allow"), Some("POST"));
        assert_eq!(wrong.error(405), format!("method GET is not allowed on {path}"));
    }
    let metadata = get(server.http(), "/v1/models/m/versions/1/metadata").await.json();
    let definition = &metadata["metadata"]["signature_def"]["signature_def"]["serving_default"];
    assert_eq!(definition["inputs"]["x"]["dtype"], "DT_FLOAT");
}

#[tokio::test(flavor = "multi_thread")]
async fn invocations_take_both_forms() {
    let server = serve(&[("identity", "identity")]).await;
    assert_eq!(get(server.http(), "/ping").await.status, 200);
    let reply = post(server.http(), "/invocations", r#"{"instances":[[1,2,3,4]]}"#).await;
    assert_eq!(reply.json(), json!({"predictions": [[1.0, 2.0, 3.0, 4.0]]}));
    let reply = post(server.http(), "/invocations", row([1.0; 4])).await.json();
    assert_eq!(reply["outputs"][0]["name"], "y");
}

#[tokio::test(flavor = "multi_thread")]
async fn invocations_name_one_of_several_models() {
    let server = serve(&[("a", "identity"), ("b", "identity")]).await;
    let body = br#"{"instances":[[1,2,3,4]]}"#;
    assert!(post(server.http(), "/invocations", body).await.error(400).contains("a, b"));
    let headers = [("X-Amzn-SageMaker-Target-Model", "b")];
    assert_eq!(send(server.http(), "POST", "/invocations", &headers, body).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_of_text() {
    let server = serve(&[("embed", "embed"), ("words", "words"), ("identity", "identity")]).await;
    let body = json!({"model": "words", "input": ["hello world", "a"]}).to_string();
    let reply = post(server.http(), "/v1/embeddings", body).await.json();
    assert_eq!(reply["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    assert_eq!(reply["data"][0]["embedding"], json!([11.0, 1.0]));
    let body = json!({"model": "embed", "input": ["hello world", "a"]}).to_string();
    let reply = post(server.http(), "/v1/embeddings", body).await.json();
    assert_eq!(reply["usage"], json!(null), "nobody knows its tokens");
    assert_eq!(reply["object"], "list");
    assert_eq!(reply["data"][0]["embedding"], json!([11.0, 1.0]));
    assert_eq!(reply["data"][1]["index"], 1);
    let one = json!({"model": "embed", "input": "a", "encoding_format": "base64"}).to_string();
    let reply = post(server.http(), "/v1/embeddings", one).await.json();
    assert_eq!(reply["data"][0]["embedding"], "AACAPwAAAAA=");
    let wrong = json!({"model": "identity", "input": "a"}).to_string();
    let message = post(server.http(), "/v1/embeddings", wrong).await.error(400);
    assert!(message.contains("does not turn text into vectors"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_refuse_what_they_cannot_do() {
    let server = serve(&[("embed", "embed")]).await;
    let address = server.http();
    let ask = |body: serde_json::Value| async move {
        post(address, "/v1/embeddings", body.to_string()).await
    };
    let fits = ask(json!({"model": "embed", "input": "a", "dimensions": 2})).await;
    assert_eq!(fits.status, 200);
    let cases = [
        (
            json!({"model": "embed", "input": "a", "dimensions": 1}),
            "have 2 and cannot be shortened",
        ),
        (json!({"model": "embed", "input": "a", "dimensions": "2"}), "cannot be shortened"),
        (json!({"model": "embed", "input": 5}), "expected a string or a list of strings"),
        (json!({"model": "embed", "input": [true]}), "expected a string or a list of strings"),
        (json!({"model": "embed", "input": [1, 2]}), "token ids, which are not supported"),
        (json!({"model": "embed", "input": [[1], [2]]}), "token ids, which are not supported"),
        (json!({"model": "embed", "input": []}), "'input' is empty"),
    ];
    for (body, expected) in cases {
        let message = ask(body.clone()).await.error(400);
        assert!(message.contains(expected), "{body}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invocations_go_by_their_content_type() {
    let server = serve(&[("a", "add"), ("text", "text")]).await;
    let address = server.http();
    let send = |model: &'static str, media: &'static str, body: &'static str| async move {
        let headers = [("Content-Type", media), ("X-Amzn-SageMaker-Target-Model", model)];
        send(address, "POST", "/invocations", &headers, body.as_bytes()).await
    };
    let sums = json!({"predictions": [[2.0, 2.0, 2.0, 2.0]]});
    let rows = r#"[{"a":[1,1,1,1],"b":[1,1,1,1]}]"#;
    for body in [format!("{{\"instances\":{rows}}}"), format!("{{\"dataframe_records\":{rows}}}")] {
        let body: &'static str = body.leak();
        for media in ["application/json", "application/json; charset=utf-8"] {
            assert_eq!(send("a", media, body).await.json(), sums);
        }
        assert_eq!(send("a", "application/x-www-form-urlencoded", body).await.json(), sums);
    }
    let split = r#"{"dataframe_split":{"columns":["a","b"],"data":[[[1,1,1,1],[1,1,1,1]]]}}"#;
    assert_eq!(send("a", "application/json", split).await.json(), sums);
    let text = json!({"predictions": ["a line, and more"]});
    for media in ["text/plain; charset=utf-8", "application/octet-stream", "image/png"] {
        assert_eq!(send("text", media, "a line, and more").await.json(), text);
    }
    let table = send("text", "text/csv", "x\none\n\"two, more\"\n").await.json();
    assert_eq!(table, json!({"predictions": ["one", "two, more"]}));
    for (model, media) in [("a", "text/plain"), ("a", "image/jpeg"), ("text", "application/xml")] {
        let message = send(model, media, "{}").await.error(415);
        assert!(message.contains("expected application/json or text/csv"), "{message}");
    }
    assert!(send("a", "text/csv", "c\n1\n").await.error(400).contains("unknown input 'c'"));
}
