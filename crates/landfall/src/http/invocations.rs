//! The container contract of managed platforms: `GET /ping` and `POST /invocations`.
//!
//! The body has the row or column form of TensorFlow Serving, or the Open Inference Protocol's.
//! With several models, the header `X-Amzn-SageMaker-Target-Model` names one.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, StatusCode};
use landfall_protocol::DecodeError;
use landfall_protocol::json::Reader;
use serde_json::json;

use super::body::read_body;
use super::infer::{HEADER_LENGTH, infer_body};
use super::reply::{Problem, json_reply};
use super::tfserving::predict_body;
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
    if headers.contains_key(HEADER_LENGTH) || has_open_inference_form(&body)? {
        infer_body(&server, &model, &choice, servable, headers, body).await
    } else {
        predict_body(&server, &model, &choice, servable, headers, body).await
    }
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
