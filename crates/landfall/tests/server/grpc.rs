//! `inference.GRPCInferenceService` and `grpc.health.v1.Health`.

use landfall_protocol::health::HealthCheckRequest;
use landfall_protocol::health::health_client::HealthClient;
use landfall_protocol::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use landfall_protocol::inference::model_infer_request::InferInputTensor;
use landfall_protocol::inference::*;
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

use crate::harness::{TestServer, serve, serve_folder};

async fn client(server: &TestServer) -> GrpcInferenceServiceClient<Channel> {
    GrpcInferenceServiceClient::connect(server.grpc_url()).await.unwrap()
}

/// One row for a model with the input `x`.
pub(crate) fn infer_request(model: &str) -> ModelInferRequest {
    let raw: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let input = InferInputTensor {
        name: "x".into(),
        datatype: "FP32".into(),
        shape: vec![1, 4],
        ..InferInputTensor::default()
    };
    ModelInferRequest {
        model_name: model.into(),
        id: "7".into(),
        inputs: vec![input],
        raw_input_contents: vec![raw.into()],
        ..ModelInferRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metadata() {
    let server = serve(&[("identity", "identity")]).await;
    let mut client = client(&server).await;
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let named = |name: &str| ModelReadyRequest { name: name.into(), version: String::new() };
    assert!(client.model_ready(named("identity")).await.unwrap().into_inner().ready);
    assert!(!client.model_ready(named("nope")).await.unwrap().into_inner().ready);
    let request = ModelMetadataRequest { name: "identity".into(), version: "1".into() };
    let metadata = client.model_metadata(request).await.unwrap().into_inner();
    assert_eq!(metadata.inputs[0].shape, [-1, 4]);
    let request = ModelConfigRequest { name: "identity".into(), version: String::new() };
    let config = client.model_config(request).await.unwrap().into_inner().config.unwrap();
    assert_eq!(config.input[0].dims, [4]);
    assert_eq!(config.input[0].data_type(), DataType::TypeFp32);

    let mut health = HealthClient::connect(server.grpc_url()).await.unwrap();
    for service in ["", "inference.GRPCInferenceService", "identity"] {
        let request = HealthCheckRequest { service: service.into() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);
    }
    let unknown = HealthCheckRequest { service: "nope".into() };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_and_typed_tensors_plain_and_compressed() {
    let server = serve(&[("identity", "identity")]).await;
    let mut plain = client(&server).await;
    let coded = |coding| plain.clone().send_compressed(coding).accept_compressed(coding);
    let mut gzip = coded(CompressionEncoding::Gzip);
    let mut deflate = coded(CompressionEncoding::Deflate);
    let mut typed = infer_request("identity");
    typed.raw_input_contents.clear();
    typed.inputs[0].contents = Some(InferTensorContents {
        fp32_contents: vec![1.0, 2.0, 3.0, 4.0],
        ..InferTensorContents::default()
    });
    for client in [&mut plain, &mut gzip, &mut deflate] {
        for request in [infer_request("identity"), typed.clone()] {
            let reply = client.model_infer(request).await.unwrap().into_inner();
            assert_eq!((reply.id.as_str(), reply.model_version.as_str()), ("7", "1"));
            assert_eq!(reply.outputs[0].shape, [1, 4]);
            assert_eq!(
                reply.raw_output_contents[0],
                infer_request("identity").raw_input_contents[0]
            );
        }
    }
    let request = ModelStatisticsRequest { name: "identity".into(), version: String::new() };
    let statistics = plain.model_statistics(request).await.unwrap().into_inner();
    assert_eq!(statistics.model_stats[0].inference_count, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_codes_clients_expect() {
    let server = serve(&[("identity", "identity"), ("failing", "failing")]).await;
    let mut client = client(&server).await;
    let mut version = infer_request("identity");
    version.model_version = "one".into();
    let mut absent = infer_request("identity");
    absent.model_version = "9".into();
    let mut shape = infer_request("identity");
    shape.inputs[0].shape = vec![1, 3];
    let mut input = infer_request("identity");
    input.inputs[0].name = "z".into();
    let cases = [
        (infer_request("nope"), Code::NotFound),
        (absent, Code::NotFound),
        (version, Code::InvalidArgument),
        (shape, Code::InvalidArgument),
        (input, Code::InvalidArgument),
        (infer_request("failing"), Code::Internal),
    ];
    for (request, expected) in cases {
        let status = client.model_infer(request).await.unwrap_err();
        assert_eq!(status.code(), expected, "{status}");
        assert!(!status.message().is_empty());
    }
    let request = SystemSharedMemoryStatusRequest::default();
    let status = client.system_shared_memory_status(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    let request = TraceSettingRequest::default();
    assert_eq!(client.trace_setting(request).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_comes_back_where_somebody_looks_for_it() {
    let server = serve(&[("identity", "identity")]).await;
    let mut client = client(&server).await;
    let mut given = tonic::Request::new(infer_request("identity"));
    given.metadata_mut().insert("x-request-id", "mine".parse().unwrap());
    let reply = client.model_infer(given).await.unwrap();
    assert_eq!(reply.metadata().get("x-request-id").unwrap(), "mine");
    let reply = client.model_infer(infer_request("identity")).await.unwrap();
    assert!(reply.metadata().get("x-request-id").is_none());
    let error = client.model_infer(infer_request("nope")).await.unwrap_err();
    assert!(!error.metadata().get("x-request-id").unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_in_order_and_survives_errors() {
    let server = serve(&[("identity", "identity")]).await;
    let mut client = client(&server).await;
    let mut requests: Vec<ModelInferRequest> = (0..200)
        .map(|i| ModelInferRequest { id: i.to_string(), ..infer_request("identity") })
        .collect();
    requests[5].inputs[0].shape = vec![1, 3];
    let mut replies =
        client.model_stream_infer(tokio_stream::iter(requests)).await.unwrap().into_inner();
    for i in 0..200 {
        let reply = replies.message().await.unwrap().expect("one reply for every request");
        if i == 5 {
            assert!(reply.error_message.starts_with("[request id: 5]"), "{}", reply.error_message);
        } else {
            assert_eq!(reply.error_message, "");
            assert_eq!(reply.infer_response.unwrap().id, i.to_string());
        }
    }
    assert!(replies.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_can_end_with_its_first_error() {
    let server = serve(&[("identity", "identity")]).await;
    let mut client = client(&server).await;
    let mut request = tonic::Request::new(tokio_stream::iter([infer_request("nope")]));
    request.metadata_mut().insert("triton_grpc_error", "true".parse().unwrap());
    let mut replies = client.model_stream_infer(request).await.unwrap().into_inner();
    assert_eq!(replies.message().await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_is_refused_unless_allowed() {
    let server = serve(&[("identity", "identity")]).await;
    let load = || RepositoryModelLoadRequest {
        model_name: "identity".into(),
        ..RepositoryModelLoadRequest::default()
    };
    let mut refused = client(&server).await;
    let status = refused.repository_model_load(load()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("--allow-repository-control"));

    let folder = crate::harness::Folder::new();
    folder.put("identity", "1", "identity");
    let public = landfall::serving::RepositoryControl::Public;
    let server = serve_folder(folder, |config| config.repository_control = public).await;
    let mut client = client(&server).await;
    client.repository_model_load(load()).await.unwrap();
    let index = client.repository_index(RepositoryIndexRequest::default()).await.unwrap();
    assert_eq!(index.into_inner().models[0].state, "READY");
}
