//! Predictions over HTTP in every form of tensor.

use serde_json::json;

use crate::client::{get, post, send};
use crate::harness::{row, serve};

const INFER: &str = "/v2/models/identity/infer";
const LENGTH: &str = "Inference-Header-Content-Length";

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn json_in_json_out() {
    let server = serve(&[("identity", "identity")]).await;
    let mut request: serde_json::Value =
        serde_json::from_str(&row([0.1, f32::MAX, -0.0, 3.0])).unwrap();
    request["id"] = json!("my id");
    let reply = post(server.http(), INFER, request.to_string()).await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let reply = reply.json();
    assert_eq!(reply["id"], "my id");
    assert_eq!(reply["model_name"], "identity");
    assert_eq!(reply["model_version"], "1");
    let output = &reply["outputs"][0];
    assert_eq!(output["shape"], json!([1, 4]));
    let values: Vec<f32> = serde_json::from_value(output["data"].clone()).unwrap();
    assert_eq!(values, [0.1, f32::MAX, -0.0, 3.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn non_finite_numbers_stay_json() {
    let server = serve(&[("identity", "identity")]).await;
    let body = r#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32",
        "data":[NaN,"Infinity",-Infinity,1]}]}"#;
    let reply = post(server.http(), INFER, body).await.json();
    assert_eq!(reply["outputs"][0]["data"], json!(["NaN", "Infinity", "-Infinity", 1.0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_tensors_in_and_out() {
    let server = serve(&[("identity", "identity")]).await;
    let tensor = bytes(&[1.0, 2.0, 3.0, 4.0]);
    let json = json!({
        "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32",
                    "parameters": {"binary_data_size": 16}}],
        "outputs": [{"name": "y", "parameters": {"binary_data": true}}],
    })
    .to_string();
    let length = json.len().to_string();
    let mut body = json.into_bytes();
    body.extend_from_slice(&tensor);
    let reply = send(server.http(), "POST", INFER, &[(LENGTH, &length)], &body).await;
    assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
    let split: usize = reply.header(LENGTH).unwrap().parse().unwrap();
    let header: serde_json::Value = serde_json::from_slice(&reply.body[..split]).unwrap();
    assert_eq!(header["outputs"][0]["parameters"]["binary_data_size"], 16);
    assert_eq!(&reply.body[split..], tensor);
    body.pop();
    let short = send(server.http(), "POST", INFER, &[(LENGTH, &length)], &body).await;
    assert!(short.error(400).contains("binary_data_size is 16, but 15 bytes are left"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bare_tensor() {
    let server = serve(&[("identity", "identity"), ("add", "add")]).await;
    let tensor = bytes(&[1.0, 2.0, 3.0, 4.0]);
    let reply = send(server.http(), "POST", INFER, &[(LENGTH, "0")], &tensor).await;
    let split: usize = reply.header(LENGTH).unwrap().parse().unwrap();
    assert_eq!(&reply.body[split..], tensor);
    let add = send(server.http(), "POST", "/v2/models/add/infer", &[(LENGTH, "0")], &tensor);
    assert!(add.await.error(400).contains("needs a model with one input, this one has 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_classification() {
    let server = serve(&[("text", "text"), ("identity", "identity")]).await;
    let input =
        json!({"name": "x", "shape": [2], "datatype": "BYTES", "data": ["a\u{0}b", "\u{e9}"]});
    let reply =
        post(server.http(), "/v2/models/text/infer", json!({"inputs": [input]}).to_string());
    assert_eq!(reply.await.json()["outputs"][0]["data"], json!(["a\u{0}b", "\u{e9}"]));
    let mut request: serde_json::Value = serde_json::from_str(&row([0.1, 0.7, 0.0, 0.2])).unwrap();
    request["outputs"] = json!([{"name": "y", "parameters": {"classification": 2}}]);
    let reply = post(server.http(), INFER, request.to_string()).await.json();
    assert_eq!(reply["outputs"][0]["datatype"], "BYTES");
    assert_eq!(reply["outputs"][0]["data"], json!(["0.700000:1", "0.200000:3"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_and_metrics_count() {
    let server = serve(&[("identity", "identity")]).await;
    for _ in 0..3 {
        assert_eq!(post(server.http(), INFER, row([0.0; 4])).await.status, 200);
    }
    assert_eq!(post(server.http(), INFER, "{").await.status, 400);
    let statistics = get(server.http(), "/v2/models/identity/stats").await.json();
    let model = &statistics["model_stats"][0];
    assert_eq!(model["inference_count"], 3);
    assert_eq!(model["inference_stats"]["success"]["count"], 3);
    assert!(model["last_inference"].as_u64().unwrap() > 0);
    let metrics = String::from_utf8(get(server.http(), "/metrics").await.body).unwrap();
    for line in [
        "landfall_requests_total{protocol=\"http\",method=\"infer\",code=\"200\"} 3",
        "landfall_requests_total{protocol=\"http\",method=\"infer\",code=\"400\"} 1",
        "landfall_inference_seconds_count{model=\"identity\",version=\"1\",stage=\"total\"} 3",
        "landfall_inference_seconds_count{model=\"identity\",version=\"1\",stage=\"queue\"} 3",
        "nv_inference_request_success{model=\"identity\",version=\"1\"} 3",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in:\n{metrics}");
    }
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_requests_use_one_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = serve(&[("identity", "identity")]).await;
    let mut stream = tokio::net::TcpStream::connect(server.http()).await.unwrap();
    let body = row([1.0; 4]);
    let request =
        format!("POST {INFER} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for _ in 0..20 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = vec![0; 4096];
        let read = stream.read(&mut reply).await.unwrap();
        assert!(reply[..read].starts_with(b"HTTP/1.1 200"), "{:?}", &reply[..read]);
    }
}
