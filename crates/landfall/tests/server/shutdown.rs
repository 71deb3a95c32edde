//! Stopping: readiness first, then the requests in flight, then the end.
//!
//! The drain limit of these servers is five seconds, so a stop that returns `Ok` waited for nobody
//! who does not end by himself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use landfall::serving::Phase;
use landfall_predict::VersionState;
use landfall_protocol::health::HealthCheckRequest;
use landfall_protocol::health::health_client::HealthClient;
use landfall_protocol::inference::ModelInferRequest;
use landfall_protocol::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::client::{get, post, request};
use crate::grpc::infer_request;
use crate::harness::{
    Folder, TestServer, quick_config, row, serve, serve_folder, start_with, until,
};
use crate::process::Served;

const INFER: &str = "/v2/models/slow/infer";

/// One run at a time, so that further requests wait.
async fn slow_server(millis: u32) -> TestServer {
    let folder = Folder::new();
    folder.put("slow", "1", &format!("slow {millis}"));
    folder.settings("slow", "batching: off\n");
    serve_folder(folder, |_| ()).await
}

async fn until_running(server: &TestServer) {
    let catalog = &server.running.server.catalog;
    until(|| async { catalog.servables()[0].statistics(0).running == 1 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_finish_and_readiness_turns_false_first() {
    let server = serve(&[("slow", "slow 400")]).await;
    let address = server.http();
    let _idle = TcpStream::connect(address).await.unwrap();
    let state = Arc::clone(&server.running.server);
    let asked =
        tokio::spawn(async move { post(address, "/v2/models/slow/infer", row([1.0; 4])).await });
    until(|| async { state.catalog.servables()[0].statistics(0).running == 1 }).await;
    let stopped = tokio::spawn(server.running.stop(Duration::from_millis(200)));
    until(|| async { !state.health.is_ready() }).await;
    assert_eq!(get(address, "/v2/health/ready").await.status, 503);
    assert_eq!(get(address, "/v2/health/live").await.status, 200);
    assert_eq!(get(address, "/ping").await.status, 503);
    assert_eq!(asked.await.unwrap().status, 200);
    assert_eq!(stopped.await.unwrap(), Ok(()));
    assert!(TcpStream::connect(address).await.is_err());
}

/// Reads until the peer closes; the bytes so far if it resets.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_kept_open_do_not_hold_it_up() {
    let server = slow_server(1).await;
    let address = server.http();
    let head = "GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n";
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(head.as_bytes()).await.unwrap();
    let mut reply = [0; 1024];
    assert!(idle.read(&mut reply).await.unwrap() > 0);
    let mut half_a_head = TcpStream::connect(address).await.unwrap();
    half_a_head.write_all(&head.as_bytes()[..20]).await.unwrap();
    let mut half_a_preface = TcpStream::connect(server.running.grpc).await.unwrap();
    half_a_preface.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let silent = TcpStream::connect(server.running.grpc).await.unwrap();
    let mut calls = GrpcInferenceServiceClient::connect(server.grpc_url()).await.unwrap();
    calls.model_infer(infer_request("slow")).await.unwrap();
    let begun = Instant::now();
    assert_eq!(server.running.stop(Duration::ZERO).await, Ok(()));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    for mut stream in [idle, half_a_head, half_a_preface, silent] {
        drop(rest(&mut stream).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_gets_its_reply_and_is_then_closed() {
    let server = slow_server(300).await;
    let mut kept = TcpStream::connect(server.http()).await.unwrap();
    let body = row([1.0; 4]);
    let head =
        format!("POST {INFER} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", body.len());
    kept.write_all((head + &body).as_bytes()).await.unwrap();
    until_running(&server).await;
    let stopped = tokio::spawn(server.running.stop(Duration::ZERO));
    let reply = String::from_utf8(rest(&mut kept).await).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(reply.ends_with('}'), "{reply}");
    assert_eq!(stopped.await.unwrap(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight_are_answered() {
    let server = slow_server(300).await;
    let url = server.grpc_url();
    let mut client = GrpcInferenceServiceClient::connect(url.clone()).await.unwrap();
    let asked = tokio::spawn(async move { client.model_infer(infer_request("slow")).await });
    until_running(&server).await;
    let stopped = tokio::spawn(server.running.stop(Duration::ZERO));
    let reply = asked.await.unwrap().unwrap().into_inner();
    assert_eq!(reply.raw_output_contents, infer_request("slow").raw_input_contents);
    assert_eq!(stopped.await.unwrap(), Ok(()));
    assert!(GrpcInferenceServiceClient::connect(url).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gets_what_is_in_flight_and_then_a_status() {
    let server = slow_server(150).await;
    let state = Arc::clone(&server.running.server);
    let mut client = GrpcInferenceServiceClient::connect(server.grpc_url()).await.unwrap();
    let (requests, stream) = mpsc::channel::<ModelInferRequest>(8);
    for id in ["0", "1", "2"] {
        requests.send(ModelInferRequest { id: id.into(), ..infer_request("slow") }).await.unwrap();
    }
    let mut replies =
        client.model_stream_infer(ReceiverStream::new(stream)).await.unwrap().into_inner();
    let busy = || async {
        let s = state.catalog.servables()[0].statistics(0);
        s.running + s.queued_requests == 3
    };
    until(busy).await;
    let stopped = tokio::spawn(server.running.stop(Duration::ZERO));
    for id in ["0", "1", "2"] {
        let reply = replies.message().await.unwrap().expect("an answer to every request");
        assert_eq!(reply.error_message, "");
        assert_eq!(reply.infer_response.unwrap().id, id);
    }
    let end = replies.message().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    assert!(end.message().contains("shutting down"), "{end}");
    assert_eq!(stopped.await.unwrap(), Ok(()));
    drop(requests);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_watch_health_hear_of_it_and_do_not_hold_it_up() {
    let server = serve(&[("slow", "slow 1")]).await;
    let mut health = HealthClient::connect(server.grpc_url()).await.unwrap();
    let watch = HealthCheckRequest::default();
    let mut statuses = health.watch(watch).await.unwrap().into_inner();
    assert_eq!(statuses.message().await.unwrap().unwrap().status, 1);
    let stopped = tokio::spawn(server.running.stop(Duration::from_millis(100)));
    assert_eq!(statuses.message().await.unwrap().unwrap().status, 2);
    assert!(statuses.message().await.unwrap().is_none(), "the stream ends");
    assert_eq!(stopped.await.unwrap(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_in_progress_is_not_waited_for() {
    let folder = Folder::new();
    folder.put("a", "1", "loading 8000 identity");
    let running = start_with(quick_config(&folder)).await;
    let state = Arc::clone(&running.server);
    until(|| async {
        state.catalog.index().iter().any(|status| status.state == VersionState::Loading)
    })
    .await;
    let begun = Instant::now();
    assert_eq!(running.stop(Duration::ZERO).await, Ok(()), "no request is lost");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn sigterm_ends_the_program_while_a_model_loads() {
    // Opening a pipe that nobody writes to takes for ever.
    let folder = Folder::new();
    let pipe = folder.path().join("endless.onnx");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let served = Served::unready(&pipe);
    let log = served.log_handle();
    assert!(served.terminate().success(), "no request was lost");
    let waited = Instant::now();
    while !log.lock().unwrap().contains("without waiting for loads") {
        assert!(waited.elapsed() < Duration::from_secs(5), "{}", log.lock().unwrap());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(log.lock().unwrap().contains("endless:1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outlasts_the_limit_is_named() {
    let folder = Folder::new();
    folder.put("slow", "1", "slow 3000");
    folder.put("b", "1", "identity");
    let limit = Duration::from_millis(400);
    let server = serve_folder(folder, |config| config.drain_limit = limit).await;
    let (address, admin) = (server.http(), server.admin());
    let asked = tokio::spawn(async move { post(address, INFER, row([1.0; 4])).await });
    let state = Arc::clone(&server.running.server);
    let running = || async {
        state.catalog.servables().iter().any(|servable| servable.statistics(0).running == 1)
    };
    until(running).await;
    server.folder.put("b", "2", "loading 3000 identity");
    let load = request("POST", "/v2/repository/models/b/load", &[], b"");
    let mut loading = TcpStream::connect(admin).await.unwrap();
    loading.write_all(&load).await.unwrap();
    until(|| async {
        state.catalog.index().iter().any(|status| status.state == VersionState::Loading)
    })
    .await;
    let begun = Instant::now();
    let abandoned = server.running.stop(Duration::ZERO).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let message = abandoned.to_string();
    for part in ["connections on 2 listeners", "model 'slow' version 1 (1 runs", "load of b:2"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(*state.health.watch().borrow(), Phase::Stopping);
    drop((asked, loading));
}
