//! The gRPC listener: `inference.GRPCInferenceService` and `grpc.health.v1.Health`.

mod deadline;
mod health;
mod inference;
mod service;
mod status;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use landfall_protocol::health::health_server::HealthServer;
use landfall_protocol::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tower_service::Service;

use crate::serving::Server;

/// Answers calls.
#[derive(Clone)]
pub struct Handler(Router);

/// The handler of the gRPC listener.
pub fn handler(server: Arc<Server>) -> Handler {
    let limit = server.limits.max_body_bytes;
    let inference = GrpcInferenceServiceServer::new(service::Inference::new(Arc::clone(&server)))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(usize::MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let health = HealthServer::new(health::Checks::new(server));
    Handler(Routes::new(inference).add_service(health).prepare().into_axum_router())
}

impl Handler {
    /// Answers one call; never fails.
    pub async fn handle(mut self, request: Request<Incoming>) -> Response<Body> {
        let limit = deadline::timeout(request.headers());
        deadline::within(limit, self.0.call(request)).await
    }
}
