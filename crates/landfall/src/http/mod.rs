//! The public HTTP listener: Open Inference Protocol v2, TensorFlow Serving's REST form, the
//! `/invocations` contract, OpenAI embeddings and metrics.

mod body;
mod embeddings;
mod health;
mod infer;
mod invocations;
mod models;
mod openapi;
mod path;
mod reply;
mod repository;
mod service;
mod tfserving;
mod unread;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::serving::{RepositoryControl, Server};

pub(crate) use reply::json_reply;
pub use service::{Handler, handler};

/// Which listener a router is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Everybody who may predict.
    Public,
    /// The operator.
    Admin,
}

/// Everything that both audiences may ask for; the admin listener adds its own pages.
pub fn routes(server: &Arc<Server>, audience: Audience) -> Router<Arc<Server>> {
    let may_control = match server.repository_control {
        RepositoryControl::Off => false,
        RepositoryControl::Admin => audience == Audience::Admin,
        RepositoryControl::Public => true,
    };
    Router::new()
        .merge(open_inference())
        .merge(repository_routes(may_control))
        .merge(tensorflow())
        .route("/ping", get(invocations::ping))
        .route("/invocations", post(invocations::invoke))
        .route("/v1/embeddings", post(embeddings::embed))
        .route("/metrics", get(health::metrics))
        .fallback(reply::unknown_path)
        .method_not_allowed_fallback(reply::method_not_allowed)
}

fn open_inference() -> Router<Arc<Server>> {
    let mut router = Router::new()
        .route("/v2", get(health::metadata))
        .route("/v2/health/live", get(health::live))
        .route("/v2/health/ready", get(health::ready))
        .route("/v2/openapi.json", get(openapi::document))
        .route("/v2/models", get(models::list))
        .route("/v2/models/stats", get(models::all_statistics));
    for prefix in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
        let path = |end: &str| format!("{prefix}{end}");
        router = router
            .route(&path(""), get(models::metadata))
            .route(&path("/ready"), get(models::ready))
            .route(&path("/config"), get(models::config))
            .route(&path("/stats"), get(models::statistics))
            .route(&path("/infer"), post(infer::infer));
    }
    router
}

fn repository_routes(may_control: bool) -> Router<Arc<Server>> {
    let mut router = Router::new();
    for prefix in ["/v2/repository", "/v2/repository/{repository}"] {
        let path = |end: &str| format!("{prefix}{end}");
        router = router.route(&path("/index"), post(repository::index));
        let (load, unload) = (path("/models/{model}/load"), path("/models/{model}/unload"));
        router = if may_control {
            router.route(&load, post(repository::load)).route(&unload, post(repository::unload))
        } else {
            router.route(&load, post(repository::refused)).route(&unload, post(repository::refused))
        };
    }
    router
}

fn tensorflow() -> Router<Arc<Server>> {
    let mut router = Router::new().route("/v1/models", get(tfserving::list));
    for prefix in [
        "/v1/models/{model}",
        "/v1/models/{model}/versions/{version}",
        "/v1/models/{model}/labels/{label}",
    ] {
        router = router
            .route(prefix, get(tfserving::status).post(tfserving::predict))
            .route(&format!("{prefix}/metadata"), get(tfserving::metadata));
    }
    router
}
