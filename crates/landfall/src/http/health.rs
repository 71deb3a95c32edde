//! Health, server metadata and metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::reply::{Problem, bytes_reply, json_reply};
use crate::metrics;
use crate::serving::{EXTENSIONS, SERVER_NAME, SERVER_VERSION, Server};

const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");

pub(super) async fn live() -> Response {
    json_reply(&json!({"live": true}))
}

pub(super) async fn ready(State(server): State<Arc<Server>>) -> Response {
    let ready = server.health.is_ready();
    // The protocol's document names the field `live`; its servers name it `ready`.
    let mut response = json_reply(&json!({"ready": ready, "live": true}));
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

pub(super) async fn metadata() -> Response {
    json_reply(&json!({
        "name": SERVER_NAME, "version": SERVER_VERSION, "extensions": EXTENSIONS,
    }))
}

pub(super) async fn metrics(State(server): State<Arc<Server>>) -> Result<Response, Problem> {
    Ok(bytes_reply(PROMETHEUS, metrics::render(&server).into_bytes()))
}
