//! `ModelInfer`: from message to message.

use std::sync::Arc;
use std::time::Instant;

use landfall_protocol::inference::{ModelInferRequest, ModelInferResponse};
use landfall_protocol::oip::{decode_grpc, encode_grpc};
use tonic::{Code, Status};

use super::call::Call;
use super::status::{of_decoding, of_prediction};
use crate::metrics::{GrpcMethod, Metrics};
use crate::serving::{Choice, Server, infer as run};

/// Predicts. Dropping the future takes the request out of the queue.
pub(super) async fn infer(
    server: &Arc<Server>,
    call: &Call,
    method: GrpcMethod,
    message: ModelInferRequest,
    key: Option<String>,
) -> Result<ModelInferResponse, Status> {
    let mut counted =
        Counted { metrics: &server.metrics, method, code: Code::Cancelled, begun: Instant::now() };
    let result = infer_uncounted(server, message, key).await;
    if let Err(status) = &result {
        call.note_fault(status);
    }
    counted.code = result.as_ref().err().map_or(Code::Ok, Status::code);
    result
}

async fn infer_uncounted(
    server: &Arc<Server>,
    message: ModelInferRequest,
    key: Option<String>,
) -> Result<ModelInferResponse, Status> {
    let choice = Choice::of_version(&message.model_version).map_err(of_prediction)?;
    let model = message.model_name.clone();
    let servable = server.catalog.lookup(&model, choice.as_ref()).map_err(of_prediction)?;
    let request = decode_grpc(message, servable.signature()).map_err(of_decoding)?;
    let outcome = run(&server.catalog, &model, &choice, servable, request, key)
        .await
        .map_err(of_prediction)?;
    let reply = outcome.reply;
    Ok(encode_grpc(outcome.request.id, &reply.model_name, reply.model_version, &reply.outputs))
}

/// Counts a call, also one whose future is dropped because its client gave up.
pub(super) struct Counted<'m> {
    pub(super) metrics: &'m Metrics,
    pub(super) method: GrpcMethod,
    pub(super) code: Code,
    pub(super) begun: Instant,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.grpc(self.method, self.code, self.begun.elapsed());
    }
}
