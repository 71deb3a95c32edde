//! The container contract of managed platforms: `GET /ping` and `POST /invocations`.
//!
//! What the body is, `Content-Type` says: JSON in the row or column form of TensorFlow Serving, in
//! the Open Inference Protocol's or in MLflow's table forms; CSV with a line of column names; a
//! text, picture or other file as it is, for a model that takes one. Without the header, or with
//! the one that `curl -d` sends unasked, it is JSON.
//!
//! With several models, the header `X-Amzn-SageMaker-Target-Model` names one.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use landfall_graph::Signature;
use landfall_protocol::DecodeError;
use landfall_protocol::json::Reader;
use landfall_protocol::tfs::{self, Layout, PredictRequest};
use landfall_tensor::{Buffer, DType, Shape, Tensor};
use serde_json::json;

use super::body::{read_body, work_over};
use super::infer::{HEADER_LENGTH, infer_body};
use super::reply::{Problem, json_reply};
use super::tfserving::predict_decoded;
use crate::serving::{Choice, Server};

const TARGET_MODEL: HeaderName = HeaderName::from_static("x-amzn-sagemaker-target-model");

pub(super) async fn ping(State(server): State<Arc<Server>>) -> Response {
    if server.health.is_ready() {
        return json_reply(&json!({"status": "ready"}));
    }
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is not ready").into_response()
}

pub(super) async fn invoke(
    State(server): State<Arc<Server>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let model = target_model(&server, headers)?;
    let choice = Choice::Default;
    let servable = server.catalog.lookup(&model, choice.as_ref())?;
    let body = read_body(headers, body, &server.limits).await?;
    if headers.contains_key(HEADER_LENGTH) {
        return infer_body(&server, &model, &choice, servable, headers, body).await;
    }
    match Form::of(headers)? {
        Form::Json if has_open_inference_form(&body)? => {
            infer_body(&server, &model, &choice, servable, headers, body).await
        }
        form => {
            let given = (body, Arc::clone(&servable));
            let decoded = work_over(given.0.len(), given, move |(body, servable)| {
                decode(form, body, servable.signature())
            });
            predict_decoded(&server, &model, &choice, servable, headers, decoded.await?).await
        }
    }
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Csv,
    /// One text or file.
    Single,
}

const UNSUPPORTED: &str = "expected application/json or text/csv, or for a model that takes one \
                           text or file text/plain, image/* or application/octet-stream";

fn unsupported(problem: impl std::fmt::Display) -> Problem {
    let message = format!("{problem}: {UNSUPPORTED}");
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Form, Problem> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Form::Json) };
        let value = value.to_str().unwrap_or("?");
        let media = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media.as_str() {
            "" | "application/json" | "application/x-www-form-urlencoded" => Ok(Form::Json),
            "text/csv" => Ok(Form::Csv),
            "text/plain" | "application/octet-stream" => Ok(Form::Single),
            _ if media.starts_with("application/") && media.ends_with("+json") => Ok(Form::Json),
            _ if media.starts_with("image/") => Ok(Form::Single),
            _ => Err(unsupported(format_args!("Content-Type '{media}' is not supported"))),
        }
    }
}

fn decode(form: Form, body: Bytes, signature: &Signature) -> Result<PredictRequest, Problem> {
    match form {
        Form::Json if tfs::is_frame(&body)? => Ok(tfs::decode_frame(&body, signature)?),
        Form::Json => Ok(tfs::decode(&body, signature)?),
        Form::Csv => {
            let frame = tfs::csv_to_frame(&body, signature)?;
            Ok(tfs::decode_frame(&frame, signature)?)
        }
        Form::Single => single(body, signature),
    }
}

/// The body as the one row of a model with one input of text or files.
fn single(body: Bytes, signature: &Signature) -> Result<PredictRequest, Problem> {
    let spec = match signature.inputs.as_slice() {
        [spec] if matches!(spec.dtype, DType::String | DType::Bytes) => spec,
        _ => return Err(unsupported("the model does not take one text or file")),
    };
    let rank = spec.dims.as_ref().map_or(1, Vec::len);
    let shape: Shape = std::iter::repeat_n(1, rank).collect();
    let tensor = if spec.dtype == DType::String {
        let text = String::from_utf8(body.into());
        let text = text.map_err(|e| Problem::bad_request(format!("the text is not UTF-8: {e}")))?;
        Tensor::from_strings(shape, vec![text])
    } else {
        Tensor::from_blobs(shape, vec![Buffer::copy_of(&body)])
    };
    let tensor = tensor.map_err(|e| Problem::bad_request(e.to_string()))?;
    Ok(PredictRequest { layout: Layout::Row, inputs: vec![(spec.name.clone(), tensor)] })
}

fn target_model(server: &Server, headers: &HeaderMap) -> Result<String, Problem> {
    if let Some(name) = headers.get(TARGET_MODEL) {
        let name = name.to_str().map_err(|_| Problem::bad_request("the model is not text"))?;
        return Ok(name.to_owned());
    }
    let mut names: Vec<String> = server.catalog.index().into_iter().map(|s| s.model).collect();
    names.dedup();
    match <[String; 1]>::try_from(names) {
        Ok([name]) => Ok(name),
        Err(names) if names.is_empty() => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no model is loaded"))
        }
        Err(names) => Err(Problem::bad_request(format!(
            "{} models are loaded: name one of {} in the header {TARGET_MODEL}",
            names.len(),
            names.join(", ")
        ))),
    }
}

/// Whether `inputs` is a list of objects with datatypes.
fn has_open_inference_form(body: &[u8]) -> Result<bool, DecodeError> {
    let mut found = false;
    Reader::new(body)?.object(|r, key| {
        if key == "inputs" && r.peek() == Some(b'[') {
            let mut ahead = r.clone();
            ahead.take(b'[');
            if ahead.peek() == Some(b'{') {
                ahead.object(|r, key| {
                    found |= key == "datatype";
                    r.skip()
                })?;
            }
        }
        r.skip()
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_forms_are_told_apart() {
        let form = |text: &str| has_open_inference_form(text.as_bytes()).unwrap();
        assert!(form(r#"{"id":"1","inputs":[{"name":"x","datatype":"FP32"}]}"#));
        assert!(!form(r#"{"inputs":[[1,2]]}"#));
        assert!(!form(r#"{"inputs":[{"b64":""}]}"#));
        assert!(!form(r#"{"instances":[{"datatype":1}]}"#));
        assert!(has_open_inference_form(b"[").is_err());
    }
}
