//! Accepting connections and serving HTTP on them until told to stop.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::serving::Limits;

/// How long a connection may stand idle, or take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// The largest head of a request in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;

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

/// Serves connections until `stop` turns true; then lets those open finish the request they have.
/// Returns when the last one has ended.
pub async fn serve_connections<F, R>(
    listener: TcpListener,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
    handle: F,
) where
    F: Fn(hyper::Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = hyper::Response<Body>> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(limits.max_connections));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = turned_true(&mut stop) => break,
        };
        let Some((stream, permit)) = accepted else { break };
        tokio::spawn(serve_connection(stream, permit, stop.clone(), handle.clone()));
    }
    drop(listener);
    let all = u32::try_from(limits.max_connections).unwrap_or(u32::MAX);
    drop(connections.acquire_many(all).await);
}

/// Waits until the value is true, or nobody is left to make it so.
pub(crate) async fn turned_true(stop: &mut watch::Receiver<bool>) {
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
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve_connection<F, R>(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    mut stop: watch::Receiver<bool>,
    handle: F,
) where
    F: Fn(hyper::Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = hyper::Response<Body>> + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES.max(512 << 10));
    builder.http2().timer(TokioTimer::new());
    let service = hyper::service::service_fn(move |request| {
        let reply = handle(request);
        async move { Ok::<_, Infallible>(reply.await) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = turned_true(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "connection ended");
    }
    drop(permit);
}
