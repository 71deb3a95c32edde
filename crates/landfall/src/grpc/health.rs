//! `grpc.health.v1.Health`. The empty service is the server; a model's name is its readiness.

use std::pin::Pin;
use std::sync::Arc;

use landfall_predict::VersionChoice;
use landfall_protocol::health::health_check_response::ServingStatus;
use landfall_protocol::health::health_server::Health;
use landfall_protocol::health::{HealthCheckRequest, HealthCheckResponse};
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use crate::serving::Server;

const INFERENCE: &str = "inference.GRPCInferenceService";

pub(super) struct Checks(Arc<Server>);

impl Checks {
    pub(super) fn new(server: Arc<Server>) -> Checks {
        Checks(server)
    }
}

/// `None` for a service that is neither the server nor a model.
fn status(server: &Server, service: &str) -> Option<ServingStatus> {
    let ready = if service.is_empty() || service == INFERENCE {
        server.health.is_ready()
    } else {
        server.catalog.statuses(service)?;
        server.health.is_ready() && server.catalog.lookup(service, VersionChoice::Default).is_ok()
    };
    Some(if ready { ServingStatus::Serving } else { ServingStatus::NotServing })
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for Checks {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        status(&self.0, &service)
            .map(|status| Response::new(response(status)))
            .ok_or_else(|| Status::not_found(format!("unknown service '{service}'")))
    }

    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let server = Arc::clone(&self.0);
        let changes = WatchStream::new(self.0.health.watch()).map(move |_| {
            let status = status(&server, &service).unwrap_or(ServingStatus::ServiceUnknown);
            Ok(response(status))
        });
        Ok(Response::new(Box::pin(changes)))
    }
}
