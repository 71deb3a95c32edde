//! Replies that are known before the request has been read: the client gets them whole, and its
//! connection goes on or is closed openly.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{exchange, read_reply, request};
use crate::harness::{Folder, serve, serve_folder};

const INFER: &str = "/v2/models/identity/infer";

/// Requests that are refused by their head.
const REFUSED: [(&str, &str, u16); 7] = [
    ("POST", "/v2/models/nope/infer", 404),
    ("POST", "/v2/models/identity/versions/9/infer", 404),
    ("POST", "/v1/models/nope:predict", 404),
    ("POST", "/no/such/path", 404),
    ("PUT", INFER, 405),
    ("POST", "/v2/repository/models/identity/load", 403),
    ("POST", "/v2/models/identity/versions/one/infer", 400),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_leaves_the_connection_open() {
    let server = serve(&[("identity", "identity")]).await;
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    for (method, path, status) in REFUSED {
        for length in [0, 100, 900_000, 5_000_000] {
            let body = vec![b'x'; length];
            let reply = exchange(&mut stream, method, path, &[], &body).await;
            assert!(!reply.error(status).is_empty());
            assert_eq!(reply.header("connection"), None, "{method} {path}, {length} bytes");
        }
    }
    let chunked = [("Transfer-Encoding", "chunked")];
    for _ in 0..2 {
        let body = b"5\r\nhello\r\n0\r\n\r\n";
        let reply = exchange(&mut stream, "POST", "/no/such/path", &chunked, body).await;
        assert!(!reply.error(404).is_empty());
    }
    let live = exchange(&mut stream, "GET", "/v2/health/live", &[], b"").await;
    assert_eq!(live.status, 200);
}

/// Sends all of a request, then reads all there is.
async fn send_then_read(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_answered_before_the_end() {
    let folder = Folder::new();
    folder.put("identity", "1", "identity");
    let limit = |config: &mut landfall::config::ServeConfig| config.limits.max_body_bytes = 10_000;
    let server = serve_folder(folder, limit).await;
    // More than sockets hold, so that sending ends only if somebody reads.
    let body = vec![b'x'; 30_000_000];
    for (method, path, status) in REFUSED.into_iter().chain([("POST", INFER, 413)]) {
        let bytes = request(method, path, &[], &body);
        let bytes = String::from_utf8(bytes).unwrap().replace("Connection: close\r\n", "");
        let reply = send_then_read(server.http(), bytes.as_bytes()).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {reply}");
        assert!(reply.contains("\r\nconnection: close\r\n"), "{method} {path}: {reply}");
        assert!(reply.ends_with('}'), "{method} {path}: {reply}");
    }
    let chunk = format!("{:x}\r\n{}\r\n", 1000, " ".repeat(1000)).repeat(5000);
    let head = format!("POST {INFER} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    let reply = send_then_read(server.http(), (head + &chunk).as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 413 ") && reply.ends_with('}'), "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_waits_for_leave_is_not_asked_for() {
    let server = serve(&[("identity", "identity")]).await;
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    let head = "POST /v2/models/nope/infer HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\n\
                Content-Length: 100\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let reply = read_reply(&mut stream).await;
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(!reply.error(404).is_empty());
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
}
