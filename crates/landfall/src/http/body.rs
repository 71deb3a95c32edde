//! Reading a request's body within bounds of size and time.

use std::io::Read;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;

use super::reply::Problem;
use crate::serving::Limits;

/// Work over at least so many bytes is done on another thread, so that the other connections of
/// this one do not wait for it.
const LONG_WORK_BYTES: usize = 256 << 10;

/// Does work on what it owns, which takes long if `bytes` is large.
pub(super) async fn work_over<C, T>(
    bytes: usize,
    owned: C,
    work: impl FnOnce(C) -> T + Send + 'static,
) -> T
where
    C: Send + 'static,
    T: Send + 'static,
{
    if bytes < LONG_WORK_BYTES {
        return work(owned);
    }
    match tokio::task::spawn_blocking(move || work(owned)).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Reads the whole body and undoes its `Content-Encoding`.
pub(super) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
) -> Result<Bytes, Problem> {
    let bytes = tokio::time::timeout(limits.read_timeout, collect(headers, body, limits))
        .await
        .map_err(|_| {
        let limit = limits.read_timeout.as_secs_f32();
        let message = format!("the body did not arrive within {limit} s");
        Problem::new(StatusCode::REQUEST_TIMEOUT, message)
    })??;
    let coding = match headers.get(header::CONTENT_ENCODING) {
        None => return Ok(bytes),
        Some(value) => value.to_str().unwrap_or("?").trim().to_ascii_lowercase(),
    };
    let limit = limits.max_body_bytes;
    match coding.as_str() {
        "" | "identity" => Ok(bytes),
        "gzip" | "x-gzip" | "deflate" => {
            work_over(bytes.len() * 4, (coding, bytes), move |(coding, bytes)| {
                // The name stands for the zlib format; some clients send it without its header.
                let zlib = bytes.first().is_some_and(|b| b & 0x0f == 8);
                match coding.as_str() {
                    "deflate" if zlib => inflate(ZlibDecoder::new(&*bytes), limit),
                    "deflate" => inflate(DeflateDecoder::new(&*bytes), limit),
                    _ => inflate(MultiGzDecoder::new(&*bytes), limit),
                }
            })
            .await
        }
        other => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("Content-Encoding '{other}' is not supported; use gzip, deflate or none"),
        )),
    }
}

fn too_large(limit: usize) -> Problem {
    let message = format!("the body is larger than the limit of {limit} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

async fn collect(headers: &HeaderMap, mut body: Body, limits: &Limits) -> Result<Bytes, Problem> {
    let limit = limits.max_body_bytes;
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|announced| announced > limit) {
        return Err(too_large(limit));
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|e| Problem::bad_request(format!("the body could not be read: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if rest.is_empty() && first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.reserve(announced.unwrap_or(first.len() + data.len()));
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
        if first.len().max(rest.len()) > limit {
            return Err(too_large(limit));
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn inflate(decoder: impl Read, limit: usize) -> Result<Bytes, Problem> {
    let mut out = Vec::new();
    let mut bounded = decoder.take(limit as u64 + 1);
    bounded
        .read_to_end(&mut out)
        .map_err(|e| Problem::bad_request(format!("the body cannot be decompressed: {e}")))?;
    if out.len() > limit { Err(too_large(limit)) } else { Ok(out.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn decompression_stops_at_the_limit() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        let problem = inflate(MultiGzDecoder::new(&*bomb), 1000).unwrap_err();
        assert_eq!(problem.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(inflate(MultiGzDecoder::new(&*bomb), 1 << 20).unwrap().len(), 1 << 20);
        assert!(inflate(MultiGzDecoder::new(&b"not gzip"[..]), 1000).is_err());
    }
}
