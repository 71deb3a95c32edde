//! gRPC callers that hurry, change their minds, or ask for much.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use landfall::config::ServeConfig;
use landfall::serving::RepositoryControl;
use landfall_predict::{StatisticsSnapshot, VersionState};
use landfall_protocol::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use landfall_protocol::inference::*;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tower_service::Service;

use crate::grpc::infer_request;
use crate::harness::{Folder, TestServer, serve_folder, until};

/// One run at a time.
async fn slow_server(millis: u32) -> (TestServer, GrpcInferenceServiceClient<Channel>) {
    let folder = Folder::new();
    folder.put("slow", "1", &format!("slow {millis}"));
    folder.settings("slow", "batching: off\n");
    let public = |config: &mut ServeConfig| config.repository_control = RepositoryControl::Public;
    let server = serve_folder(folder, public).await;
    let client = GrpcInferenceServiceClient::connect(server.grpc_url()).await.unwrap();
    (server, client)
}

fn statistics(server: &TestServer) -> StatisticsSnapshot {
    server.running.server.catalog.servables()[0].statistics(0)
}

fn numbered(id: usize) -> ModelInferRequest {
    ModelInferRequest { id: id.to_string(), ..infer_request("slow") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_ends_its_side_gets_every_answer() {
    let (_server, mut client) = slow_server(5).await;
    let (requests, stream) = mpsc::channel(8);
    let mut replies =
        client.model_stream_infer(ReceiverStream::new(stream)).await.unwrap().into_inner();
    for id in 0..5 {
        requests.send(numbered(id)).await.unwrap();
    }
    drop(requests);
    for id in 0..5 {
        let reply = replies.message().await.unwrap().unwrap();
        assert_eq!(reply.infer_response.unwrap().id, id.to_string());
    }
    assert!(replies.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_dropped_takes_its_queued_work_with_it() {
    let (server, mut client) = slow_server(300).await;
    let (requests, stream) = mpsc::channel(8);
    let replies =
        client.model_stream_infer(ReceiverStream::new(stream)).await.unwrap().into_inner();
    for id in 0..5 {
        requests.send(numbered(id)).await.unwrap();
    }
    until(|| async {
        (statistics(&server).running, statistics(&server).queued_requests) == (1, 4)
    })
    .await;
    drop((replies, requests));
    until(|| async { statistics(&server).cancelled == 4 }).await;
    until(|| async { statistics(&server).running == 0 }).await;
    assert_eq!(statistics(&server).execution_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_dropped_takes_its_queued_work_with_it() {
    let (server, mut client) = slow_server(300).await;
    let mut other = client.clone();
    let first = tokio::spawn(async move { client.model_infer(numbered(0)).await });
    until(|| async { statistics(&server).running == 1 }).await;
    let second = tokio::spawn(async move { other.model_infer(numbered(1)).await });
    until(|| async { statistics(&server).queued_requests == 1 }).await;
    second.abort();
    until(|| async { statistics(&server).cancelled == 1 }).await;
    assert_eq!(first.await.unwrap().unwrap().into_inner().id, "0");
    assert_eq!(statistics(&server).execution_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_holds_a_bounded_number_of_requests() {
    let (server, mut client) = slow_server(3).await;
    let requests = tokio_stream::iter((0..300).map(numbered));
    let mut replies = client.model_stream_infer(requests).await.unwrap().into_inner();
    let mut most = 0;
    for id in 0..300 {
        let reply = replies.message().await.unwrap().unwrap();
        assert_eq!(reply.infer_response.unwrap().id, id.to_string());
        let now = statistics(&server);
        most = most.max(now.queued_requests + now.running);
    }
    assert!(most > 1, "they are in flight together");
    assert!(most <= 66, "{most} requests of one stream were in flight");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streams_deadline_ends_it() {
    let (_server, mut client) = slow_server(1).await;
    let (requests, stream) = mpsc::channel(8);
    let mut call = Request::new(ReceiverStream::new(stream));
    call.metadata_mut().insert("grpc-timeout", "200m".parse().unwrap());
    let mut replies = client.model_stream_infer(call).await.unwrap().into_inner();
    requests.send(numbered(0)).await.unwrap();
    assert!(replies.message().await.unwrap().unwrap().infer_response.is_some());
    let end = replies.message().await.unwrap_err();
    assert_eq!(end.code(), Code::DeadlineExceeded, "{end}");
    drop(requests);
}

/// A connection that leaves deadlines to the server; tonic's own ends calls by itself.
#[derive(Clone)]
struct Patient(SendRequest<tonic::body::Body>);

impl Service<http::Request<tonic::body::Body>> for Patient {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// Five bytes of a call's message, and then nothing.
struct Stuck(Option<Frame<Bytes>>);

impl Body for Stuck {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.take().map_or(Poll::Pending, |frame| Poll::Ready(Some(Ok(frame))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_does_not_arrive_ends_its_call() {
    let folder = Folder::new();
    folder.put("slow", "1", "slow 1");
    let limit = Duration::from_millis(200);
    let server = serve_folder(folder, |config| config.limits.read_timeout = limit).await;
    let stream = TcpStream::connect(server.running.grpc).await.unwrap();
    let (mut sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let call = |method: &str| {
        let head = Bytes::from_static(&[0, 0, 0x10, 0, 0]);
        let uri = format!("{}/inference.GRPCInferenceService/{method}", server.grpc_url());
        let request = http::Request::post(uri).header("content-type", "application/grpc");
        request.body(Stuck(Some(Frame::data(head)))).unwrap()
    };
    // A stream may take its time.
    let mut open = sender.send_request(call("ModelStreamInfer")).await.unwrap();
    let stuck = sender.send_request(call("ModelInfer")).await.unwrap();
    let status = tonic::Status::from_header_map(stuck.headers()).unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("did not arrive within 200ms"), "{status}");
    let more = tokio::time::timeout(
        limit * 2,
        std::future::poll_fn(|context| Pin::new(open.body_mut()).poll_frame(context)),
    );
    assert!(more.await.is_err(), "the stream is still open");
}

async fn patient(server: &TestServer) -> GrpcInferenceServiceClient<Patient> {
    let stream = TcpStream::connect(server.running.grpc).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let origin = server.grpc_url().parse().unwrap();
    GrpcInferenceServiceClient::with_origin(Patient(sender), origin)
}

/// The same message with a deadline.
fn within<T>(millis: u32, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("grpc-timeout", format!("{millis}m").parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_ends_by_its_deadline() {
    let (server, _) = slow_server(3_000).await;
    let mut client = patient(&server).await;
    let call = client.model_infer(within(100, numbered(0))).await.unwrap_err();
    assert_eq!(call.code(), Code::DeadlineExceeded, "{call}");
    server.folder.put("b", "1", "loading 3000 identity");
    let load = RepositoryModelLoadRequest { model_name: "b".into(), ..Default::default() };
    let call = client.repository_model_load(within(100, load)).await.unwrap_err();
    assert_eq!(call.code(), Code::DeadlineExceeded, "{call}");
    // While the model runs and the other loads, what needs neither is answered.
    let (name, version) = ("slow".to_owned(), String::new());
    client.server_live(within(2_000, ServerLiveRequest {})).await.unwrap();
    client.server_ready(within(2_000, ServerReadyRequest {})).await.unwrap();
    client.server_metadata(within(2_000, ServerMetadataRequest {})).await.unwrap();
    let ready = ModelReadyRequest { name: name.clone(), version: version.clone() };
    client.model_ready(within(2_000, ready)).await.unwrap();
    let metadata = ModelMetadataRequest { name: name.clone(), version: version.clone() };
    client.model_metadata(within(2_000, metadata)).await.unwrap();
    let config = ModelConfigRequest { name: name.clone(), version: version.clone() };
    client.model_config(within(2_000, config)).await.unwrap();
    let wanted = ModelStatisticsRequest { name, version };
    client.model_statistics(within(2_000, wanted)).await.unwrap();
    client.repository_index(within(2_000, RepositoryIndexRequest::default())).await.unwrap();
    let unload = RepositoryModelUnloadRequest { model_name: "slow".into(), ..Default::default() };
    client.repository_model_unload(within(2_000, unload)).await.unwrap();
    // Unloading goes on after its answer.
    let catalog = &server.running.server.catalog;
    let states = || catalog.index().into_iter().map(|status| status.state).collect::<Vec<_>>();
    let neither = [VersionState::Loading, VersionState::Unloading];
    until(|| async { states() == neither }).await;
}
