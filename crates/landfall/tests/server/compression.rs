//! Compressed requests and replies.

use std::io::{Read, Write};

use flate2::Compression;

use crate::client::send;
use crate::harness::serve;

const INFER: &str = "/v2/models/identity/infer";

/// Enough rows that the reply is worth compressing.
fn large_body() -> Vec<u8> {
    let data: Vec<f32> = (0..400).map(|i| i as f32).collect();
    serde_json::json!({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [100, 4], "data": data}],
    })
    .to_string()
    .into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn decode(coding: Option<&str>, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Some("gzip") => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap(),
        Some("deflate") => flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut out).unwrap(),
        _ => return bytes.to_vec(),
    };
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_of_codings() {
    let server = serve(&[("identity", "identity")]).await;
    let plain = large_body();
    let expected = send(server.http(), "POST", INFER, &[], &plain).await.body;
    let coded = [("identity", plain.clone()), ("gzip", gzip(&plain)), ("deflate", zlib(&plain))];
    for (request_coding, body) in &coded {
        for wanted in ["identity", "gzip", "deflate"] {
            let headers = [("Content-Encoding", *request_coding), ("Accept-Encoding", wanted)];
            let reply = send(server.http(), "POST", INFER, &headers, body).await;
            assert_eq!(reply.status, 200);
            let found = reply.header("content-encoding");
            assert_eq!(found.unwrap_or("identity"), wanted);
            assert_eq!(decode(found, &reply.body), expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_codings_are_refused() {
    let server = serve(&[("identity", "identity")]).await;
    let address = server.http();
    let ask = |coding: &'static str, body: &'static [u8]| {
        let headers = [("Content-Encoding", coding)];
        async move { send(address, "POST", INFER, &headers, body).await }
    };
    assert!(ask("br", b"x").await.error(415).contains("'br' is not supported"));
    assert!(ask("gzip", b"not gzip").await.error(400).contains("cannot be decompressed"));
}
