//! `POST /v2/models/{model}[/versions/{version}]/infer`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use landfall_graph::Signature;
use landfall_predict::Servable;
use landfall_protocol::oip::{Encoded, InferRequest, decode_json, decode_raw_body, encode_json};

use super::body::{read_body, work_over};
use super::models::ModelPath;
use super::path::Path;
use super::reply::{BINARY, JSON, Problem, compressed_reply};
use crate::serving::{Choice, InferOutcome, Server, infer as run};

/// Length of the JSON part of a body that carries binary tensors.
pub(super) const HEADER_LENGTH: HeaderName =
    HeaderName::from_static("inference-header-content-length");
/// What the version router decides by.
const ROUTING_KEY: HeaderName = HeaderName::from_static("x-landfall-key");

pub(super) async fn infer(
    State(server): State<Arc<Server>>,
    Path(path): Path<ModelPath>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let choice = path.choice()?;
    let servable = server.catalog.lookup(&path.model, choice.as_ref())?;
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body, &server.limits).await?;
    infer_body(&server, &path.model, &choice, servable, &parts.headers, body).await
}

pub(super) async fn infer_body(
    server: &Arc<Server>,
    model: &str,
    choice: &Choice,
    servable: Arc<Servable>,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let given = (headers.get(HEADER_LENGTH).cloned(), body, Arc::clone(&servable));
    let request = work_over(given.1.len(), given, |(length, body, servable)| {
        decode(length.as_ref(), &body, servable.signature())
    })
    .await?;
    let key = headers.get(ROUTING_KEY).and_then(|key| key.to_str().ok()).map(str::to_owned);
    let outcome = run(&server.catalog, model, choice, servable, request, key).await?;
    let size: usize = outcome.reply.outputs.iter().map(|(_, tensor)| tensor.elements() * 4).sum();
    let encoded = work_over(size, outcome, |InferOutcome { request, reply }| {
        encode_json(&request, &reply.model_name, reply.model_version, &reply.outputs)
    });
    Ok(respond(server, headers, encoded.await).await)
}

async fn respond(server: &Server, headers: &HeaderMap, encoded: Encoded) -> Response {
    let min_bytes = server.limits.compress_min_bytes;
    let content_type = if encoded.header_length.is_some() { BINARY } else { JSON };
    let mut response = compressed_reply(headers, min_bytes, content_type, encoded.body).await;
    if let Some(length) = encoded.header_length {
        response.headers_mut().insert(HEADER_LENGTH, HeaderValue::from(length));
    }
    response
}

fn decode(
    length: Option<&HeaderValue>,
    body: &[u8],
    signature: &Signature,
) -> Result<InferRequest, Problem> {
    let Some(value) = length else {
        if body.is_empty() {
            return Err(Problem::bad_request(format!(
                "the body is empty; expected JSON, or with the header {HEADER_LENGTH}: 0 the bytes \
                 of the one input"
            )));
        }
        return Ok(decode_json(body, &[], signature)?);
    };
    let text = value.to_str().unwrap_or("?");
    let length: usize = text.parse().map_err(|_| {
        let expected = format!("should be in range (0, {})", body.len());
        Problem::bad_request(format!("inference header size {expected}, got: {text}"))
    })?;
    if length == 0 {
        return Ok(decode_raw_body(body, signature)?);
    }
    let Some((json, binary)) = body.split_at_checked(length) else {
        let size = body.len();
        return Err(Problem::bad_request(format!(
            "inference header size should be in range (0, {size}), got: {length}"
        )));
    };
    Ok(decode_json(json, binary, signature)?)
}
