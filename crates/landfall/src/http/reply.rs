//! Replies and errors over HTTP.

use std::io::Write;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use landfall_predict::{ErrorKind, PredictError};
use landfall_protocol::DecodeError;
use landfall_protocol::json::write_string;
use serde_json::Value;

use super::body::work_over;

/// An error reply: a status and `{"error": message}`.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

/// The message of an internal error, on its way to the log.
#[derive(Debug, Clone)]
pub(super) struct Fault(pub(super) String);

impl Problem {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Problem {
        Problem { status, message: message.into() }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<PredictError> for Problem {
    fn from(error: PredictError) -> Problem {
        let status = match error.kind {
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            // The status that proxies use for a client that closed its request.
            ErrorKind::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, error.message)
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Problem {
        Problem::bad_request(error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = b"{\"error\":".to_vec();
        write_string(&mut body, &self.message);
        body.push(b'}');
        let mut response = bytes_reply(JSON, body);
        *response.status_mut() = self.status;
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            response.extensions_mut().insert(Fault(self.message));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Clients compare this with the whole header, so it carries no charset.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(super) const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

pub(super) fn bytes_reply(content_type: HeaderValue, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

pub(crate) fn json_reply(value: &Value) -> Response {
    bytes_reply(JSON, value.to_string().into_bytes())
}

pub(super) async fn unknown_path(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("no such path: {}", uri.path()))
}

pub(super) async fn method_not_allowed(method: http::Method, uri: Uri) -> Problem {
    let message = format!("method {method} is not allowed on {}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
}

/// The coding that the client likes best of those known here (RFC 9110 section 12.5.3).
fn accepted_coding(headers: &HeaderMap) -> Option<Coding> {
    let mut best: Option<(f32, Coding)> = None;
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let mut parts = item.split(';').map(str::trim);
            let coding = match parts.next() {
                Some(name) if name.eq_ignore_ascii_case("gzip") => Coding::Gzip,
                Some(name) if name.eq_ignore_ascii_case("deflate") => Coding::Deflate,
                _ => continue,
            };
            let quality = parts
                .find_map(|part| part.strip_prefix("q="))
                .map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
            if quality > best.map_or(0.0, |(quality, _)| quality) {
                best = Some((quality, coding));
            }
        }
    }
    best.map(|(_, coding)| coding)
}

/// A reply in the coding that the client accepts, if it is long enough to gain from one.
pub(super) async fn compressed_reply(
    request_headers: &HeaderMap,
    min_bytes: usize,
    content_type: HeaderValue,
    body: Vec<u8>,
) -> Response {
    let coding = accepted_coding(request_headers).filter(|_| body.len() >= min_bytes);
    let Some(coding) = coding else { return bytes_reply(content_type, body) };
    let (name, coded) = work_over(body.len(), body, move |body: Vec<u8>| {
        let (name, coded) = match coding {
            Coding::Gzip => ("gzip", {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&body).and_then(|()| encoder.finish())
            }),
            Coding::Deflate => ("deflate", {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&body).and_then(|()| encoder.finish())
            }),
        };
        (name, coded.map_err(|_| body))
    })
    .await;
    let coded = match coded {
        Ok(coded) => coded,
        Err(body) => return bytes_reply(content_type, body),
    };
    let mut response = bytes_reply(content_type, coded);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coding(value: &'static str) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        accepted_coding(&headers)
    }

    #[test]
    fn quality_decides() {
        assert_eq!(coding("br, gzip, deflate"), Some(Coding::Gzip));
        assert_eq!(coding("gzip;q=0.5, deflate;q=0.8"), Some(Coding::Deflate));
        assert_eq!(coding("gzip;q=0"), None);
        assert_eq!(coding("identity"), None);
    }
}
