//! What happens around every HTTP request: ids, counters, log lines.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use tower_service::Service;

use super::reply::Fault;
use super::unread;
use crate::metrics::{HttpMethod, Metrics};
use crate::serving::{REQUEST_ID, Server};

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// Handles requests with a router.
#[derive(Clone)]
pub struct Handler {
    router: Router,
    server: Arc<Server>,
}

/// The handler of one listener.
pub fn handler(router: Router<Arc<Server>>, server: Arc<Server>) -> Handler {
    let router = router.with_state(Arc::clone(&server));
    Handler { router, server }
}

impl Handler {
    /// Answers one request; never fails.
    pub async fn handle(self, request: Request<Incoming>) -> Response<Body> {
        let begun = Instant::now();
        let method = HttpMethod::of_path(request.uri().path());
        let id = self.server.request_ids.of(request.headers());
        let log = tracing::enabled!(tracing::Level::DEBUG).then(|| LogLine::of(&request));
        let mut router = self.router;
        let (request, rest) = unread::guard(request);
        let mut guard = Counted { metrics: &self.server.metrics, method, begun, code: 499 };
        let mut response = match router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        guard.code = response.status().as_u16();
        drop(guard);
        if let Some(line) = log {
            line.write(&id, response.status().as_u16(), begun);
        }
        if let Some(Fault(problem)) = response.extensions().get() {
            let request_id = id.to_str().unwrap_or("?");
            tracing::error!(request_id, problem, "request failed");
        }
        response.headers_mut().insert(REQUEST_ID, id);
        rest.discard(&mut response, &self.server.limits).await;
        response
    }
}

/// Counts the request even if its future is dropped because the client went away.
struct Counted<'m> {
    metrics: &'m Metrics,
    method: HttpMethod,
    begun: Instant,
    code: u16,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.http(self.method, self.code, self.begun.elapsed());
    }
}

struct LogLine {
    method: String,
    path: String,
    trace_parent: String,
}

impl LogLine {
    fn of(request: &Request<Incoming>) -> LogLine {
        let header = request.headers().get(TRACE_PARENT);
        LogLine {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            trace_parent: header.and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned(),
        }
    }

    fn write(&self, id: &HeaderValue, status: u16, begun: Instant) {
        tracing::debug!(
            request_id = id.to_str().unwrap_or("?"),
            traceparent = self.trace_parent,
            method = self.method,
            path = self.path,
            status,
            micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            "request"
        );
    }
}
