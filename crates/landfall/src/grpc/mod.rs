//! The gRPC listener: `inference.GRPCInferenceService` and `grpc.health.v1.Health`.

mod body;
mod call;
mod deadline;
mod health;
mod inference;
mod service;
mod status;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use landfall_protocol::health::health_server::HealthServer;
use landfall_protocol::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tower_service::Service;

use body::TimedBody;
use call::Call;

use crate::serving::{Limits, Server};

/// Answers calls.
#[derive(Clone)]
pub struct Handler {
    router: Router,
    server: Arc<Server>,
    read_timeout: Duration,
}

/// The handler of the gRPC listener.
pub fn handler(server: Arc<Server>) -> Handler {
    let Limits { max_body_bytes: limit, read_timeout, .. } = server.limits;
    let inference = GrpcInferenceServiceServer::new(service::Inference::new(Arc::clone(&server)))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(usize::MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .send_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Deflate);
    let health = HealthServer::new(health::Checks::new(Arc::clone(&server)));
    let router = Routes::new(inference).add_service(health).prepare().into_axum_router();
    Handler { router, server, read_timeout }
}

impl Handler {
    /// Answers one call; never fails.
    pub async fn handle(mut self, mut request: Request<Incoming>) -> Response<Body> {
        let call = Call::begin(&mut request, &self.server);
        let limit = deadline::timeout(request.headers());
        let (parts, body) = request.into_parts();
        let body = TimedBody::new(body, parts.uri.path(), self.read_timeout);
        let answer = self.router.call(Request::from_parts(parts, body));
        let mut response = deadline::within(limit, answer).await;
        call.end(&mut response);
        response
    }
}
