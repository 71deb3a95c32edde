//! Bounds: sizes, depths, queues, times.

use std::io::Write;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{get, post, request, send};
use crate::harness::{Folder, row, serve, serve_folder};

const INFER: &str = "/v2/models/identity/infer";

fn one_model(content: &str) -> Folder {
    let folder = Folder::new();
    folder.put("identity", "1", content);
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_plain_and_inflated() {
    let limit = |config: &mut landfall::config::ServeConfig| config.limits.max_body_bytes = 10_000;
    let server = serve_folder(one_model("identity"), limit).await;
    let message = post(server.http(), INFER, vec![b' '; 10_001]).await.error(413);
    assert!(message.contains("10000 bytes"), "{message}");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b' '; 5_000_000]).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 10_000);
    let headers = [("Content-Encoding", "gzip")];
    let reply = send(server.http(), "POST", INFER, &headers, &bomb).await;
    assert_eq!(reply.status, 413);
    let chunk = format!("{:x}\r\n{}\r\n", 1000, " ".repeat(1000));
    let chunked = chunk.repeat(12) + "0\r\n\r\n";
    let headers = [("Transfer-Encoding", "chunked")];
    let reply = send(server.http(), "POST", INFER, &headers, chunked.as_bytes()).await;
    assert_eq!(reply.status, 413);
    assert_eq!(post(server.http(), INFER, row([0.0; 4])).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_bodies_work() {
    let server = serve(&[("identity", "identity")]).await;
    let body = row([1.0, 2.0, 3.0, 4.0]);
    let chunks: String = body
        .as_bytes()
        .chunks(7)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap()))
        .collect();
    let headers = [("Transfer-Encoding", "chunked")];
    let body = chunks + "0\r\n\r\n";
    assert_eq!(send(server.http(), "POST", INFER, &headers, body.as_bytes()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_json_is_refused_quickly() {
    let server = serve(&[("identity", "identity")]).await;
    let deep = format!(r#"{{"inputs":[{{"name":"x","data":{}"#, "[".repeat(1_000_000));
    let begun = Instant::now();
    assert_eq!(post(server.http(), INFER, deep).await.status, 400);
    let huge = r#"{"inputs":[{"name":"x","datatype":"FP32",
        "shape":[4611686018427387904,4],"data":[1]}]}"#;
    assert!(post(server.http(), INFER, huge).await.error(400).contains("too many elements"));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_503_and_a_passed_deadline_504() {
    let folder = one_model("slow 300");
    folder.settings("identity", "batching: off\nmax_queue_requests: 1\n");
    let server = serve_folder(folder, |_| ()).await;
    let address = server.http();
    let ask = move || tokio::spawn(async move { post(address, INFER, row([0.0; 4])).await });
    let running = ask();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut request: serde_json::Value = serde_json::from_str(&row([0.0; 4])).unwrap();
    request["parameters"] = serde_json::json!({"timeout": 20_000});
    let waiting = {
        let body = request.to_string();
        tokio::spawn(async move { post(address, INFER, body).await })
    };
    tokio::time::sleep(Duration::from_millis(5)).await;
    let refused = post(address, INFER, row([0.0; 4])).await;
    assert!(!refused.error(503).is_empty());
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(!waiting.await.unwrap().error(504).is_empty());
    assert_eq!(running.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_sender_is_cut_off() {
    let limit = |config: &mut landfall::config::ServeConfig| {
        config.limits.read_timeout = Duration::from_millis(200);
    };
    let server = serve_folder(one_model("identity"), limit).await;
    let bytes = request("POST", INFER, &[], row([0.0; 4]).as_bytes());
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    stream.write_all(&bytes[..bytes.len() - 5]).await.unwrap();
    let mut reply = Vec::new();
    let read = stream.read_to_end(&mut reply);
    tokio::time::timeout(Duration::from_secs(5), read).await.unwrap().unwrap();
    let reply = String::from_utf8(reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 408"), "{reply}");
    assert!(reply.contains("\r\nconnection: close\r\n"), "{reply}");
    assert_eq!(get(server.http(), "/v2/health/live").await.status, 200);
}
