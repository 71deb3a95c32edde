//! Malformed and hostile requests: the reply says what is wrong, and the server serves on.

use landfall::config::ServeConfig;
use landfall::serving::RepositoryControl;
use landfall_protocol::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use landfall_protocol::inference::*;
use serde_json::{Value, json};
use tonic::Code;
use tonic::codec::CompressionEncoding;

use crate::client::{get, post, send};
use crate::grpc::infer_request;
use crate::harness::{Folder, row, serve, serve_folder};

const INFER: &str = "/v2/models/identity/infer";
const LENGTH: &str = "Inference-Header-Content-Length";

/// Names that would leave the repository's folder if anything made a path of them.
const NAMES: [&str; 8] =
    ["..", "../identity", "identity/1", "/etc/passwd", "identity\0", "", ".identity.new", "%"];

fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_never_become_paths() {
    let folder = Folder::new();
    folder.put("identity", "1", "identity");
    folder.put(".identity.new", "1", "identity");
    let public = |config: &mut ServeConfig| config.repository_control = RepositoryControl::Public;
    let server = serve_folder(folder, public).await;
    let address = server.http();
    let mut client = GrpcInferenceServiceClient::connect(server.grpc_url()).await.unwrap();
    for name in NAMES {
        let model = encoded(name);
        for path in [
            format!("/v2/models/{model}"),
            format!("/v2/models/{model}/config"),
            format!("/v2/models/{model}/stats"),
            format!("/v2/models/{model}/ready"),
            format!("/v1/models/{model}"),
            format!("/v1/models/{model}/metadata"),
        ] {
            assert!(!get(address, &path).await.error(404).is_empty(), "{path}");
        }
        for path in [
            format!("/v2/models/{model}/infer"),
            format!("/v1/models/{model}:predict"),
            format!("/v2/repository/models/{model}/load"),
        ] {
            assert!(!post(address, &path, row([0.0; 4])).await.error(404).is_empty(), "{path}");
        }
        let message = infer_request(name);
        assert_eq!(client.model_infer(message).await.unwrap_err().code(), Code::NotFound);
        let load = RepositoryModelLoadRequest {
            model_name: name.into(),
            ..RepositoryModelLoadRequest::default()
        };
        assert_eq!(client.repository_model_load(load).await.unwrap_err().code(), Code::NotFound);
    }
    let names = get(address, "/v2/models").await.json();
    assert_eq!(names, json!({"models": ["identity"]}), "nothing was made up");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_labels_never_become_paths() {
    let server = serve(&[("identity", "identity")]).await;
    let address = server.http();
    let mut client = GrpcInferenceServiceClient::connect(server.grpc_url()).await.unwrap();
    for version in ["..", "../1", "1/../1", "1\0", "-1", "1.0", "18446744073709551616", "0x1"] {
        let path = format!("/v2/models/identity/versions/{}", encoded(version));
        assert!(get(address, &path).await.error(400).contains("not a positive integer"));
        let message =
            ModelInferRequest { model_version: version.into(), ..infer_request("identity") };
        let status = client.model_infer(message).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let path = format!("/v1/models/identity/labels/{}:predict", encoded(version));
        assert!(post(address, &path, r#"{"instances":[]}"#).await.error(404).contains("no label"));
    }
    for path in ["/v2/models/%ff%fe", "/v2/models/%ff/infer", "/v1/models/%ff:predict"] {
        let reply = match path.ends_with('e') && !path.contains(':') && !path.contains("infer") {
            true => get(address, path).await,
            false => post(address, path, "{}").await,
        };
        assert!(reply.error(400).contains("UTF-8"), "{path}");
    }
}

fn tensor(shape: Value, datatype: &str, data: Value) -> String {
    let input = json!({"name": "x", "shape": shape, "datatype": datatype, "data": data});
    json!({"inputs": [input]}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn shapes_that_lie_are_refused() {
    let server = serve(&[("identity", "identity")]).await;
    let address = server.http();
    let huge = 1u64 << 62;
    let cases = [
        (tensor(json!([]), "FP32", json!([1])), "has shape [], expected [batch,4]"),
        (tensor(json!([4]), "FP32", json!([1, 2, 3, 4])), "has shape [4]"),
        (tensor(json!([huge, 8]), "FP32", json!([1])), "too many elements"),
        (tensor(json!([0, huge, 8]), "FP32", json!([])), "input 'x'"),
        (tensor(json!([huge, 4]), "FP32", json!([])), "input 'x'"),
        (tensor(json!([1e3, 4]), "FP32", json!([])), "not an extent"),
        (tensor(json!(["1", 4]), "FP32", json!([1, 2, 3, 4])), "byte"),
        (tensor(json!([9_223_372_036_854_775_808u64, 4]), "FP32", json!([])), "not an extent"),
        (tensor(json!(vec![1; 40]), "FP32", json!([1])), "axes"),
        (tensor(json!([1, -4]), "FP32", json!([1, 2, 3, 4])), "extent -4"),
        (tensor(json!([1, 4]), "BYTES", json!(["a", "b", "c", "d"])), "BYTES"),
        (tensor(json!([1, 4]), "FP32", json!([1, 2, 3, 4, 5])), "needs 4 elements, got"),
        (tensor(json!([1, 4]), "FP32", json!([[1, 2], [3, 4, 5]])), "ragged"),
    ];
    for (body, expected) in cases {
        let message = post(address, INFER, &body).await.error(400);
        assert!(message.contains(expected), "{body}: {message}");
    }
    let twice = json!({"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]});
    let body = json!({"inputs": [twice, twice]}).to_string();
    assert!(post(address, INFER, body).await.error(400).contains("occurs twice"));
    // No rows at all are a request like any other.
    let none = post(address, INFER, tensor(json!([0, 4]), "FP32", json!([]))).await;
    assert_eq!(none.status, 200, "{}", String::from_utf8_lossy(&none.body));
    assert_eq!(none.json()["outputs"][0]["shape"], json!([0, 4]));
}

/// A body whose one input has these bytes.
fn binary(datatype: &str, shape: &Value, bytes: &[u8]) -> (String, Vec<u8>) {
    let parameters = json!({"binary_data_size": bytes.len()});
    let input =
        json!({"name": "x", "shape": shape, "datatype": datatype, "parameters": parameters});
    let json = json!({"inputs": [input]}).to_string();
    (json.len().to_string(), [json.as_bytes(), bytes].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_tensors_that_lie_are_refused() {
    let server = serve(&[("identity", "identity"), ("text", "text")]).await;
    let address = server.http();
    let text = |elements: &[&[u8]]| -> Vec<u8> {
        let one = |e: &&[u8]| [&u32::try_from(e.len()).unwrap().to_le_bytes()[..], e].concat();
        elements.iter().flat_map(one).collect()
    };
    let lie = |length: u32| [&length.to_le_bytes()[..], b"ab"].concat();
    let huge = json!([1u64 << 62, 16]);
    let cases = [
        ("identity", binary("FP32", &json!([1, 4]), &[0; 15]), "input 'x'"),
        ("identity", binary("FP32", &json!([1, 4]), &[0; 17]), "input 'x'"),
        ("identity", binary("FP32", &huge, &[0; 16]), "too many elements"),
        ("identity", binary("FP32", &json!([1u64 << 60, 4]), &[0; 0]), "input 'x'"),
        ("text", binary("BYTES", &json!([2]), &text(&[b"a"])), "needs 2 elements, got 1"),
        ("text", binary("BYTES", &json!([1]), &text(&[b"a", b"b"])), "needs 1 elements, got more"),
        ("text", binary("BYTES", &json!([1]), &lie(3)), "says it has 3 bytes, but 2 are left"),
        ("text", binary("BYTES", &json!([1]), &lie(u32::MAX)), "says it has 4294967295 bytes"),
        ("text", binary("BYTES", &json!([1u64 << 40]), &text(&[b"a"])), "at most 4194304 elements"),
        ("text", binary("BYTES", &huge, &text(&[b"a"])), "too many elements"),
        ("text", binary("BYTES", &json!([1]), &text(&[b"\xff\xfe"])), "not UTF-8"),
        ("text", binary("BYTES", &json!([1]), &[1, 0, 0]), "3 bytes are left after element 0"),
    ];
    for (model, (length, body), expected) in cases {
        let path = format!("/v2/models/{model}/infer");
        let reply = send(address, "POST", &path, &[(LENGTH, &length)], &body).await;
        let message = reply.error(400);
        assert!(message.contains(expected), "{message}, expected {expected}");
    }
    // A header length inside the JSON, and just past it.
    let (length, body) = binary("FP32", &json!([1, 4]), &[0; 16]);
    for wrong in [length.parse::<usize>().unwrap() - 1, 1, length.parse::<usize>().unwrap() + 1] {
        let headers = [(LENGTH, wrong.to_string())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert!(!send(address, "POST", INFER, &headers, &body).await.error(400).is_empty());
    }
    // What is merely unusual goes through: empty, NUL, a megabyte.
    let long = vec![b'x'; 1 << 20];
    let odd = text(&[b"", b"a\0b", &long]);
    let (length, body) = binary("BYTES", &json!([3]), &odd);
    let reply = send(address, "POST", "/v2/models/text/infer", &[(LENGTH, &length)], &body).await;
    let json = reply.json();
    assert_eq!(json["outputs"][0]["data"][1], "a\0b");
    assert_eq!(json["outputs"][0]["data"][2].as_str().unwrap().len(), 1 << 20);
    // So do numbers that are none.
    let odd: Vec<u8> = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE / 2.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let reply = send(address, "POST", INFER, &[(LENGTH, "0")], &odd).await;
    let split: usize = reply.header(LENGTH).unwrap().parse().unwrap();
    assert_eq!(&reply.body[split..], odd);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_lie_are_refused() {
    let server = serve(&[("identity", "identity"), ("text", "text")]).await;
    let mut client = GrpcInferenceServiceClient::connect(server.grpc_url()).await.unwrap();
    let good = infer_request("identity");
    let with_shape = |shape: Vec<i64>| {
        let mut message = good.clone();
        message.inputs[0].shape = shape;
        message
    };
    let mut short = good.clone();
    short.raw_input_contents[0] = vec![0; 15].into();
    let mut twice = good.clone();
    twice.inputs.push(good.inputs[0].clone());
    twice.raw_input_contents.push(good.raw_input_contents[0].clone());
    let mut surplus = good.clone();
    surplus.raw_input_contents.push(vec![0; 4].into());
    let mut strings = infer_request("text");
    strings.inputs[0].datatype = "BYTES".into();
    strings.inputs[0].shape = vec![1];
    let mut too_many = strings.clone();
    too_many.raw_input_contents[0] = vec![0; 8].into();
    let mut overflow = strings.clone();
    overflow.raw_input_contents[0] = vec![0xff; 8].into();
    let mut twice_wanted = good.clone();
    let output = model_infer_request::InferRequestedOutputTensor {
        name: "y".into(),
        ..model_infer_request::InferRequestedOutputTensor::default()
    };
    twice_wanted.outputs = vec![output.clone(), output];
    let cases = [
        (with_shape(vec![]), "shape [] of f32 needs 4 bytes, got 16"),
        (with_shape(vec![-1, 4]), "extent -1"),
        (with_shape(vec![i64::MIN, 4]), "extent -9223372036854775808"),
        (with_shape(vec![1 << 62, 8]), "too many elements"),
        (with_shape(vec![0, 1 << 62, 8]), "input 'x'"),
        (with_shape(vec![1; 40]), "axes"),
        (short, "input 'x'"),
        (twice, "occurs twice"),
        (surplus, "2 entries, expected one for each of the 1 inputs"),
        (too_many, "needs 1 elements, got more"),
        (overflow, "says it has 4294967295 bytes"),
        (twice_wanted, "output 'y' is requested twice"),
    ];
    for (message, expected) in cases {
        let status = client.model_infer(message).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(expected), "{status}, expected {expected}");
    }
    client.model_infer(good).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_bounded_plain_and_inflated() {
    let folder = Folder::new();
    folder.put("identity", "1", "identity");
    let limit = |config: &mut ServeConfig| config.limits.max_body_bytes = 10_000;
    let server = serve_folder(folder, limit).await;
    let mut large = infer_request("identity");
    large.inputs[0].shape = vec![1 << 18, 4];
    large.raw_input_contents[0] = vec![0; 4 << 20].into();
    let mut plain = GrpcInferenceServiceClient::connect(server.grpc_url()).await.unwrap();
    let status = plain.model_infer(large.clone()).await.unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status}");
    let mut bomb = plain.clone().send_compressed(CompressionEncoding::Gzip);
    for mut bomb in [bomb.clone(), plain.clone().send_compressed(CompressionEncoding::Deflate)] {
        let status = bomb.model_infer(large.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    }
    // In a stream there is no going on after a message that was not read whole.
    let requests = tokio_stream::iter([infer_request("identity"), large]);
    let mut replies = bomb.model_stream_infer(requests).await.unwrap().into_inner();
    assert!(replies.message().await.unwrap().unwrap().infer_response.is_some());
    assert_eq!(replies.message().await.unwrap_err().code(), Code::ResourceExhausted);
    bomb.model_infer(infer_request("identity")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_many_tiny_chunks_is_bounded() {
    let folder = Folder::new();
    folder.put("identity", "1", "identity");
    let limit = |config: &mut ServeConfig| config.limits.max_body_bytes = 100_000;
    let server = serve_folder(folder, limit).await;
    let headers = [("Transfer-Encoding", "chunked")];
    let within = "1\r\n \r\n".repeat(90_000) + "2\r\n{}\r\n0\r\n\r\n";
    let reply = send(server.http(), "POST", INFER, &headers, within.as_bytes()).await;
    assert!(reply.error(400).contains("no 'inputs'"), "it is read whole");
    let over = "1\r\n \r\n".repeat(300_000);
    let reply = send(server.http(), "POST", INFER, &headers, over.as_bytes()).await;
    assert_eq!(reply.status, 413);
    for bad in ["zz\r\n", "ffffffffffffffffff\r\n", "-1\r\n"] {
        let reply = send(server.http(), "POST", INFER, &headers, bad.as_bytes()).await;
        assert_eq!(reply.status, 400, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nesting_is_bounded_everywhere() {
    let server = serve(&[("identity", "identity"), ("embed", "embed")]).await;
    let deep = "[".repeat(200_000);
    for (address, path) in [
        (server.http(), "/v2/repository/index"),
        (server.http(), "/v1/models/identity:predict"),
        (server.http(), "/invocations"),
        (server.http(), "/v1/embeddings"),
        (server.admin(), "/v2/repository/models/identity/load"),
        (server.admin(), "/v2/repository/models/identity/unload"),
    ] {
        for body in [deep.clone(), format!("{{\"inputs\":{deep}"), "{\"a\":".repeat(100_000)] {
            assert!(!post(address, path, body).await.error(400).is_empty(), "{path}");
        }
    }
    assert_eq!(post(server.http(), INFER, row([0.0; 4])).await.status, 200);
}
