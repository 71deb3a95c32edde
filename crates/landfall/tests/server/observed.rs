//! The cases that clients of other servers rely on: status codes and error bodies.

use std::collections::BTreeSet;

use serde_json::json;

use crate::client::{get, post, send};
use crate::harness::{row, serve};

const INFER: &str = "/v2/models/identity/infer";

fn with_input(fields: serde_json::Value) -> String {
    json!({"inputs": [fields]}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_400_and_name_the_fault() {
    let server = serve(&[("identity", "identity")]).await;
    let tensor = |shape: serde_json::Value, datatype: &str, data: serde_json::Value| {
        with_input(json!({"name": "x", "shape": shape, "datatype": datatype, "data": data}))
    };
    let good = json!({"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]});
    let cases = [
        ("{\"inputs\": [".to_owned(), "malformed JSON at byte 12"),
        ("{}".to_owned(), "no 'inputs'"),
        (tensor(json!([1, 4]), "FP32", json!([1, 2, 3])), "needs 4 elements, got 3"),
        (tensor(json!([1, 4]), "FP32", json!([1, 2, 3, "four"])), "found the string \"four\""),
        (tensor(json!([-1, 4]), "FP32", json!([1, 2, 3, 4])), "extent -1"),
        (tensor(json!([1, 3]), "FP32", json!([1, 2, 3])), "[1,3]"),
        (tensor(json!([1, 4]), "INT32", json!([1, 2, 3, 4])), "INT32"),
        (with_input(json!({"name": "z", "shape": [1], "datatype": "FP32", "data": [1]})), "z"),
        (
            json!({
                "inputs": [good],
                "outputs": [{"name": "nope"}],
            })
            .to_string(),
            "nope",
        ),
        (
            json!({
                "inputs": [good],
                "outputs": [{"name": "y"}, {"name": "y"}],
            })
            .to_string(),
            "output 'y' is requested twice",
        ),
    ];
    for (body, expected) in cases {
        let message = post(server.http(), INFER, &body).await.error(400);
        assert!(message.contains(expected), "{body}: {message}");
    }
    let empty = post(server.http(), INFER, "").await.error(400);
    assert!(empty.contains("the body is empty; expected JSON"), "{empty}");
    assert!(empty.contains("inference-header-content-length: 0"), "{empty}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_models_and_versions_are_404() {
    let server = serve(&[("identity", "identity")]).await;
    let body = row([0.0; 4]);
    let unknown = "Request for unknown model: 'nope' is not found";
    assert_eq!(post(server.http(), "/v2/models/nope/infer", &body).await.error(404), unknown);
    assert_eq!(get(server.http(), "/v2/models/nope").await.error(404), unknown);
    assert_ne!(get(server.http(), "/v2/models/nope/ready").await.status, 200);
    let version = post(server.http(), "/v2/models/identity/versions/7/infer", &body).await;
    assert!(version.error(404).contains('7'));
    let text = post(server.http(), "/v2/models/identity/versions/one/infer", &body).await;
    assert!(text.error(400).contains("'one' is not a positive integer"));
    assert_eq!(get(server.http(), "/v2/models/nope/stats").await.status, 404);
    assert!(get(server.http(), "/no/such/path").await.error(404).contains("/no/such/path"));
    assert!(get(server.http(), INFER).await.error(405).contains("GET"));
    assert_eq!(get(server.http(), "/v2/models/..%2f..%2fetc/config").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_length_of_the_header_is_checked() {
    let server = serve(&[("identity", "identity")]).await;
    let address = server.http();
    let ask = |length: &'static str| {
        let headers = [("Inference-Header-Content-Length", length)];
        async move { send(address, "POST", INFER, &headers, b"{}").await.error(400) }
    };
    let expected = "inference header size should be in range (0, 2), got: 999";
    assert_eq!(ask("999").await, expected);
    for hostile in ["-1", "18446744073709551616", "abc"] {
        assert!(ask(hostile).await.contains("inference header size should be"), "{hostile}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_model_are_500_and_its_neighbours_live() {
    let server = serve(&[("failing", "failing"), ("identity", "identity")]).await;
    let message = post(server.http(), "/v2/models/failing/infer", row([0.0; 4])).await.error(500);
    assert!(message.contains("node 'Bad_0' failed"), "{message}");
    assert_eq!(post(server.http(), INFER, row([0.0; 4])).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metadata() {
    let server = serve(&[("identity", "identity"), ("bad", "not a model")]).await;
    assert_eq!(get(server.http(), "/v2/health/live").await.json()["live"], true);
    assert_eq!(get(server.http(), "/v2/health/ready").await.json()["ready"], true);
    assert_eq!(get(server.http(), "/v2").await.json()["name"], "landfall");
    let metadata = get(server.http(), "/v2/models/identity").await.json();
    assert_eq!(metadata["inputs"], json!([{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]));
    assert_eq!(metadata["versions"], json!(["1"]));
    let config = get(server.http(), "/v2/models/identity/config").await.json();
    assert_eq!(config["input"][0], json!({"name": "x", "data_type": "TYPE_FP32", "dims": [4]}));
    assert!(config["max_batch_size"].as_u64().unwrap() > 0);
    assert_eq!(get(server.http(), "/v2/models/identity/versions/1/ready").await.status, 200);
    assert_eq!(get(server.http(), "/v2/models/bad/ready").await.status, 503);
    let index = post(server.http(), "/v2/repository/index", "").await.json();
    assert_eq!(index[0]["name"], "bad");
    assert_eq!(index[0]["state"], "UNAVAILABLE");
    assert!(index[0]["reason"].as_str().unwrap().contains("not a fake model"));
    let ready = post(server.http(), "/v2/repository/index", r#"{"ready":true}"#).await.json();
    assert_eq!(ready.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_ids_come_back_or_are_given() {
    let server = serve(&[("identity", "identity")]).await;
    let headers = [("X-Request-Id", "abc-1")];
    let reply = send(server.http(), "GET", "/v2", &headers, b"").await;
    assert_eq!(reply.header("x-request-id"), Some("abc-1"));
    let hostile = "x".repeat(1000);
    let headers = [("X-Request-Id", hostile.as_str())];
    let first = send(server.http(), "GET", "/v2", &headers, b"").await;
    let second = get(server.http(), "/v2").await;
    assert!(first.header("x-request-id").unwrap().len() < 100);
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_give_different_request_ids() {
    let server = serve(&[("identity", "identity")]).await;
    let (mut processes, mut counts) = (BTreeSet::new(), BTreeSet::new());
    for address in [server.http(), server.admin(), server.http(), server.admin()] {
        let reply = get(address, "/v2").await;
        let (process, count) = reply.header("x-request-id").unwrap().split_once('-').unwrap();
        processes.insert(process.to_owned());
        counts.insert(count.to_owned());
    }
    // Started within one millisecond, two counters would give the same ids.
    assert_eq!((processes.len(), counts.len()), (1, 4), "{processes:?} {counts:?}");
}
