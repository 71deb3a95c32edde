//! A connection's socket, which gives up on peers that stand still.
//!
//! hyper bounds the time of a request's head, but only once it knows which version of HTTP the peer
//! speaks, and it waits without end for a peer that does not read its reply. A client that opens
//! connections and does neither would hold all of them. So the socket itself ends a connection
//! whose first bytes do not tell the version in time, or that takes nothing for as long.
//!
//! It also closes in a way that lets the peer read the last reply. A system that is asked to close
//! a socket with unread bytes tells the peer to forget what it has not read yet (RFC 9112 section
//! 9.6). So a socket whose peer may still be sending closes its own side only, and reads on.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::Limits;

/// What an HTTP/2 connection opens with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a peer may pause that still sends when its connection is closed.
const CLOSING_PAUSE: Duration = Duration::from_secs(5);
/// The most that is read of such a peer: the rest of a body, or of what is no request at all.
const CLOSING_BODY_BYTES: usize = 256 << 20;
const CLOSING_BYTES: usize = 4 << 20;

/// A socket with deadlines.
pub(super) struct Socket {
    stream: TcpStream,
    limit: Duration,
    closing_limit: Duration,
    opening: Option<Opening>,
    stalled: Option<Pin<Box<Sleep>>>,
    closing: Option<Closing>,
    written: Arc<AtomicU64>,
    is_sending: Arc<AtomicBool>,
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

/// This side is closed, and what the peer still sends is thrown away.
struct Closing {
    room: usize,
    end: Instant,
    deadline: Pin<Box<Sleep>>,
}

impl Closing {
    fn new(limit: Duration, is_sending: bool) -> Closing {
        let room = if is_sending { CLOSING_BODY_BYTES } else { CLOSING_BYTES };
        let deadline = Box::pin(sleep(limit.min(CLOSING_PAUSE)));
        Closing { room, end: Instant::now() + limit, deadline }
    }

    /// Ready once the peer has closed too or has used up its time or bytes.
    fn poll(
        &mut self,
        stream: &mut TcpStream,
        is_sending: &AtomicBool,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let mut bytes = [0; 16 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = Pin::new(&mut *stream).poll_read(context, &mut buffer);
            let count = buffer.filled().len();
            match read {
                Poll::Pending if is_sending.load(Ordering::Relaxed) => {
                    return self.deadline.as_mut().poll(context);
                }
                Poll::Ready(Ok(())) if count > 0 && count <= self.room => {
                    is_sending.store(true, Ordering::Relaxed);
                    self.room -= count;
                    self.deadline.as_mut().reset(self.end.min(Instant::now() + CLOSING_PAUSE));
                }
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl Socket {
    /// Waits for no step of the peer longer than the limits say.
    pub(super) fn new(stream: TcpStream, limits: &Limits) -> Socket {
        let limit = limits.idle_timeout;
        let opening = Opening { received: 0, deadline: Box::pin(sleep(limit)) };
        Socket {
            stream,
            limit,
            closing_limit: limits.read_timeout,
            opening: Some(opening),
            stalled: None,
            closing: None,
            written: Arc::default(),
            is_sending: Arc::default(),
        }
    }

    /// To be set when the peer gets its last reply while it may still be sending.
    pub(super) fn is_sending(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_sending)
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
        let this = &mut *self;
        let closing = match &mut this.closing {
            Some(closing) => closing,
            None => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                let is_sending = this.is_sending.load(Ordering::Relaxed);
                this.closing.insert(Closing::new(this.closing_limit, is_sending))
            }
        };
        closing.poll(&mut this.stream, &this.is_sending, context).map(Ok)
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
