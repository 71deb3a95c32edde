//! A connection's socket, which gives up on peers that stand still.
//!
//! hyper bounds the time of a request's head, but only once it knows which version of HTTP the peer
//! speaks, and it waits without end for a peer that does not read its reply. A client that opens
//! connections and does neither would hold all of them. So the socket itself ends a connection
//! whose first bytes do not tell the version in time, or that takes nothing for as long.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// What an HTTP/2 connection opens with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A socket with deadlines.
pub(super) struct Socket {
    stream: TcpStream,
    limit: Duration,
    opening: Option<Opening>,
    stalled: Option<Pin<Box<Sleep>>>,
    written: Arc<AtomicU64>,
}

/// The bytes that tell the version of HTTP have not all come yet.
struct Opening {
    received: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Opening {
    /// Whether the version is known once `bytes` have come too.
    fn is_over(&mut self, bytes: &[u8]) -> bool {
        let rest = &PREFACE[self.received..];
        self.received += bytes.len().min(rest.len());
        bytes.len() >= rest.len() || !rest.starts_with(bytes)
    }
}

impl Socket {
    /// Waits for no step of the peer longer than `limit`.
    pub(super) fn new(stream: TcpStream, limit: Duration) -> Socket {
        let opening = Opening { received: 0, deadline: Box::pin(sleep(limit)) };
        Socket { stream, limit, opening: Some(opening), stalled: None, written: Arc::default() }
    }

    /// Bytes that the peer's side has taken so far.
    pub(super) fn written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.written)
    }

    fn note_write(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Pending => {
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.limit)));
                match stalled.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(Err(ErrorKind::TimedOut.into())),
                    Poll::Pending => Poll::Pending,
                }
            }
            ready => {
                self.stalled = None;
                if let Poll::Ready(Ok(count)) = &ready {
                    self.written.fetch_add(*count as u64, Ordering::Relaxed);
                }
                ready
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(opening) = &mut self.opening else { return result };
        match result {
            Poll::Pending => match opening.deadline.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Err(ErrorKind::TimedOut.into())),
                Poll::Pending => Poll::Pending,
            },
            ready => {
                if opening.is_over(&buffer.filled()[before..]) {
                    self.opening = None;
                }
                ready
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_write(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_write(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_version_is_known_at_the_first_byte_that_is_not_the_prefaces() {
        let over = |parts: &[&[u8]]| {
            let mut opening = Opening { received: 0, deadline: Box::pin(sleep(Duration::ZERO)) };
            parts.iter().map(|part| opening.is_over(part)).collect::<Vec<_>>()
        };
        assert_eq!(over(&[b"GET / HTTP/1.1"]), [true]);
        assert_eq!(over(&[b"P", b"OST /"]), [false, true]);
        assert_eq!(over(&[b"PRI * HTTP/2.0", b"\r\n\r\nSM\r\n", b"\r\n"]), [false, false, true]);
        assert_eq!(over(&[PREFACE]), [true]);
        assert_eq!(over(&[&[PREFACE, b"more"].concat()]), [true]);
    }
}
