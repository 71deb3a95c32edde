//! The time that a caller gives its call, in the header `grpc-timeout`.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, Response};
use tonic::Status;
use tonic::metadata::MetadataMap;

const HEADER: &str = "grpc-timeout";

/// The time that a call may take, if its caller says: at most eight digits and a unit ("gRPC over
/// HTTP2", section Requests). Anything else is ignored.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    read(headers.get(HEADER)?.to_str().ok()?)
}

/// The same of a call's metadata.
pub(super) fn of_metadata(metadata: &MetadataMap) -> Option<Duration> {
    read(metadata.get(HEADER)?.to_str().ok()?)
}

fn read(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Waits for the beginning of a reply no longer than the caller does. Dropping the call takes its
/// request out of the queue.
pub(super) async fn within(
    limit: Option<Duration>,
    call: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Response<Body> {
    let unbounded = async {
        match call.await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    };
    let Some(limit) = limit else { return unbounded.await };
    let in_time = tokio::time::timeout(limit, unbounded).await;
    in_time.unwrap_or_else(|_| exceeded(limit).into_http())
}

/// The status of a call that took longer than its caller gave it.
pub(super) fn exceeded(limit: Duration) -> Status {
    Status::deadline_exceeded(format!("the call did not end within its caller's {limit:?}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn every_unit_is_read_and_nonsense_is_not() {
        let read = |text: &str| {
            let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            timeout(&HeaderMap::from_iter([(http::HeaderName::from_static(HEADER), value)]))
        };
        let cases = [("2H", 7_200_000), ("3M", 180_000), ("4S", 4_000), ("5m", 5)];
        for (text, millis) in cases {
            assert_eq!(read(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(read("6u"), Some(Duration::from_micros(6)));
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for text in ["", "S", "5", "-1S", "+1S", "1s", "123456789S", "1 S", "\u{e9}"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }
}
