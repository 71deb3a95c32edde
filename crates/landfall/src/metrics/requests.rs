//! Requests by protocol, method and code. Labels come from fixed lists, so that no caller can make
//! series without end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Histogram;

/// What an HTTP request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpMethod {
    /// `/v2/.../infer`.
    Infer,
    /// `/v1/models/...:predict`.
    Predict,
    /// `/invocations`.
    Invocations,
    /// `/v1/embeddings`.
    Embeddings,
    /// Health and readiness.
    Health,
    /// Loading, unloading, index.
    Repository,
    /// Everything else.
    Other,
}

impl HttpMethod {
    /// Every method.
    pub const ALL: [HttpMethod; 7] = [
        HttpMethod::Infer,
        HttpMethod::Predict,
        HttpMethod::Invocations,
        HttpMethod::Embeddings,
        HttpMethod::Health,
        HttpMethod::Repository,
        HttpMethod::Other,
    ];

    /// The method that a path stands for.
    pub fn of_path(path: &str) -> HttpMethod {
        match path {
            _ if path.ends_with("/infer") => HttpMethod::Infer,
            _ if path.ends_with(":predict") => HttpMethod::Predict,
            "/invocations" => HttpMethod::Invocations,
            "/v1/embeddings" => HttpMethod::Embeddings,
            "/ping" => HttpMethod::Health,
            _ if path.starts_with("/v2/health/") || path.ends_with("/ready") => HttpMethod::Health,
            _ if path.starts_with("/v2/repository/") => HttpMethod::Repository,
            _ => HttpMethod::Other,
        }
    }

    /// The label.
    pub fn name(self) -> &'static str {
        match self {
            HttpMethod::Infer => "infer",
            HttpMethod::Predict => "predict",
            HttpMethod::Invocations => "invocations",
            HttpMethod::Embeddings => "embeddings",
            HttpMethod::Health => "health",
            HttpMethod::Repository => "repository",
            HttpMethod::Other => "other",
        }
    }
}

/// What a gRPC call was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpcMethod {
    /// `ModelInfer`.
    Infer,
    /// One request of a `ModelStreamInfer`.
    StreamInfer,
    /// Everything else.
    Other,
}

impl GrpcMethod {
    /// Every method.
    pub const ALL: [GrpcMethod; 3] =
        [GrpcMethod::Infer, GrpcMethod::StreamInfer, GrpcMethod::Other];

    /// The label.
    pub fn name(self) -> &'static str {
        match self {
            GrpcMethod::Infer => "infer",
            GrpcMethod::StreamInfer => "stream_infer",
            GrpcMethod::Other => "other",
        }
    }
}

/// The HTTP statuses that this server sends; others are counted under the last.
pub(super) const HTTP_CODES: [u16; 14] =
    [200, 400, 403, 404, 405, 408, 413, 415, 499, 500, 501, 503, 504, 0];
/// gRPC has the codes 0 to 16.
pub(super) const GRPC_CODES: usize = 17;

#[derive(Debug, Default)]
pub(super) struct Series<const CODES: usize> {
    pub(super) codes: Codes<CODES>,
    pub(super) seconds: Histogram,
}

#[derive(Debug)]
pub(super) struct Codes<const CODES: usize>(pub(super) [AtomicU64; CODES]);

impl<const CODES: usize> Default for Codes<CODES> {
    fn default() -> Self {
        Codes(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// Counters of all requests since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(super) http: [Series<{ HTTP_CODES.len() }>; HttpMethod::ALL.len()],
    pub(super) grpc: [Series<GRPC_CODES>; GrpcMethod::ALL.len()],
}

impl Metrics {
    /// Counts one HTTP request. 499 stands for a client that went away before its reply.
    pub fn http(&self, method: HttpMethod, code: u16, duration: Duration) {
        let series = &self.http[method as usize];
        let last = HTTP_CODES.len() - 1;
        let slot = HTTP_CODES.iter().position(|&known| known == code).unwrap_or(last);
        series.codes.0[slot].fetch_add(1, Ordering::Relaxed);
        series.seconds.observe(duration);
    }

    /// Counts one gRPC call by its status code.
    pub fn grpc(&self, method: GrpcMethod, code: tonic::Code, duration: Duration) {
        let series = &self.grpc[method as usize];
        let slot = usize::try_from(i32::from(code)).unwrap_or(2).min(GRPC_CODES - 1);
        series.codes.0[slot].fetch_add(1, Ordering::Relaxed);
        series.seconds.observe(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_follow_the_lists() {
        for (i, method) in HttpMethod::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, i);
        }
        for (i, method) in GrpcMethod::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, i);
        }
        assert_eq!(HttpMethod::of_path("/v2/models/m/versions/1/infer"), HttpMethod::Infer);
        assert_eq!(HttpMethod::of_path("/v1/models/m/labels/a:predict"), HttpMethod::Predict);
    }
}
