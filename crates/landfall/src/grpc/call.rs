//! What the log says of a call: the same as of a request over HTTP.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::{HeaderValue, Request, Response};
use tonic::{Code, Status};

use crate::serving::{REQUEST_ID, Server, given_id};

const TRACE_PARENT: &str = "traceparent";

/// One call, from its head to the head of its reply.
///
/// An id that is new with every reply costs HTTP/2's header compression more than all of this, so
/// a reply has one only if somebody looks for it: the caller who gave it, or whoever reads an error
/// or the lines about requests.
pub(super) struct Call {
    server: Arc<Server>,
    given: Option<HeaderValue>,
    made: OnceLock<HeaderValue>,
    /// Only if lines about requests are written.
    line: Option<Line>,
}

struct Line {
    begun: Instant,
    method: String,
    trace_parent: String,
    model: OnceLock<String>,
}

impl Call {
    /// Begins a call. The methods find it with [`Call::of`].
    pub(super) fn begin<B>(request: &mut Request<B>, server: &Arc<Server>) -> Arc<Call> {
        let line = tracing::enabled!(tracing::Level::DEBUG).then(|| {
            let trace_parent = request.headers().get(TRACE_PARENT);
            Line {
                begun: Instant::now(),
                method: request.uri().path().trim_start_matches('/').to_owned(),
                trace_parent: trace_parent.and_then(|v| v.to_str().ok()).unwrap_or("").to_owned(),
                model: OnceLock::new(),
            }
        });
        let (server, given) = (Arc::clone(server), given_id(request.headers()));
        let call = Arc::new(Call { server, given, made: OnceLock::new(), line });
        request.extensions_mut().insert(Arc::clone(&call));
        call
    }

    /// The call that a request belongs to.
    pub(super) fn of<T>(request: &tonic::Request<T>, server: &Arc<Server>) -> Arc<Call> {
        request.extensions().get().cloned().unwrap_or_else(|| {
            let (server, made) = (Arc::clone(server), OnceLock::new());
            Arc::new(Call { server, given: None, made, line: None })
        })
    }

    /// Takes note of the model that the call is about.
    pub(super) fn note_model(&self, model: &str) {
        if let Some(line) = &self.line {
            line.model.get_or_init(|| model.to_owned());
        }
    }

    /// Ends the call with the head of its reply, which gets its id if somebody looks for it.
    pub(super) fn end<B>(&self, response: &mut Response<B>) {
        let is_error = response.headers().get("grpc-status").is_some_and(|code| code != "0");
        if self.given.is_some() || self.line.is_some() || is_error {
            response.headers_mut().insert(REQUEST_ID, self.id().clone());
        }
        if let Some(line) = &self.line {
            let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |s| s.code());
            let model = line.model.get().map_or("", String::as_str);
            self.write(line, model, "", code, line.begun);
        }
    }

    /// One of a stream's requests has ended.
    pub(super) fn end_message(&self, model: &str, message: &str, code: Code, begun: Instant) {
        if let Some(line) = &self.line {
            self.write(line, model, message, code, begun);
        }
    }

    fn write(&self, line: &Line, model: &str, message: &str, code: Code, begun: Instant) {
        tracing::debug!(
            request_id = self.id_text(),
            message_id = (!message.is_empty()).then_some(message),
            traceparent = line.trace_parent,
            method = line.method,
            model,
            status = ?code,
            micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            "request"
        );
    }

    /// Logs a failure that is the server's fault.
    pub(super) fn note_fault(&self, status: &Status) {
        if status.code() == Code::Internal {
            tracing::error!(
                request_id = self.id_text(),
                problem = status.message(),
                "request failed"
            );
        }
    }

    fn id(&self) -> &HeaderValue {
        self.given
            .as_ref()
            .unwrap_or_else(|| self.made.get_or_init(|| self.server.request_ids.next()))
    }

    fn id_text(&self) -> &str {
        self.id().to_str().unwrap_or("?")
    }
}
