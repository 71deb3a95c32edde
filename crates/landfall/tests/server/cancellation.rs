//! Clients that go away take their queued work with them.

use std::time::Duration;

use landfall_predict::{Servable, StatisticsSnapshot, VersionChoice};
use landfall_protocol::inference::ModelInferRequest;
use landfall_protocol::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{get, post, request};
use crate::grpc::infer_request;
use crate::harness::{Folder, TestServer, row, serve_folder, until};

const INFER: &str = "/v2/models/slow/infer";

async fn slow_server() -> TestServer {
    let folder = Folder::new();
    folder.put("slow", "1", "slow 300");
    folder.settings("slow", "batching: off\n");
    serve_folder(folder, |_| ()).await
}

fn statistics(server: &TestServer) -> StatisticsSnapshot {
    let catalog = &server.running.server.catalog;
    let servable: std::sync::Arc<Servable> =
        catalog.lookup("slow", VersionChoice::Default).unwrap();
    servable.statistics(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_client_that_closes_its_connection() {
    let server = slow_server().await;
    let address = server.http();
    let running = tokio::spawn(async move { post(address, INFER, row([0.0; 4])).await });
    until(|| async { statistics(&server).running == 1 }).await;
    let mut leaving = TcpStream::connect(address).await.unwrap();
    leaving.write_all(&request("POST", INFER, &[], row([0.0; 4]).as_bytes())).await.unwrap();
    until(|| async { statistics(&server).queued_requests == 1 }).await;
    drop(leaving);
    until(|| async { statistics(&server).queued_requests == 0 }).await;
    assert_eq!(running.await.unwrap().status, 200);
    let after = statistics(&server);
    assert_eq!((after.cancelled, after.execution_count), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_client_whose_deadline_passes() {
    let server = slow_server().await;
    let address = server.http();
    let running = tokio::spawn(async move { post(address, INFER, row([0.0; 4])).await });
    until(|| async { statistics(&server).running == 1 }).await;
    let mut client = GrpcInferenceServiceClient::connect(server.grpc_url()).await.unwrap();
    let message: ModelInferRequest = infer_request("slow");
    let mut request = tonic::Request::new(message);
    request.set_timeout(Duration::from_millis(50));
    let status = client.model_infer(request).await.unwrap_err();
    assert!(
        matches!(status.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled),
        "{status}"
    );
    until(|| async { statistics(&server).queued_requests == 0 }).await;
    assert_eq!(running.await.unwrap().status, 200);
    let after = statistics(&server);
    assert_eq!((after.cancelled, after.execution_count), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_client_that_leaves_while_its_request_runs() {
    let server = slow_server().await;
    let address = server.http();
    let mut leaving = TcpStream::connect(address).await.unwrap();
    leaving.write_all(&request("POST", INFER, &[], row([0.0; 4]).as_bytes())).await.unwrap();
    until(|| async { statistics(&server).running == 1 }).await;
    drop(leaving);
    // It is counted as gone while the run, which nothing can stop, still goes on.
    until(|| async {
        let metrics = String::from_utf8(get(address, "/metrics").await.body).unwrap();
        let gone = "landfall_requests_total{protocol=\"http\",method=\"infer\",code=\"499\"} 1";
        metrics.lines().any(|line| line == gone)
    })
    .await;
    assert_eq!(post(address, INFER, row([0.0; 4])).await.status, 200);
    let after = statistics(&server);
    assert_eq!((after.running, after.execution_count, after.cancelled), (0, 2, 0));
}
