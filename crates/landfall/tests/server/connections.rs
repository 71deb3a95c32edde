//! Hostile connections: too many, too slow, too large.

use std::time::Duration;

use landfall::config::ServeConfig;
use landfall_protocol::inference::ServerLiveRequest;
use landfall_protocol::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{get, request, send};
use crate::harness::{Folder, TestServer, serve, serve_folder, until};
use crate::process::{Served, example};

/// Two connections a listener, which may be idle for 300 ms.
async fn tight_server() -> TestServer {
    let folder = Folder::new();
    folder.put("identity", "1", "identity");
    let limits = |config: &mut ServeConfig| {
        config.limits.max_connections = 2;
        config.limits.idle_timeout = Duration::from_millis(300);
    };
    serve_folder(folder, limits).await
}

async fn is_live(url: String) -> bool {
    let Ok(mut client) = GrpcInferenceServiceClient::connect(url).await else { return false };
    client.server_live(ServerLiveRequest {}).await.is_ok()
}

/// Opens as many connections as there may be, each having sent `bytes`, and waits until the server
/// has closed all of them.
async fn until_cut_off(address: std::net::SocketAddr, bytes: &[u8]) {
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        open.push(stream);
    }
    for mut stream in open {
        let mut reply = Vec::new();
        let read = stream.read_to_end(&mut reply);
        // An error is a reset, which closes as well.
        let _ = tokio::time::timeout(Duration::from_secs(5), read).await.expect("it is closed");
        assert!(!reply.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&reply));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_slow_peers_give_their_place_to_others() {
    let server = tight_server().await;
    let heads: [&[u8]; 4] =
        [b"", b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n", b"GET / HTTP/1.1\r\nHost: t\r\nX: "];
    for head in heads {
        until_cut_off(server.http(), head).await;
        assert_eq!(get(server.http(), "/v2/health/live").await.status, 200);
    }
    for head in &heads[..3] {
        until_cut_off(server.running.grpc, head).await;
        assert!(is_live(server.grpc_url()).await);
    }
    // What gRPC's listener does not speak ends at once.
    until_cut_off(server.running.grpc, heads[3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_without_requests_is_closed() {
    let server = tight_server().await;
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    let mut reply = Vec::new();
    let read = stream.read_to_end(&mut reply);
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("it is closed").unwrap();
    assert!(reply.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_is_cut_off() {
    let server = tight_server().await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.http()).await.unwrap();
    // Replies to pipelined requests fill every buffer on the way, and then requests no longer go.
    let metrics = b"GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n".repeat(64);
    let flood = async { while stream.write_all(&metrics).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(8), flood).await.expect("it is closed");
    assert_eq!(get(server.http(), "/v2/health/live").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded() {
    let server = serve(&[("identity", "identity")]).await;
    let long = "x".repeat(600_000);
    for (name, value) in [("X-Long", long.as_str()), ("Inference-Header-Content-Length", &long)] {
        let reply = send(server.http(), "GET", "/v2/health/live", &[(name, value)], b"").await;
        assert_eq!(reply.status, 431);
    }
    let names: Vec<String> = (0..200).map(|i| format!("X-{i}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(send(server.http(), "GET", "/v2/health/live", &many, b"").await.status, 431);
    let path = format!("/v2/models/{}", "a".repeat(600_000));
    assert!(matches!(get(server.http(), &path).await.status, 414 | 431));
    // A head without end.
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    stream.write_all(&request("GET", "/", &[], b"")[..14]).await.unwrap();
    let header = b"\r\nX-More: 1234567890".repeat(100);
    let mut sent = 0;
    while stream.write_all(&header).await.is_ok() {
        sent += header.len();
        assert!(sent < 64 << 20, "it is read for ever");
    }
    assert_eq!(get(server.http(), "/v2/health/live").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_descriptors_ends_with_the_shortage() {
    let served =
        tokio::task::spawn_blocking(|| Served::start("ulimit -n 64", &example("digits/models")))
            .await
            .unwrap();
    let (http, grpc) = (served.http, served.grpc);
    let mut open = Vec::new();
    for _ in 0..60 {
        open.push(TcpStream::connect(http).await.unwrap());
        open.push(TcpStream::connect(grpc).await.unwrap());
    }
    // Both loops must have met the shortage for the rest to say anything.
    for address in [http, grpc] {
        let listener = format!("listener=\"{address}\"");
        let refused = |line: &str| line.contains("cannot accept") && line.contains(&listener);
        until(|| async { served.log().lines().any(refused) }).await;
    }
    drop(open);
    assert_eq!(get(http, "/v2/health/live").await.status, 200);
    assert!(is_live(format!("http://{grpc}")).await);
    let status = tokio::task::spawn_blocking(|| served.terminate()).await.unwrap();
    assert!(status.success(), "{status}");
}
