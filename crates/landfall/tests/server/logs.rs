//! Log lines: one for every request, over HTTP and gRPC alike, and one for every fault.

use landfall_protocol::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use landfall_protocol::inference::model_infer_request::InferInputTensor;
use landfall_protocol::inference::*;
use landfall_tensor::{Shape, Tensor};
use serde_json::Value;
use tonic::{Code, Request};

use crate::client::send;
use crate::harness::{Folder, until};
use crate::process::Served;

/// Fails on ids from 3 on.
const LOOKUP: &str = r#"graph "lookup" {
  input %id: i64[n]
  const %table: f32[3] = @0
  %y: f32[n] = Gather(%table, %id) {axis=0}
  output %y
}"#;

fn lookup_folder() -> Folder {
    let folder = Folder::new();
    let table = Tensor::from_slice(Shape::from([3]), &[1f32, 2.0, 3.0]).unwrap();
    folder.put_graph("lookup", LOOKUP, &[table]);
    folder
}

fn lookup(model: &str, id: i64) -> ModelInferRequest {
    let input = InferInputTensor {
        name: "id".into(),
        datatype: "INT64".into(),
        shape: vec![1],
        ..InferInputTensor::default()
    };
    ModelInferRequest {
        model_name: model.into(),
        id: format!("message-{id}"),
        inputs: vec![input],
        raw_input_contents: vec![id.to_le_bytes().to_vec().into()],
        ..ModelInferRequest::default()
    }
}

fn called<T>(message: T, id: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-request-id", id.parse().unwrap());
    request
}

/// The lines about one request.
fn lines(log: &str, id: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.filter(|line: &Value| line["request_id"] == id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_their_faults_are_logged_like_http_requests() {
    let folder = lookup_folder();
    let shell = "export LANDFALL_LOG_LEVEL=debug LANDFALL_LOG_FORMAT=json";
    let path = folder.path().to_owned();
    let served = tokio::task::spawn_blocking(move || Served::start(shell, &path)).await.unwrap();
    let mut client =
        GrpcInferenceServiceClient::connect(format!("http://{}", served.grpc)).await.unwrap();

    let reply = client.model_infer(called(lookup("lookup", 2), "good")).await.unwrap();
    assert_eq!(reply.metadata().get("x-request-id").unwrap(), "good");
    let error = client.model_infer(called(lookup("lookup", 9), "fault")).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert_eq!(error.metadata().get("x-request-id").unwrap(), "fault");
    let error = client.model_infer(called(lookup("nope", 1), "unknown")).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    let ready = ModelReadyRequest { name: "lookup".into(), version: String::new() };
    client.model_ready(called(ready, "ready")).await.unwrap();
    let given = client.server_live(ServerLiveRequest {}).await.unwrap();
    let given = given.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
    let requests = tokio_stream::iter([lookup("lookup", 1), lookup("lookup", 8)]);
    let mut replies =
        client.model_stream_infer(called(requests, "stream")).await.unwrap().into_inner();
    while replies.message().await.unwrap().is_some() {}
    let headers = [("X-Request-Id", "last")];
    assert_eq!(send(served.http, "GET", "/v2", &headers, b"").await.status, 200);
    until(|| async { !lines(&served.log(), "last").is_empty() }).await;

    let log = served.log();
    let infer = "inference.GRPCInferenceService/ModelInfer";
    for (id, status) in [("good", "Ok"), ("unknown", "NotFound"), ("fault", "Internal")] {
        let line = lines(&log, id).pop().unwrap();
        assert_eq!((&line["message"], &line["level"]), (&"request".into(), &"DEBUG".into()));
        assert_eq!((&line["method"], &line["status"]), (&infer.into(), &status.into()), "{line}");
        assert_eq!(line["model"], if id == "unknown" { "nope" } else { "lookup" });
        assert!(line["micros"].is_u64(), "{line}");
    }
    assert_eq!(lines(&log, "good").len(), 1);
    let fault = &lines(&log, "fault")[0];
    assert_eq!((&fault["message"], &fault["level"]), (&"request failed".into(), &"ERROR".into()));
    assert!(!fault["problem"].as_str().unwrap().is_empty());
    assert_eq!(lines(&log, "ready")[0]["model"], "lookup");
    assert_eq!(lines(&log, &given).len(), 1);
    let stream = lines(&log, "stream");
    let message = |id: &str| stream.iter().find(|line| line["message_id"] == id).unwrap();
    assert_eq!(message("message-1")["status"], "Ok");
    assert_eq!(message("message-8")["status"], "Internal");
    assert!(stream.iter().any(|line| line["message"] == "request failed"));
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["target"].as_str().unwrap().starts_with("landfall"), "{line}");
    }
}
