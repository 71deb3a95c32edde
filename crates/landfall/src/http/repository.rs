//! The model repository extension: index, load, unload.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use landfall_predict::VersionState;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::read_body;
use super::models::ModelPath;
use super::path::Path;
use super::reply::{JSON, Problem, bytes_reply, json_reply};
use crate::serving::{RepositoryControl, Server};

#[derive(Debug, Default, Deserialize)]
struct IndexRequest {
    #[serde(default)]
    ready: bool,
}

#[derive(Debug, Default, Deserialize)]
struct ControlRequest {
    #[serde(default)]
    parameters: serde_json::Map<String, Value>,
}

/// An absent body asks for the defaults.
async fn read_json<T: Default + serde::de::DeserializeOwned>(
    server: &Server,
    request: Request<Body>,
) -> Result<T, Problem> {
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body, &server.limits).await?;
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body).map_err(|e| Problem::bad_request(format!("malformed JSON: {e}")))
}

pub(super) async fn index(
    State(server): State<Arc<Server>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let wanted: IndexRequest = read_json(&server, request).await?;
    let entries = server
        .catalog
        .index()
        .into_iter()
        .filter(|status| !wanted.ready || status.state == VersionState::Ready)
        .map(|status| {
            let version = status.version.map_or(String::new(), |version| version.to_string());
            json!({
                "name": status.model, "version": version,
                "state": status.state.name(), "reason": status.reason,
            })
        });
    Ok(json_reply(&entries.collect()))
}

pub(super) async fn load(
    State(server): State<Arc<Server>>,
    Path(path): Path<ModelPath>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let wanted: ControlRequest = read_json(&server, request).await?;
    if let Some(name) = wanted.parameters.keys().next() {
        return Err(Problem::bad_request(format!(
            "parameter '{name}' is not supported: put the model and its model.yaml into the \
             repository folder, then load it"
        )));
    }
    tokio::task::spawn_blocking(move || server.load(&path.model))
        .await
        .map_err(|e| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))??;
    Ok(bytes_reply(JSON, b"{}".to_vec()))
}

pub(super) async fn unload(
    State(server): State<Arc<Server>>,
    Path(path): Path<ModelPath>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let _: ControlRequest = read_json(&server, request).await?;
    // Waits for requests in flight, which the caller does not.
    let repository = Arc::clone(&server.repository);
    tokio::task::spawn_blocking(move || repository.unload(&path.model));
    Ok(bytes_reply(JSON, b"{}".to_vec()))
}

pub(super) async fn refused(State(server): State<Arc<Server>>) -> Problem {
    let how = match server.repository_control {
        RepositoryControl::Off => "is switched off (repository_control: off)",
        _ => {
            "is for the admin listener only, unless the server runs with --allow-repository-control"
        }
    };
    Problem::new(StatusCode::FORBIDDEN, format!("loading and unloading models {how}"))
}
