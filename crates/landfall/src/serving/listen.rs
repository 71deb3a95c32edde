//! Accepting connections and serving HTTP on them until told to stop.
//!
//! All three listeners run this one loop, gRPC's too. tonic's own loop spins, at the price of a
//! core, while there are no file descriptors, bounds neither the number of connections nor the time
//! to their first byte, and waits for idle peers at shutdown.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::socket::Socket;
use super::workers::Workers;
use crate::serving::Limits;

/// What HTTP/1 may buffer of a request, and so the largest head in bytes.
const MAX_HEAD_BYTES: usize = 512 << 10;
/// Requests that one HTTP/2 connection may have open at a time.
const MAX_STREAMS: u32 = 1024;
/// How often an idle HTTP/2 connection is asked whether it still lives.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// What the peer may send ahead of its reader on one stream, and on one connection.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// While stopping: how long a connection without a request may take nothing before it is closed.
const LINGER: Duration = Duration::from_secs(1);

/// The three bound sockets. Binding comes before loading, so that a port in use fails at once.
pub struct Listeners {
    /// Open Inference Protocol and its HTTP relatives.
    pub http: TcpListener,
    /// gRPC.
    pub grpc: TcpListener,
    /// Status page, metrics and control.
    pub admin: TcpListener,
}

impl Listeners {
    /// Binds all three; the error names the address that failed.
    pub async fn bind(
        http: SocketAddr,
        grpc: SocketAddr,
        admin: SocketAddr,
    ) -> io::Result<Listeners> {
        Ok(Listeners {
            http: bind("HTTP", http).await?,
            grpc: bind("gRPC", grpc).await?,
            admin: bind("admin", admin).await?,
        })
    }
}

async fn bind(what: &str, address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        let message = format!("cannot listen on {address} for {what}: {e}");
        io::Error::new(e.kind(), message)
    })
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/2, as the client likes.
    Http,
    /// HTTP/2 alone.
    Grpc,
}

fn builder(protocol: Protocol, limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    match protocol {
        Protocol::Http => builder,
        Protocol::Grpc => builder.http2_only(),
    }
}

/// Serves connections until `stop` turns true; then lets those open finish the requests they have.
/// Returns when the last one has ended.
pub async fn serve_connections<F, R>(
    listener: TcpListener,
    protocol: Protocol,
    limits: Limits,
    workers: Arc<Workers>,
    mut stop: watch::Receiver<bool>,
    handle: F,
) where
    F: Fn(hyper::Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = hyper::Response<Body>> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(limits.max_connections));
    let builder = builder(protocol, &limits);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = turned_true(&mut stop) => break,
        };
        let Some((stream, permit)) = accepted else { break };
        let (builder, stop, handle) = (builder.clone(), stop.clone(), handle.clone());
        workers.spawn(stream, move |stream| async move {
            let socket = Socket::new(stream, &limits);
            serve_connection(socket, builder, stop, handle).await;
            drop(permit);
        });
    }
    drop(listener);
    let all = u32::try_from(limits.max_connections).unwrap_or(u32::MAX);
    drop(connections.acquire_many(all).await);
}

/// Waits until the value is true, or nobody is left to make it so.
async fn turned_true(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                return Some((stream, permit));
            }
            // Out of descriptors, most likely: the ones in use will come free.
            Err(error) => {
                let listener = listener.local_addr().ok().map(|address| address.to_string());
                tracing::warn!(%error, listener, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve_connection<F, R>(
    socket: Socket,
    builder: auto::Builder<TokioExecutor>,
    mut stop: watch::Receiver<bool>,
    handle: F,
) where
    F: Fn(hyper::Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = hyper::Response<Body>> + Send + 'static,
{
    let activity = Activity { written: socket.written(), open: Arc::default() };
    let open = Arc::clone(&activity.open);
    let is_sending = socket.is_sending();
    let service = hyper::service::service_fn(move |request| {
        let (open, is_sending) = (Open::new(&open), Arc::clone(&is_sending));
        let reply = handle(request);
        async move {
            let reply = reply.await;
            // A handler says so when it has not read the whole request.
            if reply.headers().get(header::CONNECTION).is_some_and(|value| value == "close") {
                is_sending.store(true, Ordering::Relaxed);
            }
            Ok::<_, Infallible>(reply.map(|body| Counted { body, _open: open }))
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = turned_true(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = activity.end() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "connection ended");
    }
}

/// What happens on one connection.
struct Activity {
    written: Arc<AtomicU64>,
    /// Requests whose reply is not handed to the connection yet.
    open: Arc<AtomicUsize>,
}

impl Activity {
    /// Returns when no request is open and the peer has taken nothing for a while: what is left
    /// then is a peer that sends half a head, or does not say that it is done.
    async fn end(&self) {
        let mut written = self.written.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(LINGER).await;
            let now = self.written.load(Ordering::Relaxed);
            if self.open.load(Ordering::Relaxed) == 0 && now == written {
                return;
            }
            written = now;
        }
    }
}

/// Counts one open request.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Open {
        count.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A reply's body, whose request is open until it is handed over or dropped.
struct Counted {
    body: Body,
    _open: Open,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
