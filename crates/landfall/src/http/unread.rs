//! What a handler leaves unread of a request's body.
//!
//! Many refusals follow from the head alone, and hyper closes the connection of a request whose
//! body nobody read. The client, still sending, then meets a reset that throws away the reply, or
//! finds its kept connection closed at the next request. So the rest is read and thrown away before
//! the reply goes out. Where that would take too much or too long, the reply says that the
//! connection closes, and the socket then waits for the client to read it (`serving/socket.rs`).
//!
//! HTTP/2 ends one stream without its connection, so all of this is for HTTP/1 alone.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;

use crate::serving::Limits;

/// A request's body, which comes back to its [`Rest`] if it is dropped before its end.
pub(super) struct GuardedBody {
    body: Option<Incoming>,
    is_begun: bool,
    rest: Option<oneshot::Sender<Left>>,
}

/// A body that was dropped before its end.
struct Left {
    body: Incoming,
    is_begun: bool,
}

/// What a handler leaves of one request's body.
pub(super) struct Rest {
    left: Option<oneshot::Receiver<Left>>,
    /// The client sends the body only once it is told to (RFC 9110 section 10.1.1).
    waits: bool,
}

/// The request for a handler, and what that will leave of it.
pub(super) fn guard(request: Request<Incoming>) -> (Request<GuardedBody>, Rest) {
    let (mut rest, mut left) = (None, None);
    if request.version() < Version::HTTP_2 && !request.body().is_end_stream() {
        let (sender, receiver) = oneshot::channel();
        (rest, left) = (Some(sender), Some(receiver));
    }
    let waits = request.headers().contains_key(header::EXPECT);
    let request = request.map(|body| GuardedBody { body: Some(body), is_begun: false, rest });
    (request, Rest { left, waits })
}

impl Rest {
    /// Makes sure that the client can read `response`: reads what is left of the body within the
    /// limits of any body, or else lets the response close the connection.
    pub(super) async fn discard<B>(self, response: &mut Response<B>, limits: &Limits) {
        let left = self.left.and_then(|mut left| left.try_recv().ok());
        let Some(left) = left else { return };
        let is_late = response.status() == StatusCode::REQUEST_TIMEOUT;
        let is_held_back = self.waits && !left.is_begun;
        let keeps = !is_late && !is_held_back && {
            let end = read_to_end(left.body, limits.max_body_bytes as u64);
            tokio::time::timeout(limits.read_timeout, end).await.unwrap_or(false)
        };
        if !keeps {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Whether the body ended within `limit` bytes. One that says that it is longer is not read at all.
async fn read_to_end(mut body: Incoming, limit: u64) -> bool {
    let mut room = limit;
    while body.size_hint().lower() <= room {
        let length = match body.frame().await {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
        };
        let Some(less) = room.checked_sub(length as u64) else { return false };
        room = less;
    }
    false
}

impl Body for GuardedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.is_begun = true;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for GuardedBody {
    fn drop(&mut self) {
        let is_begun = self.is_begun;
        let body = self.body.take().filter(|body| !body.is_end_stream());
        if let (Some(rest), Some(body)) = (self.rest.take(), body) {
            // The request itself is gone if nobody waits for what it leaves.
            drop(rest.send(Left { body, is_begun }));
        }
    }
}
