//! The gRPC listener: `inference.GRPCInferenceService` and `grpc.health.v1.Health`.

mod health;
mod inference;
mod service;
mod status;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use landfall_protocol::health::health_server::HealthServer;
use landfall_protocol::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;

use crate::serving::{Server, turned_true};

/// Requests that one connection may have open at a time.
const MAX_STREAMS: u32 = 1024;
/// How often an idle connection is asked whether it still lives.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Serves until `stopped` turns true, then finishes the calls in flight.
pub async fn serve(listener: TcpListener, server: Arc<Server>, mut stopped: watch::Receiver<bool>) {
    let limit = server.limits.max_body_bytes;
    let inference = GrpcInferenceServiceServer::new(service::Inference::new(Arc::clone(&server)))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(usize::MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let health = HealthServer::new(health::Checks::new(server));
    let served = tonic::transport::Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .add_service(inference)
        .add_service(health)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            async move { turned_true(&mut stopped).await },
        )
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the gRPC listener failed");
    }
}
