//! Ids of requests, by which callers find them in the log.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

/// Where a request and its reply carry the id; in gRPC, the metadata of that name.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_ID_BYTES: usize = 128;

/// Ids for requests that have none: unique within this process, and very likely beyond. All
/// listeners share one of these.
pub struct RequestIds {
    process: u64,
    count: AtomicU64,
}

impl RequestIds {
    /// Ids of the process `pid` that started at that time.
    pub fn new(epoch_ms: u64, pid: u32) -> RequestIds {
        RequestIds { process: epoch_ms << 16 ^ u64::from(pid), count: AtomicU64::new(0) }
    }

    /// The caller's own id if it is short and printable, or else a new one.
    pub fn of(&self, headers: &HeaderMap) -> HeaderValue {
        given_id(headers).unwrap_or_else(|| self.next())
    }

    /// A new one.
    pub fn next(&self) -> HeaderValue {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let text = format!("{:x}-{count:x}", self.process);
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("-"))
    }
}

/// The caller's own id if it is short and printable.
pub fn given_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(REQUEST_ID)?;
    let fits = id.len() <= MAX_ID_BYTES && id.as_bytes().iter().all(u8::is_ascii_graphic);
    (fits && !id.is_empty()).then(|| id.clone())
}
