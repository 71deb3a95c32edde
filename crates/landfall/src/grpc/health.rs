//! `grpc.health.v1.Health`. The empty service is the server; a model's name is its readiness.

use std::sync::Arc;
use std::time::Duration;

use landfall_predict::VersionChoice;
use landfall_protocol::health::health_check_response::ServingStatus;
use landfall_protocol::health::health_server::Health;
use landfall_protocol::health::{HealthCheckRequest, HealthCheckResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::serving::{Phase, Server};

/// Time between looks at a model's readiness for those who watch it.
const LOOK: Duration = Duration::from_millis(500);
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

    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (changes, stream) = mpsc::channel(1);
        tokio::spawn(report(Arc::clone(&self.0), request.into_inner().service, changes));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Reports a status and every change of it, until the server stops or nobody listens.
async fn report(
    server: Arc<Server>,
    service: String,
    changes: mpsc::Sender<Result<HealthCheckResponse, Status>>,
) {
    let mut phase = server.health.watch();
    let mut reported = None;
    loop {
        let stopping = *phase.borrow_and_update() == Phase::Stopping;
        let found = status(&server, &service).unwrap_or(ServingStatus::ServiceUnknown);
        if reported != Some(found) && changes.send(Ok(response(found))).await.is_err() {
            return;
        }
        reported = Some(found);
        if stopping {
            return;
        }
        tokio::select! {
            _ = phase.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
            () = changes.closed() => return,
        }
    }
}
