//! Flights as live traffic over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::flights::Flights;
use crate::commands::bench::Latency;

/// Bytes that a reply may have.
const MAX_REPLY_BYTES: usize = 1 << 20;

/// How fast requests are sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Time from one request to the next.
    pub(super) interval: Duration,
    /// How long requests are sent.
    pub(super) duration: Duration,
    /// Requests in flight at one time.
    pub(super) connections: usize,
}

impl Pace {
    /// Requests that there is time for.
    pub(super) fn requests(&self) -> usize {
        (self.duration.as_secs_f64() / self.interval.as_secs_f64()).round().max(1.0) as usize
    }
}

/// What came back.
pub(super) struct Replayed {
    /// Of the first flights, in their order.
    pub(super) probabilities: Vec<f64>,
    /// From the first request to the last reply.
    pub(super) elapsed: Duration,
    /// From sending a request to having its reply.
    pub(super) latency: Latency,
}

/// Sends the flights in order, each when it is due, or as soon as a connection is free.
pub(super) async fn run(server: SocketAddr, flights: &Flights, pace: Pace) -> Result<Replayed> {
    let count = flights.len().min(pace.requests());
    let bodies = (0..count).map(|flight| Ok(Bytes::from(flights.request(flight)?)));
    let bodies: Arc<[Bytes]> = bodies.collect::<Result<_>>()?;
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut connections = JoinSet::new();
    for _ in 0..pace.connections {
        let (bodies, next) = (Arc::clone(&bodies), Arc::clone(&next));
        connections.spawn(send_all(server, bodies, next, begun, pace.interval));
    }
    let mut answers = Vec::with_capacity(count);
    while let Some(connection) = connections.join_next().await {
        answers.extend(connection.context("a connection's task died")??);
    }
    let elapsed = begun.elapsed();
    answers.sort_by_key(|answer| answer.flight);
    ensure!(answers.len() == count, "{count} requests got {} replies", answers.len());
    Ok(Replayed {
        probabilities: answers.iter().map(|answer| answer.probability).collect(),
        elapsed,
        latency: Latency::of(answers.iter().map(|answer| answer.took).collect()),
    })
}

struct Answer {
    flight: usize,
    probability: f64,
    took: Duration,
}

async fn send_all(
    server: SocketAddr,
    bodies: Arc<[Bytes]>,
    next: Arc<AtomicUsize>,
    begun: Instant,
    interval: Duration,
) -> Result<Vec<Answer>> {
    let stream = TcpStream::connect(server).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut answers = Vec::new();
    loop {
        let flight = next.fetch_add(1, Ordering::Relaxed);
        let Some(body) = bodies.get(flight) else { break };
        let due = begun + interval.saturating_mul(u32::try_from(flight).unwrap_or(u32::MAX));
        tokio::time::sleep_until(due.into()).await;
        let sent = Instant::now();
        let reply = predict(&mut sender, server, body.clone()).await?;
        let took = sent.elapsed();
        answers.push(Answer { flight, probability: probability(&reply)?, took });
    }
    drop(sender);
    let _ = connection.await;
    Ok(answers)
}

async fn predict(
    sender: &mut SendRequest<Full<Bytes>>,
    server: SocketAddr,
    body: Bytes,
) -> Result<Bytes> {
    let request = http::Request::post("/v2/models/flights/infer")
        .header(HOST, server.to_string())
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_REPLY_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("reading a reply: {error}"))?.to_bytes();
    if !status.is_success() {
        bail!("the server answered {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}

fn probability(reply: &[u8]) -> Result<f64> {
    let reply: serde_json::Value = serde_json::from_slice(reply)?;
    let found = reply.pointer("/outputs/0/data/0").and_then(serde_json::Value::as_f64);
    found.with_context(|| format!("a reply without a probability: {reply}"))
}
