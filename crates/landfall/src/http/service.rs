//! What happens around every HTTP request: ids, counters, log lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use tower_service::Service;

use super::reply::Fault;
use super::unread;
use crate::metrics::{HttpMethod, Metrics};
use crate::serving::Server;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const MAX_ID_BYTES: usize = 128;

/// Handles requests with a router.
#[derive(Clone)]
pub struct Handler {
    router: Router,
    server: Arc<Server>,
    ids: Arc<RequestIds>,
}

/// The handler of one listener.
pub fn handler(router: Router<Arc<Server>>, server: Arc<Server>) -> Handler {
    let router = router.with_state(Arc::clone(&server));
    Handler { router, server, ids: Arc::new(RequestIds::new()) }
}

impl Handler {
    /// Answers one request; never fails.
    pub async fn handle(self, request: Request<Incoming>) -> Response<Body> {
        let begun = Instant::now();
        let method = HttpMethod::of_path(request.uri().path());
        let id = given_id(request.headers()).unwrap_or_else(|| self.ids.next());
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

/// The caller's own id, if it is short and printable.
fn given_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(REQUEST_ID)?;
    let fits = id.len() <= MAX_ID_BYTES && id.as_bytes().iter().all(u8::is_ascii_graphic);
    (fits && !id.is_empty()).then(|| id.clone())
}

/// Ids for requests that have none: unique within this process, and very likely beyond.
struct RequestIds {
    process: u64,
    count: AtomicU64,
}

impl RequestIds {
    fn new() -> RequestIds {
        let process = crate::clock::epoch_ms() << 16 ^ u64::from(std::process::id());
        RequestIds { process, count: AtomicU64::new(0) }
    }

    fn next(&self) -> HeaderValue {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let text = format!("{:x}-{count:x}", self.process);
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("-"))
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
