//! Bodies of calls, which must arrive in time unless the call is a stream.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;

/// A body, and when it must have arrived.
pub(super) struct TimedBody {
    body: Incoming,
    limit: Duration,
    /// `None` for a stream, whose sender may think between messages.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    /// The body of a call to `path`, whole within `limit` unless it is a stream.
    pub(super) fn new(body: Incoming, path: &str, limit: Duration) -> TimedBody {
        let is_stream = path.ends_with("/ModelStreamInfer");
        let deadline = (!is_stream).then(|| Box::pin(sleep(limit)));
        TimedBody { body, limit, deadline }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let limit = self.limit;
        match self.deadline.as_mut().map(|deadline| deadline.as_mut().poll(context)) {
            Some(Poll::Ready(())) => {
                let message = format!("the message did not arrive within {limit:?}");
                Poll::Ready(Some(Err(Status::deadline_exceeded(message).into())))
            }
            _ => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
