//! The operator's listener: everything of the public one, control of models, and a status page.

mod example;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::http::{Audience, routes as shared_routes};
use crate::serving::Server;

pub use example::example_request;

const PAGE: &str = include_str!("page.html");
/// The page loads nothing but itself.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
);

/// The admin listener's paths.
pub fn routes(server: &Arc<Server>) -> Router<Arc<Server>> {
    shared_routes(server, Audience::Admin)
        .route("/", get(page))
        .route("/admin/status", get(status::status))
        .layer(from_fn(refuse_other_sites))
}

async fn page() -> Response {
    let mut response = Html(PAGE).into_response();
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
    response
}

/// A page of some other site, open in the operator's browser, can send requests to this machine;
/// it must not be able to unload models.
async fn refuse_other_sites(request: Request<Body>, next: Next) -> Response {
    if is_from_other_site(request.headers()) {
        return (StatusCode::FORBIDDEN, "{\"error\":\"requests of other sites are refused\"}")
            .into_response();
    }
    next.run(request).await
}

fn is_from_other_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    let Some(origin) = text(header::ORIGIN) else {
        return text(header::HeaderName::from_static("sec-fetch-site")) == Some("cross-site");
    };
    origin.split_once("://").map_or(origin, |(_, authority)| authority) != host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_page_and_plain_clients_may_ask() {
        let from = |pairs: &[(&'static str, &'static str)]| {
            let headers: HeaderMap = pairs
                .iter()
                .map(|&(name, value)| {
                    (header::HeaderName::from_static(name), HeaderValue::from_static(value))
                })
                .collect();
            is_from_other_site(&headers)
        };
        assert!(!from(&[("host", "127.0.0.1:8002")]));
        assert!(!from(&[("host", "127.0.0.1:8002"), ("origin", "http://127.0.0.1:8002")]));
        assert!(from(&[("host", "127.0.0.1:8002"), ("origin", "https://evil.example")]));
        assert!(from(&[("host", "127.0.0.1:8002"), ("origin", "null")]));
        assert!(from(&[("host", "127.0.0.1:8002"), ("sec-fetch-site", "cross-site")]));
    }
}
