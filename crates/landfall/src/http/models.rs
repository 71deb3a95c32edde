//! Listing, metadata, readiness, configuration and statistics of models.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use landfall_graph::TensorSpec;
use landfall_predict::{ErrorKind, Servable, VersionChoice, VersionState};
use serde::Deserialize;
use serde_json::{Value, json};

use super::path::Path;
use super::reply::{Problem, json_reply};
use crate::serving::{
    Choice, Server, config_json, config_message, metadata_shape, statistics_json,
    statistics_messages,
};

/// The part of a path that names a model and perhaps one of its versions.
#[derive(Debug, Deserialize)]
pub(super) struct ModelPath {
    pub(super) model: String,
    #[serde(default)]
    version: Option<String>,
}

impl ModelPath {
    pub(super) fn choice(&self) -> Result<Choice, Problem> {
        Ok(Choice::of_version(self.version.as_deref().unwrap_or_default())?)
    }
}

pub(super) fn tensors_json(specs: &[TensorSpec]) -> Value {
    let tensor = |spec: &TensorSpec| {
        let shape = metadata_shape(spec);
        json!({"name": spec.name, "datatype": spec.dtype.protocol_name(), "shape": shape})
    };
    specs.iter().map(tensor).collect()
}

pub(super) async fn list(State(server): State<Arc<Server>>) -> Response {
    let mut names: Vec<String> = server.catalog.index().into_iter().map(|s| s.model).collect();
    names.dedup();
    json_reply(&json!({"models": names}))
}

pub(super) async fn metadata(
    State(server): State<Arc<Server>>,
    Path(path): Path<ModelPath>,
) -> Result<Response, Problem> {
    let servable = server.catalog.lookup(&path.model, path.choice()?.as_ref())?;
    let versions = server.catalog.ready_versions(&path.model);
    let versions: Vec<String> = versions.iter().map(u64::to_string).collect();
    let signature = servable.signature();
    Ok(json_reply(&json!({
        "name": path.model,
        "versions": versions,
        "platform": servable.platform(),
        "inputs": tensors_json(&signature.inputs),
        "outputs": tensors_json(&signature.outputs),
    })))
}

pub(super) async fn ready(
    State(server): State<Arc<Server>>,
    Path(path): Path<ModelPath>,
) -> Result<Response, Problem> {
    let choice = path.choice()?;
    if !server.health.is_ready() {
        let message = "the server is not ready".to_owned();
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, message));
    }
    match server.catalog.lookup(&path.model, choice.as_ref()) {
        Ok(_) => Ok(json_reply(&json!({"name": path.model, "ready": true}))),
        Err(error) if error.kind == ErrorKind::NotFound => {
            // A known version that is not in service is not ready; only a stranger is not found.
            let known = server.catalog.statuses(&path.model).is_some_and(|statuses| {
                statuses.iter().any(|status| match choice.as_ref() {
                    VersionChoice::Version(version) => status.version == Some(version),
                    _ => status.state != VersionState::Ready,
                })
            });
            let status =
                if known { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NOT_FOUND };
            Err(Problem::new(status, error.message))
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn config(
    State(server): State<Arc<Server>>,
    Path(path): Path<ModelPath>,
) -> Result<Response, Problem> {
    let servable = server.catalog.lookup(&path.model, path.choice()?.as_ref())?;
    Ok(json_reply(&config_json(&config_message(&server.catalog, &servable))))
}

pub(super) async fn all_statistics(State(server): State<Arc<Server>>) -> Response {
    let servables = server.catalog.servables();
    statistics_reply(&servables)
}

pub(super) async fn statistics(
    State(server): State<Arc<Server>>,
    Path(path): Path<ModelPath>,
) -> Result<Response, Problem> {
    let choice = path.choice()?;
    // Says which error it is if there is none.
    server.catalog.lookup(&path.model, choice.as_ref())?;
    let mut servables = server.catalog.servables();
    servables.retain(|s| {
        **s.name() == *path.model
            && (choice == Choice::Default || choice == Choice::Version(s.version()))
    });
    Ok(statistics_reply(&servables).into_response())
}

fn statistics_reply(servables: &[Arc<Servable>]) -> Response {
    let messages = statistics_messages(servables.iter().map(|servable| &**servable));
    json_reply(&statistics_json(&messages))
}
